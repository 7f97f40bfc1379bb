"""Crystals that are one and the same, within a source and across several.

Candidates share composition and symmetry and have about the same density; pymatgen's
`StructureMatcher` compares their primitive cells pair by pair. Crystals that are equal to a third
one are in one group, as a chain of small differences may lead from one to the other.

`KnownCrystals` answers the other question: whether a crystal is one of a given set, by its atoms
and not by its name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.duplicate_candidates import (
    Candidates,
    CrystalPool,
    DuplicateRules,
    Ints,
    Progress,
    find_candidates,
    near_pairs,
    volumes_per_atom,
)
from raymat.data.symmetry import primitive_cell

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SAME_PLACE = 1e-3  # Å, and fractional; two files of one cell differ by rounding only


@dataclass(frozen=True)
class DuplicateGroup:
    """Crystals that are one and the same.

    Attributes:
        formula: reduced.
        spacegroup: 1 to 230.
        rows: of the crystals, counted on from one source to the next, ascending.
    """

    formula: str
    spacegroup: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        names: of the sources.
        pool: their crystals.
        rules: when two crystals counted as the same.
        groups: the largest first.
        n_pairs: pairs that composition, symmetry and density allow.
        n_left_out: of these, pairs that were not compared because there are too many.
        too_large: sets of candidates that were not compared for the same reason.
    """

    names: tuple[str, ...]
    pool: CrystalPool
    rules: DuplicateRules
    groups: tuple[DuplicateGroup, ...]
    n_pairs: int
    n_left_out: int
    too_large: tuple[Candidates, ...]

    @property
    def n_crystals(self) -> int:
        """Crystals in groups."""
        return sum(len(group.rows) for group in self.groups)

    @property
    def n_across(self) -> int:
        """Groups with crystals of more than one source."""
        return sum(len({self.pool.place(r)[0] for r in g.rows}) > 1 for g in self.groups)

    @property
    def n_within(self) -> int:
        """Groups with more than one crystal of the same source."""
        places = [[self.pool.place(row)[0] for row in group.rows] for group in self.groups]
        return sum(len(set(numbers)) < len(numbers) for numbers in places)

    def lines(self) -> list[str]:
        """Give what was found, and by which rules, in sentences."""
        rules, n = self.rules, len(self.groups)
        counted = f"{n:,} groups of {self.n_crystals:,} crystals" if n else "none"
        where = ""
        if n and len(self.names) > 1:
            where = f" ({self.n_across:,} across sources, {self.n_within:,} within one)"
        n_compared = self.n_pairs - self.n_left_out
        told = [
            f"duplicates: {counted}{where} among {n_compared:,} pairs of equal formula and symmetry"
            f" (symprec {rules.symprec:g} Å) whose volumes per atom differ by at most"
            f" {100 * rules.volume_window:g} %, compared by pymatgen's StructureMatcher (ltol"
            f" {rules.ltol:g}, stol {rules.stol:g}, angle_tol {rules.angle_tol:g}°, primitive"
            " cells scaled to one volume)"
        ]
        if self.n_left_out:
            told.append(
                f"not compared here: {self.n_left_out:,} more such pairs, those of the largest"
                " cells; `raymat data duplicates` compares all"
            )
        if self.too_large:
            largest = max(self.too_large, key=lambda found: len(found.rows))
            told.append(
                f"not compared: {len(self.too_large):,} sets of more than {rules.largest:,}"
                f" crystals of equal formula and symmetry, the largest {len(largest.rows):,} of"
                f" {largest.formula} in space group {largest.spacegroup}; `raymat data duplicates"
                f" --largest {len(largest.rows)}` compares them"
            )
        return told

    def table(self, target: str | None = None) -> pd.DataFrame:
        """Give one row per crystal, the groups numbered from 1.

        Args:
            target: property column to compare; NaN where a source has none.

        Returns:
            ``group, source, material_id, formula, spacegroup_number, n_sites, volume_per_atom``
            (Å3) and, with a target, its value and ``target_range``, which is the largest less the
            smallest value of the group.
        """
        lines = [line for g, group in enumerate(self.groups, 1) for line in self._lines(g, group)]
        columns = ["group", "source", "material_id", "formula", "spacegroup_number", "n_sites",
                   "volume_per_atom"]  # fmt: skip
        table = pd.DataFrame(lines, columns=columns)
        if target is None:
            return table
        values = self._values(target)
        rows = [row for group in self.groups for row in group.rows]
        table[target] = [values[row] for row in rows]
        by_group = table.groupby("group")[target]
        span = by_group.transform("max") - by_group.transform("min")
        table["target_range"] = span.where(by_group.transform("count") > 1)
        return table

    def _lines(self, number: int, group: DuplicateGroup) -> Iterator[tuple[object, ...]]:
        for row in group.rows:
            place, own = self.pool.place(row)
            crystals = self.pool.sets[place]
            name, n_sites = str(crystals.material_ids[own]), int(crystals.n_sites[own])
            volume = float(self.pool.volumes[row])
            yield (
                number, self.names[place], name, group.formula, group.spacegroup, n_sites, volume
            )  # fmt: skip

    def _values(self, target: str) -> "pd.Series[float]":
        parts = [
            pd.to_numeric(crystals.properties[target], errors="coerce")
            if target in crystals.properties
            else pd.Series(np.nan, index=range(len(crystals)))
            for crystals in self.pool.sets
        ]
        return pd.concat(parts, ignore_index=True).astype(np.float64)


def find_duplicates(
    sources: Sequence[tuple[str, CrystalSet]],
    rules: DuplicateRules | None = None,
    *,
    trust_stated: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Duplicates:
    """Find crystals that are one and the same.

    Args:
        sources: a name and the crystals of each.
        rules: when two count as the same; the defaults unless given.
        trust_stated: see `find_candidates`.
        on_progress: called with what is done, how much of it, and of how much.
    """
    rules = rules or DuplicateRules()
    pool = CrystalPool.of([crystals for _, crystals in sources])
    every = list(find_candidates(pool, rules, trust_stated=trust_stated, on_progress=on_progress))
    fitting = [found for found in every if len(found.rows) <= rules.largest]
    pairs, n_left_out = _choose_pairs(pool, fitting, rules)
    comparison = _Comparison(pool, rules)
    groups: list[DuplicateGroup] = []
    done, total = 0, sum(map(len, pairs))
    for found, chosen in zip(fitting, pairs, strict=True):
        on_progress("comparing", done, total)
        groups += comparison.group(found, chosen)
        done += len(chosen)
    on_progress("comparing", total, total)
    return Duplicates(
        names=tuple(name for name, _ in sources),
        pool=pool,
        rules=rules,
        groups=tuple(sorted(groups, key=lambda g: (-len(g.rows), g.rows))),
        n_pairs=total + n_left_out,
        n_left_out=n_left_out,
        too_large=tuple(found for found in every if len(found.rows) > rules.largest),
    )


def _choose_pairs(
    pool: CrystalPool, every: list[Candidates], rules: DuplicateRules
) -> tuple[list[Ints], int]:
    """Give the pairs of each candidates, and how many are left out: those of the largest cells."""
    pairs = [near_pairs(pool.volumes[found.rows], rules.volume_window) for found in every]
    left = total = sum(map(len, pairs))
    if rules.most_pairs is not None:
        left = min(total, rules.most_pairs)
    n_left_out = total - left
    for place in sorted(range(len(every)), key=lambda k: every[k].n_sites):
        pairs[place] = pairs[place][:left]
        left -= len(pairs[place])
    return pairs, n_left_out


class _Comparison:
    """Compares pairs, and puts what is equal into groups."""

    def __init__(self, pool: CrystalPool, rules: DuplicateRules) -> None:
        self.pool, self.rules = pool, rules
        self._matcher = _Matcher(rules)
        self._reduced: dict[int, Structure] = {}

    def group(self, found: Candidates, pairs: Ints) -> list[DuplicateGroup]:
        """Give the groups among some candidates."""
        leader = list(range(len(found.rows)))

        def lead(k: int) -> int:
            while leader[k] != k:
                k = leader[k]
            return k

        for one, other in pairs.tolist():
            first, second = lead(one), lead(other)
            if first != second and self._is_same(int(found.rows[one]), int(found.rows[other])):
                leader[max(first, second)] = min(first, second)
        self._reduced.clear()
        members: dict[int, list[int]] = {}
        for k, row in enumerate(found.rows.tolist()):
            members.setdefault(lead(k), []).append(row)
        return [
            DuplicateGroup(found.formula, found.spacegroup, tuple(rows))
            for rows in members.values()
            if len(rows) > 1
        ]

    def _is_same(self, one: int, other: int) -> bool:
        if _is_equal_cell(self.pool[one], self.pool[other]):
            return True
        return self._matcher.fits(self._reduce(one), self._reduce(other))

    def _reduce(self, row: int) -> "Structure":
        if row not in self._reduced:
            self._reduced[row] = self._matcher.reduce(self.pool[row])
        return self._reduced[row]


class KnownCrystals:
    """Crystals that others are looked for among, by composition, volume and structure.

    Neither names nor the way that a cell is written down matter: the order of atoms, the origin,
    the orientation, a supercell. As in `find_duplicates`, crystals of one composition whose volumes
    per atom differ by at most ``volume_window`` are the same if `StructureMatcher` says so of their
    primitive cells; their symmetry may differ, as it does after a slight strain.

    Args:
        crystals: the known ones.
        rules: when two are the same; the defaults unless given.
    """

    def __init__(self, crystals: CrystalSet, rules: DuplicateRules | None = None) -> None:
        self.crystals = crystals.without_properties()
        self.rules = rules or DuplicateRules()
        self._reduced: dict[int, Structure] = {}

    def contains(self, crystals: CrystalSet) -> NDArray[np.bool_]:
        """Return (n_crystals,) whether each is one of the known crystals."""
        formulas, volumes = reduced_formulas(crystals), volumes_per_atom(crystals)
        found = np.zeros(len(crystals), dtype=np.bool_)
        for row in range(len(crystals)):
            near = self._nearest(formulas[row], float(volumes[row]))
            found[row] = bool(near) and self._is_one_of(crystals[row], near)
        return found

    @cached_property
    def _matcher(self) -> "_Matcher":
        return _Matcher(self.rules)

    @cached_property
    def _volumes(self) -> NDArray[np.float64]:
        return volumes_per_atom(self.crystals)

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row, formula in enumerate(reduced_formulas(self.crystals)):
            rows[formula].append(row)
        return dict(rows)

    def _nearest(self, formula: str, volume: float) -> list[int]:
        """Return known crystals of this formula and about this volume, the nearest first."""
        most = np.log1p(self.rules.volume_window)
        off = {row: abs(np.log(self._volumes[row] / volume)) for row in self._rows.get(formula, ())}
        return sorted(
            (row for row, distance in off.items() if distance <= most), key=off.__getitem__
        )

    def _is_one_of(self, crystal: Crystal, rows: list[int]) -> bool:
        if any(_is_equal_cell(crystal, self.crystals[row]) for row in rows):
            return True
        reduced = self._matcher.reduce(crystal)
        return any(self._matcher.fits(reduced, self._reduce(row)) for row in rows)

    def _reduce(self, row: int) -> "Structure":
        if row not in self._reduced:
            self._reduced[row] = self._matcher.reduce(self.crystals[row])
        return self._reduced[row]


class _Matcher:
    """Compares primitive cells with the tolerances of some rules."""

    def __init__(self, rules: DuplicateRules) -> None:
        self.rules = rules

    @cached_property
    def _matcher(self) -> Any:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        rules = self.rules
        return StructureMatcher(ltol=rules.ltol, stol=rules.stol, angle_tol=rules.angle_tol)

    def reduce(self, crystal: Crystal) -> "Structure":
        """Return the primitive cell as pymatgen has it."""
        return primitive_cell(crystal, self.rules.symprec).to_structure()

    def fits(self, one: "Structure", other: "Structure") -> bool:
        """Return whether two primitive cells are the same crystal."""
        if len(one) != len(other):
            return False
        return bool(self._matcher.fit(one, other, skip_structure_reduction=True))


def _is_equal_cell(one: Crystal, other: Crystal) -> bool:
    """Say whether both are written down as the same cell, atom by atom."""
    if not np.array_equal(one.atomic_numbers, other.atomic_numbers):
        return False
    shift = one.frac_coords - other.frac_coords
    shift = shift - np.round(shift)
    same_cell = np.abs(one.lattice - other.lattice).max() < _SAME_PLACE
    return bool(same_cell and np.abs(shift).max() < _SAME_PLACE)
