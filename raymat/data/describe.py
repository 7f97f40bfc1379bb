"""What a data set holds: counts, elements, sizes, the target's distribution, leakage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.composition import element_totals, reduced_formulas
from raymat.data.leakage import Leakage, find_leakage
from raymat.data.readers import DataSource, LoadedData, reason_counts
from raymat.data.splits import SplitConfig, make_split
from raymat.errors import DataError
from raymat.properties import Property, find_property

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
_SPLIT_KINDS = ("random", "formula", "chemical_system", "kfold")


@dataclass(frozen=True)
class TargetSummary:
    """A target's distribution, in the property's unit.

    Attributes:
        property: name, unit, meaning.
        values: (n,) the values themselves, for a picture.
        mean: arithmetic mean.
        std: sample standard deviation (n - 1); 0 for one value.
        quantiles: at `QUANTILES`; the ends are minimum and maximum.
        share_of_zeros: part of the values that are exactly 0.
    """

    property: Property
    values: NDArray[np.float64]
    mean: float
    std: float
    quantiles: tuple[float, ...]
    share_of_zeros: float


@dataclass(frozen=True)
class Description:
    """A data set in numbers.

    Attributes:
        source: name, path, hash, counts.
        reasons: rejected rows by kind of reason, the most common first.
        elements: crystals that hold each element, in order of Z.
        n_sites: (n,) atoms per cell.
        n_sites_quantiles: at `QUANTILES`.
        n_formulas: different reduced formulas.
        n_shared_formula: crystals whose formula another crystal has too.
        target: None if no target was asked for.
        leakage: by kind of split with default fractions and seed 0; None where the set is too
            small for it.
    """

    source: DataSource
    reasons: dict[str, int]
    elements: dict[str, int]
    n_sites: NDArray[np.int64]
    n_sites_quantiles: tuple[float, ...]
    n_formulas: int
    n_shared_formula: int
    target: TargetSummary | None
    leakage: dict[str, Leakage | None]


def describe(loaded: LoadedData, target: str | None = None) -> Description:
    """Describe loaded crystals; `target` is the column they were loaded with.

    Raises:
        DataError: the target holds values that are no finite numbers.
    """
    crystals = loaded.crystals
    spacegroups: dict[int, int] = {}  # found once for all kinds of split
    _, counts = np.unique(reduced_formulas(crystals).astype(str), return_counts=True)
    return Description(
        source=loaded.source,
        reasons=reason_counts(loaded.rejected),
        elements=element_totals(crystals),
        n_sites=crystals.n_sites,
        n_sites_quantiles=_quantiles(crystals.n_sites.astype(np.float64)),
        n_formulas=len(counts),
        n_shared_formula=int(counts[counts > 1].sum()),
        target=_summarize(crystals.target(target), find_property(target)) if target else None,
        leakage={kind: _leakage(loaded, kind, spacegroups) for kind in _SPLIT_KINDS},
    )


def _summarize(values: NDArray[np.float64], prop: Property) -> TargetSummary:
    if not np.isfinite(values).all():
        raise DataError(f"'{prop.name}' holds NaN or infinite values; load it as the target")
    return TargetSummary(
        property=prop,
        values=values,
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        quantiles=_quantiles(values),
        share_of_zeros=float(np.mean(values == 0.0)),
    )


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(values, QUANTILES))


def _leakage(loaded: LoadedData, kind: str, spacegroups: dict[int, int]) -> Leakage | None:
    try:
        split = make_split(loaded.crystals, SplitConfig.model_validate({"kind": kind}))
    except DataError:
        return None  # too few crystals for three parts: nothing to count
    return find_leakage(loaded.crystals, split, known=spacegroups)
