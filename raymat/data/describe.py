"""What a data set holds: counts, elements, cells, symmetry, the target, duplicates, leakage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.composition import element_totals, reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.data.duplicate_candidates import DuplicateRules, volumes_per_atom
from raymat.data.duplicates import Duplicates, find_duplicates
from raymat.data.facts import DataSource
from raymat.data.leakage import Leakage, find_leakage, stated_spacegroups
from raymat.data.readers import LoadedData, reason_counts
from raymat.data.splits import SplitConfig, make_split
from raymat.data.symmetry import find_spacegroup
from raymat.data.target_shape import TargetShape, find_shape
from raymat.errors import DataError
from raymat.properties import Property, find_property

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
MOST_PAIRS = 300
"""Pairs of crystals that are compared as possible duplicates, those of the smallest cells: each
takes a hundredth of a second and more, and a description should take seconds."""
MOST_SEARCHED = 1000
"""Crystals without a stated space group of which spglib is asked, some thousandths of a second
each; of more, the symmetry is not described."""
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
        shape: peak at zero, one mode or two.
    """

    property: Property
    values: NDArray[np.float64]
    mean: float
    std: float
    quantiles: tuple[float, ...]
    share_of_zeros: float
    shape: TargetShape


@dataclass(frozen=True)
class Description:
    """A data set in numbers.

    Attributes:
        source: name, path, hash, counts.
        reasons: rejected rows by kind of reason, the most common first.
        elements: crystals that hold each element, in order of Z.
        n_sites: (n,) atoms per cell.
        n_sites_quantiles: at `QUANTILES`.
        volumes: (n,) Å3 per atom.
        volumes_quantiles: at `QUANTILES`.
        spacegroups: (n,) 1 to 230, 0 where unknown; None where too many would have to be searched.
        n_formulas: different reduced formulas.
        n_shared_formula: crystals whose formula another crystal has too.
        target: None if no target was asked for.
        duplicates: crystals that are one and the same, among the pairs of the smallest cells.
        leakage: by kind of split with default fractions and seed 0; None where the set is too
            small for it.
    """

    source: DataSource
    reasons: dict[str, int]
    elements: dict[str, int]
    n_sites: NDArray[np.int64]
    n_sites_quantiles: tuple[float, ...]
    volumes: NDArray[np.float64]
    volumes_quantiles: tuple[float, ...]
    spacegroups: NDArray[np.int64] | None
    n_formulas: int
    n_shared_formula: int
    target: TargetSummary | None
    duplicates: Duplicates
    leakage: dict[str, Leakage | None]


def describe(loaded: LoadedData, target: str | None = None) -> Description:
    """Describe loaded crystals; `target` is the column they were loaded with.

    Raises:
        DataError: the target holds values that are no finite numbers.
    """
    crystals, prop = loaded.crystals, loaded.prop or find_property(target or "")
    spacegroups = _spacegroups(crystals)
    known = dict(enumerate(spacegroups.tolist())) if spacegroups is not None else {}
    volumes = volumes_per_atom(crystals)
    _, counts = np.unique(reduced_formulas(crystals).astype(str), return_counts=True)
    return Description(
        source=loaded.source,
        reasons=reason_counts(loaded.rejected),
        elements=element_totals(crystals),
        n_sites=crystals.n_sites,
        n_sites_quantiles=_quantiles(crystals.n_sites.astype(np.float64)),
        volumes=volumes,
        volumes_quantiles=_quantiles(volumes),
        spacegroups=spacegroups,
        n_formulas=len(counts),
        n_shared_formula=int(counts[counts > 1].sum()),
        target=_summarize(crystals.target(target), prop) if target else None,
        duplicates=find_duplicates(
            [(loaded.source.name, crystals)],
            DuplicateRules(most_pairs=MOST_PAIRS),
            trust_stated=True,
        ),
        leakage={kind: _leakage(loaded, kind, known) for kind in _SPLIT_KINDS},
    )


def _summarize(values: NDArray[np.float64], prop: Property) -> TargetSummary:
    if not np.isfinite(values).all():
        raise DataError(f"'{prop.name}' holds NaN or infinite values; load it as the target")
    with np.errstate(over="ignore"):  # the square of an absurd value has no number
        std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return TargetSummary(
        property=prop,
        values=values,
        mean=float(values.mean()),
        std=std,
        quantiles=_quantiles(values),
        share_of_zeros=float(np.mean(values == 0.0)),
        shape=find_shape(values),
    )


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(values, QUANTILES))


def _spacegroups(crystals: CrystalSet) -> NDArray[np.int64] | None:
    """Give (n,) the stated space groups, else those that spglib finds; None if they are many."""
    groups = stated_spacegroups(crystals)
    missing = np.flatnonzero(groups == 0)
    if len(missing) > MOST_SEARCHED:
        return None
    for row in missing.tolist():
        groups[row] = find_spacegroup(crystals[row])
    return groups


def _leakage(loaded: LoadedData, kind: str, spacegroups: dict[int, int]) -> Leakage | None:
    try:
        split = make_split(loaded.crystals, SplitConfig.model_validate({"kind": kind}))
    except DataError:
        return None  # too few crystals for three parts: nothing to count
    return find_leakage(loaded.crystals, split, known=spacegroups)
