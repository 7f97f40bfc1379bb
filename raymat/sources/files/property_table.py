"""``--properties TABLE.csv``: targets that stand in a table of their own, found by id."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from raymat.data.raw import ID_COLUMN
from raymat.data.table_reader import read_csv_table
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
    """

    path: Path
    ids: pd.Index
    columns: "pa.Table"
    units: dict[str, str]

    def rows_of(self, ids: list[str]) -> "pa.Table":
        """Give the rows of these ids, empty where the table has none."""
        import pyarrow as pa

        found = self.ids.get_indexer(pd.Index(ids, dtype=object))
        return self.columns.take(pa.array(found, mask=found < 0))

    def count_unknown(self, ids: list[str]) -> int:
        """Count the rows whose id is not among these."""
        return int((~self.ids.isin(pd.Index(ids, dtype=object))).sum())


def read_property_table(path: Path) -> PropertyTable:
    """Read a CSV with a ``material_id`` column; a row called ``units`` holds units.

    Raises:
        DataError: no CSV, no ids, or an id twice.
    """
    import pyarrow as pa

    if not path.is_file():
        raise DataError(f"--properties {path}: no such file")
    if path.suffix.lower() == ".parquet":
        raise DataError(f"--properties {path}: a Parquet file; it takes a table in CSV")
    head = read_csv_table(path, nrows=1, dtype=str)
    if ID_COLUMN not in head.columns:
        found = ", ".join(map(str, head.columns[:12]))
        hint = " (commas part the columns, not ;)" if ";" in found else ""
        raise DataError(f"{path}: no column '{ID_COLUMN}' to find crystals by; found {found}{hint}")
    has_units = len(head) > 0 and str(head[ID_COLUMN].iloc[0]).strip().lower() in _UNIT_WORDS
    table = read_csv_table(path, skiprows=[1] if has_units else None)
    ids = pd.Index(table[ID_COLUMN].astype(str).to_numpy(dtype=object))
    if not ids.is_unique:
        again = ids[ids.duplicated()][0]
        raise DataError(f"{path}: '{again}' stands in several rows; keep one row for each id")
    rest = table.drop(columns=ID_COLUMN)
    units = head.drop(columns=ID_COLUMN).iloc[0].dropna() if has_units else pd.Series(dtype=object)
    return PropertyTable(
        path=path,
        ids=ids,
        columns=pa.table({str(name): to_arrow(rest[name]) for name in rest.columns}),
        units={str(name): str(unit).strip() for name, unit in units.items() if str(unit).strip()},
    )
