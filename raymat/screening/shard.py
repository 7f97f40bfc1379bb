"""One shard of candidates through ensembles and criterion, from crystals to a table."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.ensembles.applicability import Applicability, find_applicability
from raymat.ensembles.predictions import MemberPredictions
from raymat.ensembles.stored import Ensemble, predict_together
from raymat.features.cache_contents import has_limit
from raymat.features.lithium_coordination import LITHIUM, lithium_coordination
from raymat.features.usable import usable_features
from raymat.screening.candidates import filter_candidates, needs_members
from raymat.screening.criterion import Criterion
from raymat.screening.criterion_names import IN_DOMAIN, IN_TRAINING
from raymat.screening.evaluate import Evaluated, evaluate
from raymat.screening.lithium_interface import molar_volume_ratio
from raymat.screening.plain_columns import rename_candidates

Rows = NDArray[np.int64]
BLOCK = 100  # rows of a source; some 3,000 sites, a few batches
VOLUME_RATIO = "molar_volume_ratio"
DOMAIN_DISTANCE, UNSEEN_ELEMENTS = "domain_distance", "unseen_elements"
_MADE = (VOLUME_RATIO, IN_DOMAIN, DOMAIN_DISTANCE, UNSEEN_ELEMENTS, IN_TRAINING)


@dataclass(frozen=True, eq=False)
class ScreenedShard:
    """What a shard came to.

    Attributes:
        table: one row per judged candidate, see `Evaluated`.
        excluded: ``material_id, formula, reason``.
        members: ``material_id`` and, under each prediction's name, every member's prediction; one
            row per judged candidate that members speak for.
        n_member_atoms: atoms that members evaluated, times members.
        predict_time_s: wall seconds of that.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame
    members: pd.DataFrame
    n_member_atoms: int
    predict_time_s: float


def screen_shard(
    crystals: CrystalSet,
    criterion: Criterion,
    ensembles: Mapping[str, Ensemble],
    *,
    source_rows: Rows | None = None,
    device: str = "cpu",
    cache: Path | None = None,
) -> ScreenedShard:
    """Screen some candidates.

    Args:
        crystals: usable candidates, with their columns.
        criterion: what they are judged by.
        ensembles: prediction -> the ensemble that makes it; members of one number are a pair.
        source_rows: (n_crystals,) rows of the candidates in their source, ascending. Batches are
            cut at every `BLOCK`-th of them, so that a candidate's numbers are the same to the last
            bit in shards of any multiple of `BLOCK`.
        device: where members are evaluated.
        cache: the feature cache's folder; None for the user's own.

    Raises:
        ConfigError: the features of the shard do not fit into memory.
    """
    columns = _columns(crystals)
    reasons = _add_volume_ratio(columns, crystals, criterion)
    asked = np.flatnonzero(needs_members(criterion, columns) & (reasons == ""))
    views = [view for ensemble in ensembles.values() for view in ensemble.views]
    # Candidates are many and are read once: without a limit of its size they would fill the cache.
    usable = usable_features(crystals.take(asked), views, cache=cache, is_kept=has_limit())
    for row, reason in usable.unusable.items():
        reasons[asked[row]] = reason
    rows = asked[usable.rows]
    blocks = None if source_rows is None else source_rows[rows] // BLOCK
    start = time.perf_counter()
    spoken = predict_together(ensembles, usable.features, device, blocks=blocks)
    predict_time_s = time.perf_counter() - start
    _add_domain(columns, rows, find_applicability(ensembles.values(), usable.features, device))
    columns[IN_TRAINING] = _in_training(crystals, ensembles.values())
    kept = np.flatnonzero(reasons == "")
    predictions = {name: _spread(found, rows, len(crystals)) for name, found in spoken.items()}
    judged = evaluate(
        criterion,
        {name: found.take(kept) for name, found in predictions.items()},
        columns.iloc[kept],
    )
    return ScreenedShard(
        table=judged.table,
        excluded=_excluded(columns, reasons, judged),
        members=_member_table(judged, columns, predictions),
        n_member_atoms=int(crystals.n_sites[rows].sum()) * _n_members(ensembles),
        predict_time_s=predict_time_s,
    )


def _columns(crystals: CrystalSet) -> pd.DataFrame:
    is_lithium = crystals.atomic_numbers == LITHIUM
    n_lithium = np.add.reduceat(np.append(is_lithium, 0), crystals.offsets[:-1])
    own = pd.DataFrame(
        {
            "material_id": crystals.material_ids,
            "formula": reduced_formulas(crystals),
            "n_sites": crystals.n_sites,
            "n_lithium": n_lithium if len(crystals) else np.zeros(0, dtype=np.int64),
        }
    )
    given = crystals.properties.reset_index(drop=True)
    # What is found out of a structure anyway is not repeated; what else is made here must not
    # hide a column of that name.
    given = given.drop(columns=[name for name in own if name in given])
    return own.join(rename_candidates(given, [name for name in _MADE if name in given]))


def _add_volume_ratio(
    columns: pd.DataFrame, crystals: CrystalSet, criterion: Criterion
) -> NDArray[np.object_]:
    """Add v of every candidate that is still in, and give why it is unknown of some.

    It costs more than everything else that is known without the members, so it comes last.
    """
    reasons = np.full(len(columns), "", dtype=object)
    if VOLUME_RATIO not in criterion.features:
        return reasons
    values = np.full(len(columns), np.nan)
    columns[VOLUME_RATIO] = values
    for row in np.flatnonzero(filter_candidates(criterion, columns) == ""):
        found = lithium_coordination(crystals[int(row)])
        reasons[row] = found.reason
        values[row] = molar_volume_ratio(found.number)
    columns[VOLUME_RATIO] = values
    return reasons


def _add_domain(columns: pd.DataFrame, rows: Rows, found: Applicability) -> None:
    """Add how candidates stand to the training crystals; empty where no member speaks."""
    inside = pd.array(np.full(len(columns), None), dtype="boolean")
    distances, unseen = np.full(len(columns), np.nan), np.full(len(columns), None, dtype=object)
    inside[rows], distances[rows], unseen[rows] = found.inside, found.distances, found.unseen
    columns[IN_DOMAIN], columns[DOMAIN_DISTANCE] = inside, distances
    columns[UNSEEN_ELEMENTS] = unseen


def _in_training(crystals: CrystalSet, ensembles: Iterable[Ensemble]) -> "pd.arrays.BooleanArray":
    """Give whether any ensemble learned from a candidate; NA where none says what it knows."""
    known = [e.learned_from for e in ensembles if e.learned_from is not None]
    ids = crystals.material_ids
    met = np.array([any(name in learned for learned in known) for name in ids], dtype=np.bool_)
    return pd.arrays.BooleanArray(met, np.full(len(ids), not known))


def _spread(found: MemberPredictions, rows: Rows, n: int) -> MemberPredictions:
    """Give predictions of `rows` as predictions of all n candidates, nan for the others."""
    values = np.full((found.n_members, n), np.nan)
    values[:, rows] = found.values
    return MemberPredictions(values, None, found.weights)


def _excluded(
    columns: pd.DataFrame, reasons: NDArray[np.object_], judged: Evaluated
) -> pd.DataFrame:
    own = columns.loc[reasons != "", ["material_id", "formula"]].assign(
        reason=reasons[reasons != ""]
    )
    joined = pd.concat([own, judged.excluded], ignore_index=True)
    order = {name: place for place, name in enumerate(columns["material_id"])}
    places = joined["material_id"].map(order).to_numpy()
    ordered: pd.DataFrame = joined.iloc[np.argsort(places, kind="stable")]
    return ordered.reset_index(drop=True)


def _member_table(
    judged: Evaluated, columns: pd.DataFrame, predictions: Mapping[str, MemberPredictions]
) -> pd.DataFrame:
    spoken = set(judged.table.loc[judged.table["source"] == "ensemble", "material_id"])
    rows = np.flatnonzero(columns["material_id"].isin(spoken))
    lists = {name: list(found.values[:, rows].T) for name, found in predictions.items()}
    return pd.DataFrame({"material_id": columns["material_id"].to_numpy()[rows], **lists})


def _n_members(ensembles: Mapping[str, Ensemble]) -> int:
    return sum(len(ensemble.members) for ensemble in ensembles.values())
