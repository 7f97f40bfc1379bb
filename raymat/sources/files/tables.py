"""Parquet, CSV and JSON tables as chunks of rows, read when they are wanted if possible."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raymat.data.parquet_reader import iter_tables, open_parquet, read_table
from raymat.data.raw import ID_COLUMN
from raymat.data.readers import find_ending
from raymat.data.structure_parser import TEXT_COLUMNS, read_structure_table
from raymat.data.table_reader import TABLE_READERS, read_csv_table
from raymat.errors import DataError, did_you_mean
from raymat.sources.files.chunks import AUTO, PATH, SIZE, Chunk, arrow_chunk, table_chunk

if TYPE_CHECKING:
    import pyarrow as pa

_CSV = (".csv", ".csv.gz")


@dataclass(frozen=True)
class OpenTable:
    """A table whose rows are chunks.

    Attributes:
        chunks: gives them in order.
        n_rows: rows, usable or not.
        columns: property columns, without rows.
        units: column -> unit in the file's metadata.
    """

    chunks: Callable[[], Iterator[Chunk]]
    n_rows: int
    columns: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)


def open_table(path: Path, ids: str = AUTO) -> OpenTable:
    """Open a Parquet, CSV or JSON file; `ids` may name the column with the ids.

    Parquet is read by groups of rows and CSV by lines; of CSV, ids and properties are in memory.
    JSON is held whole.

    Raises:
        DataError: it cannot be read, or has no structure column or no such id column.
    """
    if ids == PATH:
        raise DataError(f"{path}: --ids path is for files; name a column, or leave it out")
    ending = find_ending(path)
    if ending in _CSV:
        return _open_csv(path, ids)
    if ending in TABLE_READERS:
        return _open_frame(path, _named(TABLE_READERS[ending](path), ids, path))
    return _open_parquet(path, ids)


def _open_parquet(path: Path, ids: str) -> OpenTable:
    with open_parquet(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    empty = _renamed(schema.empty_table(), ids, path)

    def chunks() -> Iterator[Chunk]:
        for number, table in enumerate(iter_tables(path, SIZE)):
            yield arrow_chunk(_renamed(table, ids, path), path, number * SIZE)

    units = {f.name: f.metadata[b"unit"].decode() for f in schema if b"unit" in (f.metadata or {})}
    return OpenTable(chunks, n_rows, read_table(empty, path).properties, units)


def _renamed(table: "pa.Table", ids: str, path: Path) -> "pa.Table":
    names = _new_names(table.column_names, ids, path)
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _named(table: pd.DataFrame, ids: str, path: Path) -> pd.DataFrame:
    return table.rename(columns=_new_names(list(map(str, table.columns)), ids, path))


def _new_names(columns: list[str], ids: str, path: Path) -> dict[str, str]:
    """Give what the column with the ids is to be called."""
    if ids in (AUTO, ID_COLUMN):
        return {}
    if ids not in columns:
        raise DataError(f"{path}: --ids {ids}: no such column{did_you_mean(ids, columns)}")
    if ID_COLUMN in columns:
        raise DataError(f"{path}: --ids {ids}: there is a '{ID_COLUMN}' already; leave --ids out")
    return {ids: ID_COLUMN}


def _open_frame(path: Path, table: pd.DataFrame) -> OpenTable:
    empty = read_structure_table(table.iloc[:0], where=str(path))

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(table), SIZE):
            rows = table.iloc[start : start + SIZE]
            yield table_chunk(rows, where=str(path), first_row=start)

    return OpenTable(chunks, len(table), empty.properties)


def _open_csv(path: Path, ids: str) -> OpenTable:
    """Read everything but the structures; they come with their chunk."""
    names = list(map(str, read_csv_table(path, nrows=0).columns))
    text = [name for name in TEXT_COLUMNS if name in names]
    others = [name for name in names if name not in text]
    if not text or not others:
        return _open_frame(path, _named(read_csv_table(path), ids, path))
    dtype: dict[str, Any] = {ID_COLUMN: str, ids: str}
    table = _named(read_csv_table(path, usecols=others, dtype=dtype), ids, path)

    def chunks() -> Iterator[Chunk]:
        reader: Any = read_csv_table(path, usecols=text[:1], dtype=str, chunksize=SIZE)
        start = 0
        with reader:
            for cells in reader:
                rows = table.iloc[start : start + len(cells)].reset_index(drop=True)
                rows[text[0]] = cells[text[0]].to_numpy(dtype=object)
                yield table_chunk(rows, where=str(path), first_row=start)
                start += len(cells)

    return OpenTable(chunks, len(table), read_structure_table(
        table.iloc[:0].assign(**{text[0]: ""}), where=str(path)
    ).properties)  # fmt: skip
