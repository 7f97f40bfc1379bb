"""The crystals of a source that a stored model can take, and what stands against the others."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raymat.data.composition import SYMBOLS, element_totals
from raymat.data.crystals import CrystalSet
from raymat.data.facts import DataSource
from raymat.data.limits import MAX_REJECTED
from raymat.data.readers import LoadedData, load_crystals
from raymat.ensembles.stored import Ensemble
from raymat.errors import DataError, UnknownElementError
from raymat.features.store import FeatureStore
from raymat.features.unknown_elements import name_elements
from raymat.features.usable import usable_features
from raymat.text import plain
from raymat.training.inputs import join_rejected
from raymat.training.model_files import TrainedModel

Predictor = TrainedModel | Ensemble


@dataclass(frozen=True, eq=False)
class UsableCrystals:
    """What a model can be asked about.

    Attributes:
        crystals: those it can take, in the order of the source.
        features: theirs.
        rejected: ``material_id, reason`` of all others.
        source: where they come from; its counts are those of the reading alone.
        doubtful: row of a crystal that the model was not made for -> why; see `FeatureView`.
    """

    crystals: CrystalSet
    features: FeatureStore
    rejected: pd.DataFrame
    source: DataSource
    doubtful: dict[int, str]


def load_usable(model: Predictor, source: str, max_rejected: float | None) -> UsableCrystals:
    """Read the crystals of a source that a model can take, and make their features.

    Args:
        model: that is to be asked about them.
        source: a file, a folder or the name of a built-in set.
        max_rejected: largest share of rows that may be left out. None for the usual one, and an
            element that the model was not made for is then an error.

    Raises:
        UnknownElementError: the model was not made for an element, and no `max_rejected` is given.
        ConfigError: the features do not fit into memory.
        DataError: the source cannot be used, or too many of its rows.
    """
    limit = MAX_REJECTED if max_rejected is None else max_rejected
    loaded = load_crystals(source, max_rejected=limit)
    if max_rejected is None:
        _check_elements(model, loaded.crystals)
    return _split_usable(model, loaded, max_rejected=limit)


def new_elements(model: Predictor, crystals: CrystalSet) -> dict[str, int]:
    """Count the crystals that hold each element the model never met in training."""
    known = {SYMBOLS[z - 1] for z in model.elements}
    return {symbol: n for symbol, n in element_totals(crystals).items() if symbol not in known}


def say_new_elements(model: Predictor, crystals: CrystalSet) -> str | None:
    """Give a warning of elements that the model never met in training, if crystals hold any."""
    found = new_elements(model, crystals)
    if not found:
        return None
    listed = ", ".join(f"{symbol} ({n:,})" for symbol, n in found.items())
    return (
        f"elements that the model never met in training (crystals): {listed}; predictions with"
        " them are guesses"
    )


def say_doubts(model: Predictor, usable: UsableCrystals) -> list[str]:
    """Give a warning for each kind of crystals that the model takes, but was not made for."""
    warning = say_new_elements(model, usable.crystals)
    warnings = [] if warning is None else [warning]
    for row in sorted(usable.doubtful)[:1]:
        first = f"{plain(usable.crystals.material_ids[row])}: {usable.doubtful[row]}"
        warnings.append(
            f"{len(usable.doubtful):,} crystals have atoms without neighbors (the first: {first});"
            " predictions for them are guesses"
        )
    return warnings


def _check_elements(model: Predictor, crystals: CrystalSet) -> None:
    unknown: dict[int, tuple[int, ...]] = {}
    for view in model.views:
        unknown |= view.unknown_elements(crystals)
    if unknown:
        elements = tuple(sorted({z for held in unknown.values() for z in held}))
        first = crystals.material_ids[min(unknown)]
        raise UnknownElementError(
            f"{len(unknown):,} of {len(crystals):,} crystals hold elements that this model was not"
            f" made for: {name_elements(elements)} (the first: {first}); drop these crystals, or"
            " give --max-rejected SHARE to go on without them",
            atomic_numbers=elements,
        )


def _split_usable(model: Predictor, loaded: LoadedData, *, max_rejected: float) -> UsableCrystals:
    crystals = loaded.crystals
    usable = usable_features(crystals, model.views)
    rejected = join_rejected(loaded.rejected, crystals, usable.unusable, max_rejected=max_rejected)
    if len(usable.rows) == 0:
        raise DataError(
            f"none of {len(crystals):,} crystals can be used: {rejected.iloc[-1].reason}"
        )
    # The store knows structures only; the columns are for the score against the data's own.
    own = crystals.take(np.asarray(usable.rows))
    places = {int(row): place for place, row in enumerate(usable.rows)}
    doubtful = {places[row]: reason for row, reason in usable.doubtful.items()}
    return UsableCrystals(own, usable.features, rejected, loaded.source, doubtful)
