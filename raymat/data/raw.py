"""Crystals as a source gave them, before anything is checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet

STRUCTURE_COLUMNS = ("lattice", "atomic_numbers", "frac_coords")
ID_COLUMN = "material_id"


@dataclass(frozen=True)
class ParsedStructure:
    """One structure as numbers.

    Attributes:
        lattice: (3, 3) Å, rows are a, b, c.
        atomic_numbers: (n_sites,) int64, one per parsed site; 0 for what is no element.
        frac_coords: (n_sites, 3).
    """

    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]


@dataclass(frozen=True)
class RawCrystals:
    """Every row of a source, usable or not; the columns of a `CrystalSet`, unchecked.

    Attributes:
        material_ids: (n,) object array of str, perhaps not unique.
        lattices: (n, 3, 3) Å.
        offsets: (n + 1,) int64, first atom of each crystal.
        atomic_numbers: (n_atoms,) int64, any number.
        frac_coords: (n_atoms, 3).
        properties: (n) rows, every column besides id and structure.
        problems: (n,) object array of str; why a row's structure could not be read, else "".
            Such a row has no atoms.
    """

    material_ids: NDArray[np.object_]
    lattices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    properties: pd.DataFrame
    problems: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.material_ids)

    def select(self, rows: NDArray[np.int64], properties: pd.DataFrame) -> CrystalSet:
        """Give these rows as checked crystals; `properties` has a row for every raw row."""
        every = CrystalSet(
            material_ids=self.material_ids,
            lattices=self.lattices,
            offsets=self.offsets,
            atomic_numbers=self.atomic_numbers.astype(np.uint8),
            frac_coords=self.frac_coords,
            properties=properties,
        )
        # Most sources are whole, and a large one should not be in memory twice.
        return every if len(rows) == len(self) else every.take(rows)

    def cut(self, start: int, stop: int) -> "RawCrystals":
        """Give the rows from `start` up to, not including, `stop`."""
        rows = slice(start, stop)
        offsets = self.offsets[start : stop + 1]
        atoms = slice(offsets[0], offsets[-1])
        return RawCrystals(
            material_ids=self.material_ids[rows],
            lattices=self.lattices[rows],
            offsets=offsets - offsets[0],
            atomic_numbers=self.atomic_numbers[atoms],
            frac_coords=self.frac_coords[atoms],
            properties=self.properties.iloc[rows].reset_index(drop=True),
            problems=self.problems[rows],
        )

    @classmethod
    def from_parsed(
        cls,
        material_ids: NDArray[np.object_],
        parsed: Sequence[ParsedStructure | str],
        properties: pd.DataFrame,
    ) -> "RawCrystals":
        """Join structures parsed one by one; a string stands for why a row has none."""
        found = [p if isinstance(p, ParsedStructure) else _NO_STRUCTURE for p in parsed]
        counts = [len(p.atomic_numbers) for p in found]
        return cls(
            material_ids=material_ids,
            lattices=np.array([p.lattice for p in found], dtype=np.float64).reshape(-1, 3, 3),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            atomic_numbers=np.concatenate(
                [np.zeros(0, np.int64), *[p.atomic_numbers for p in found]]
            ),
            frac_coords=np.concatenate([np.zeros((0, 3)), *[p.frac_coords for p in found]]),
            properties=properties.reset_index(drop=True),
            problems=np.array([p if isinstance(p, str) else "" for p in parsed], dtype=object),
        )


def split_off_ids(
    table: pd.DataFrame, *, first_row: int = 0
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Take the ids out of a table; a row without one is called after its number, ``row-17``.

    `first_row` is the number in the source of the table's first row.
    """
    rows = range(first_row, first_row + len(table))
    if ID_COLUMN not in table.columns:
        return np.array([f"row-{row}" for row in rows], dtype=object), table
    column = table[ID_COLUMN]
    missing = column.isna().to_numpy(dtype=bool)
    ids = [
        f"row-{row}" if is_missing or not str(value).strip() else str(value)
        for row, is_missing, value in zip(rows, missing, column.tolist(), strict=True)
    ]
    return np.array(ids, dtype=object), table.drop(columns=ID_COLUMN)


_NO_STRUCTURE = ParsedStructure(np.eye(3), np.zeros(0, np.int64), np.zeros((0, 3)))


def is_row_number(material_id: str) -> bool:
    """Return whether an id only says where a row stood in its file, as those of `split_off_ids`."""
    return _ROW_NUMBER.fullmatch(material_id) is not None


_ROW_NUMBER = re.compile(r"row-\d+")
