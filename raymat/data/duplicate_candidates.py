"""Which crystals could be one and the same: equal composition and symmetry, about equal density.

Whatever can be told from arrays is told first, for all crystals at once; spglib sees only those
whose composition and density another crystal has, too.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from raymat.config import Config
from raymat.data.composition import reduced_formulas
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.leakage import stated_spacegroups
from raymat.data.symmetry import SYMPREC, Symmetry, find_symmetry

Ints = NDArray[np.int64]
Progress = Callable[[str, int, int], None]


class DuplicateRules(Config):
    """When two crystals count as one and the same.

    The tolerances of the comparison are those of pymatgen's `StructureMatcher`, with its defaults.
    """

    symprec: float = Field(SYMPREC, gt=0.0, le=1.0)  # Å, of the space groups
    volume_window: float = Field(0.1, ge=0.0, le=1.0)  # relative, of the volume per atom
    ltol: float = Field(0.2, gt=0.0, le=1.0)  # relative, of the cell's lengths
    stol: float = Field(0.3, gt=0.0, le=1.0)  # largest shift of a site, of (volume per atom)^(1/3)
    angle_tol: float = Field(5.0, gt=0.0, le=45.0)  # degrees
    largest: int = Field(
        100, ge=2, le=1_000_000
    )  # candidates of one formula and symmetry that are compared
    most_pairs: int | None = Field(None, ge=1, le=10**12)  # compared in all; None for no limit


@dataclass(frozen=True)
class Candidates:
    """Crystals of one composition and symmetry.

    Attributes:
        formula: reduced.
        spacegroup: 1 to 230.
        n_sites: atoms in the primitive cell.
        rows: of the crystals among all, ascending.
    """

    formula: str
    spacegroup: int
    n_sites: int
    rows: Ints


@dataclass(frozen=True)
class CrystalPool:
    """Several sets of crystals, their rows counted on from one to the next.

    Attributes:
        sets: the sets.
        formulas: (n,) reduced formulas of all crystals.
        volumes: (n,) Å3 per atom.
    """

    sets: tuple[CrystalSet, ...]
    formulas: NDArray[np.object_]
    volumes: NDArray[np.float64]

    @classmethod
    def of(cls, sets: Sequence[CrystalSet]) -> "CrystalPool":
        """Look at some sets."""
        formulas = [np.zeros(0, object), *map(reduced_formulas, sets)]
        volumes = [np.zeros(0), *map(volumes_per_atom, sets)]
        return cls(tuple(sets), np.concatenate(formulas), np.concatenate(volumes))

    def place(self, row: int) -> tuple[int, int]:
        """Give the number of the set that a crystal is in, and its row there."""
        for number, crystals in enumerate(self.sets):
            if row < len(crystals):
                return number, row
            row -= len(crystals)
        raise IndexError(row)

    def __getitem__(self, row: int) -> Crystal:
        number, own = self.place(row)
        return self.sets[number][own]

    def stated_spacegroups(self) -> Ints:
        """(n,) space groups as the sources state them, 0 where they do not."""
        return np.concatenate([np.zeros(0, np.int64), *map(stated_spacegroups, self.sets)])


def volumes_per_atom(crystals: CrystalSet) -> NDArray[np.float64]:
    """(n,) Å3."""
    volumes: NDArray[np.float64] = np.abs(np.linalg.det(crystals.lattices)) / crystals.n_sites
    return volumes


def find_candidates(
    pool: CrystalPool, rules: DuplicateRules, *, trust_stated: bool, on_progress: Progress
) -> Iterator[Candidates]:
    """Give the crystals that share composition and symmetry, with one of about equal density.

    Equal symmetry is an equal space group and, in the primitive cell, equal sizes of the orbits of
    each element.

    Args:
        pool: where to search.
        rules: what counts as equal.
        trust_stated: use the space groups that the sources state, where they do, to leave out
            crystals before spglib is asked; of one source they come from one hand.
        on_progress: called with what is done, how much of it, and of how much.
    """
    codes = pd.factorize(pool.formulas)[0].astype(np.int64)
    if trust_stated:
        codes = codes * 1000 + pool.stated_spacegroups()
    rows = _near_another(codes, pool.volumes, rules.volume_window)
    found: dict[tuple[str, Symmetry], list[int]] = defaultdict(list)
    for done, row in enumerate(rows.tolist()):
        on_progress("symmetry", done, len(rows))
        symmetry = find_symmetry(pool[row], rules.symprec)
        if symmetry is not None:
            found[pool.formulas[row], symmetry].append(row)
    on_progress("symmetry", len(rows), len(rows))
    for (formula, symmetry), members in found.items():
        if len(members) > 1:
            n_sites = sum(n for _, n in symmetry.orbits)
            yield Candidates(formula, symmetry.spacegroup, n_sites, np.array(sorted(members)))


def near_pairs(volumes: NDArray[np.float64], window: float) -> Ints:
    """Give (n_pairs, 2) positions of volumes that differ by no more than a part of the smaller."""
    first, second = np.triu_indices(len(volumes), k=1)
    ratio = volumes[first] / volumes[second]
    is_near = np.maximum(ratio, 1.0 / ratio) <= 1.0 + window
    pairs: Ints = np.column_stack([first, second])[is_near].astype(np.int64)
    return pairs


def _near_another(codes: Ints, volumes: NDArray[np.float64], window: float) -> Ints:
    """Give the rows with another of the same code and about the same volume, ascending."""
    order = np.lexsort((volumes, codes))
    is_next = np.diff(codes[order]) == 0
    is_next &= volumes[order][1:] <= volumes[order][:-1] * (1.0 + window)
    near = np.zeros(len(codes), dtype=np.bool_)
    near[order[1:][is_next]] = True
    near[order[:-1][is_next]] = True
    return np.flatnonzero(near).astype(np.int64)
