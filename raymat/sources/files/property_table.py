"""``--properties TABLE.csv``: targets that stand in a table of their own, found by id."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from raymat.data.raw import ID_COLUMN, find_ids, id_text, is_text_name
from raymat.data.table_reader import CsvFile
from raymat.errors import DataError
from raymat.sources.files.parts import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

_UNIT_WORDS = ("unit", "units")


@dataclass(frozen=True)
class PropertyTable:
    """Properties by id.

    Attributes:
        path: the file.
        ids: unique.
        columns: Arrow, one row for each id.
        units: column -> unit that stands in a row of its own.
        note: which column holds the ids, "" for `ID_COLUMN`.
    """

    path: Path
    ids: pd.Index
    columns: "pa.Table"
    units: dict[str, str]
    note: str = ""

    def rows_of(self, ids: list[str]) -> "pa.Table":
        """Give the rows of these ids, empty where the table has none."""
        import pyarrow as pa

        found = self.ids.get_indexer(pd.Index(ids, dtype=object))
        return self.columns.take(pa.array(found, mask=found < 0))

    def count_unknown(self, ids: list[str]) -> int:
        """Count the rows whose id is not among these."""
        return int((~self.ids.isin(pd.Index(ids, dtype=object))).sum())


def read_property_table(path: Path) -> PropertyTable:
    """Read a CSV with ids, as tables of crystals have; a row called ``units`` holds units.

    Raises:
        DataError: no CSV, no ids, or an id twice.
    """
    import pyarrow as pa

    if not path.is_file():
        raise DataError(f"--properties {path}: no such file")
    if path.suffix.lower() == ".parquet":
        raise DataError(f"--properties {path}: a Parquet file; it takes a table in CSV")
    file = CsvFile.open(path)
    names = file.names or []
    first = file.first_row()
    has_units = any(
        str(c).strip().lower() in _UNIT_WORDS for n, c in first.items() if is_text_name(n)
    )
    table = file.table(skip=int(has_units))
    chosen = find_ids(names, lambda name: table[name].tolist())
    if chosen.name is None:
        found = ", ".join(map(str, names[:12]))
        raise DataError(f"{path}: no column '{ID_COLUMN}' to find crystals by; found {found}")
    ids = pd.Index(list(map(id_text, table[chosen.name])), dtype=object)
    if not ids.is_unique:
        again = ids[ids.duplicated()][0]
        raise DataError(f"{path}: '{again}' stands in several rows; keep one row for each id")
    rest = table.drop(columns=chosen.name)
    units = {name: first.get(name, "").strip() for name in map(str, rest.columns)}
    return PropertyTable(
        path=path,
        ids=ids,
        columns=pa.table({str(name): to_arrow(rest[name]) for name in rest.columns}),
        units={name: unit for name, unit in units.items() if unit and has_units},
        note=chosen.note and f"{path}: {chosen.note}",
    )
