"""Crystals as a source gave them, before anything is checked."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.errors import DataError
from raymat.text import quoted

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

    @classmethod
    def join(cls, parts: "Sequence[RawCrystals]") -> "RawCrystals":
        """Join rows that were read apart, in this order; a property that some lack is missing."""
        counts = np.concatenate([np.zeros(0, np.int64), *[np.diff(p.offsets) for p in parts]])
        tables = [part.properties for part in parts if len(part.properties.columns)]
        rows = np.cumsum([0, *map(len, parts)])
        indexed = [
            part.properties.set_axis(range(start, start + len(part)), axis="index")
            for part, start in zip(parts, rows, strict=False)
        ]
        joined = pd.concat(indexed) if tables else pd.DataFrame(index=range(rows[-1]))
        return cls(
            material_ids=_concatenate([p.material_ids for p in parts], np.zeros(0, object)),
            lattices=_concatenate([p.lattices for p in parts], np.zeros((0, 3, 3))),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            atomic_numbers=_concatenate([p.atomic_numbers for p in parts], np.zeros(0, np.int64)),
            frac_coords=_concatenate([p.frac_coords for p in parts], np.zeros((0, 3))),
            properties=joined,
            problems=_concatenate([p.problems for p in parts], np.zeros(0, object)),
        )


def split_off_ids(
    table: pd.DataFrame, *, first_row: int = 0
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Return the ids of a table and the rest; a row without one is called after its number.

    That is ``row-17``; `first_row` is the number in the source of the table's first row.
    """
    rows = range(first_row, first_row + len(table))
    if ID_COLUMN not in table.columns:
        return np.array([f"row-{row}" for row in rows], dtype=object), table
    cells = table[ID_COLUMN].tolist()
    ids = [id_text(cell) or f"row-{row}" for row, cell in zip(rows, cells, strict=True)]
    return np.array(ids, dtype=object), table.drop(columns=ID_COLUMN)


def _concatenate(parts: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([empty, *parts]).astype(empty.dtype, copy=False)


def id_text(cell: Any) -> str:
    """Return an id as text, "" for a missing one; the text NaN is an id, for it is a compound."""
    if not isinstance(cell, str):
        if isinstance(cell, bytes):
            cell = cell.decode("utf-8", errors="replace")
        elif not pd.api.types.is_scalar(cell) or pd.isna(cell):
            return ""
        elif isinstance(cell, float) and cell.is_integer():  # a column of numbers with a gap
            cell = int(cell)
    text = str(cell).encode("utf-8", errors="replace").decode()  # halves of surrogate pairs
    return text if text.strip() else ""


ID_NAMES = (
    *("material_id", "materials_id", "mp_id", "matbench_id", "mbid", "jid", "jarvis_id", "auid"),
    *("oqmd_id", "cod_id", "icsd_id", "nomad_id", "c2db_id", "entry_id", "task_id", "calc_id"),
    *("structure_id", "crystal_id", "compound_id", "sample_id", "immutable_id", "unique_id"),
    *("uid", "uuid", "id", "identifier", "name", "label", "file_name", "cif_id"),
)
"""Names of columns that hold ids, the first that is there first; case and separators aside."""
NO_IDS = "no column with ids"
"""What the note of a table begins with that has none."""
FORMULA_NAMES = (
    *("formula", "pretty_formula", "formula_pretty", "reduced_formula", "chemical_formula"),
    *("chemical_formula_reduced", "composition", "compound", "element", "elements", "chemsys"),
)
"""Names of columns that hold formulas: text whatever it looks like, for NaN is a compound."""


def is_text_name(name: object) -> bool:
    """Return whether a column of this name holds ids or formulas, which are read as written."""
    return _bare(name) in _TEXT_NAMES


@dataclass(frozen=True)
class IdColumn:
    """The column that holds the ids.

    Attributes:
        name: None where there is none.
        note: what a user should know about the choice, "" where it is `ID_COLUMN` itself.
    """

    name: str | None
    note: str = ""


def find_ids(names: Sequence[str], cells_of: Callable[[str], Sequence[Any]]) -> IdColumn:
    """Return the column that holds the ids: `ID_COLUMN`, or else the first of the usual names.

    Another column than `ID_COLUMN` must name every row that it names differently, and hold text or
    whole numbers; one without a name, as pandas writes an index, must hold text.

    Args:
        names: of all columns.
        cells_of: gives all cells of a column.
    """
    if ID_COLUMN in names:
        return IdColumn(ID_COLUMN)
    ranks = {_bare(name): rank for rank, name in enumerate(ID_NAMES)}
    usual = sorted((n for n in names if _bare(n) in ranks), key=lambda n: ranks[_bare(n)])
    unnamed = [n for n in names if n in _UNNAMED]
    for name in [*usual, *unnamed]:
        if _are_ids(cells_of(name), needs_words=name in unnamed or _bare(name) in _WORDS):
            shown = "the first column, which has no name" if name in unnamed else f"column '{name}'"
            return IdColumn(name, f"ids are those of {shown}")
    tried = f" ('{usual[0]}' holds no unique ids)" if usual else ""
    return IdColumn(None, f"{NO_IDS}{tried}: crystals are called after their rows, row-0")


def refuse_equal_columns(names: Sequence[object], where: str) -> None:
    """Refuse a table of which two columns have one name.

    Raises:
        DataError: it is not known which one is meant.
    """
    seen = set[str]()
    for name in map(str, names):
        if name in seen:
            shown = quoted(name)
            raise DataError(f"{where}: several columns are called {shown}; rename or remove one")
        seen.add(name)


def _bare(name: object) -> str:
    return re.sub(r"[\s_.-]+", "", str(name)).lower()


_TEXT_NAMES = frozenset(map(_bare, (*ID_NAMES, *FORMULA_NAMES)))
_WORDS = ("name", "label")  # of which numbers would be something else
_UNNAMED = ("Unnamed: 0", "__index_level_0__")


def _are_ids(cells: Sequence[Any], *, needs_words: bool) -> bool:
    if any(isinstance(cell, bool | list | dict) for cell in cells):
        return False
    ids = [found for found in map(id_text, cells) if found]
    are_numbers = all(_NUMBER.fullmatch(found) for found in ids)
    are_fractions = are_numbers and not all(map(str.isdecimal, ids))
    is_measure = are_fractions or (are_numbers and needs_words)
    return bool(ids) and len(set(ids)) == len(ids) and not is_measure


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_NO_STRUCTURE = ParsedStructure(np.eye(3), np.zeros(0, np.int64), np.zeros((0, 3)))


def is_row_number(material_id: str) -> bool:
    """Return whether an id only says where a row stood in its file, as those of `split_off_ids`."""
    return _ROW_NUMBER.fullmatch(material_id) is not None


_ROW_NUMBER = re.compile(r"row-\d+")
