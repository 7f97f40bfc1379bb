"""Parquet, CSV and JSON tables: rows at once, by shard, or as chunks for a worker."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.facts import find_ending
from raymat.data.files.chunks import AUTO, PATH, SIZE, Chunk, arrow_chunk, table_chunk
from raymat.data.parquet_reader import (
    iter_tables,
    open_parquet,
    read_parquet,
    read_table,
    to_frame,
)
from raymat.data.raw import (
    ID_COLUMN,
    IdColumn,
    RawCrystals,
    find_ids,
    refuse_equal_columns,
    split_off_ids,
)
from raymat.data.structure_parser import TEXT_COLUMNS, read_structure_table
from raymat.data.table_reader import TABLE_READERS, CsvFile
from raymat.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

_CSV = (".csv", ".csv.gz")
_IDS_AT_ONCE = 50_000


class Rows(Protocol):
    """Rows of a source that can be read at once, or in shards of consecutive ones."""

    @property
    def n_rows(self) -> int:
        """Rows, usable or not."""
        ...

    def whole(self) -> RawCrystals:
        """Return all rows."""
        ...

    def ids(self) -> Iterator[NDArray[np.object_]]:
        """Return the ids of all rows in order, some at a time, without their structures."""
        ...

    def read(self, size: int, numbers: Collection[int]) -> Iterator[tuple[int, RawCrystals]]:
        """Return these shards of `size` rows in order; only they are parsed."""
        ...


@dataclass(frozen=True)
class HeldRows:
    """Ids and properties in memory at once.

    Attributes:
        material_ids: (n,) object array of str.
        cut: parses rows ``start`` to ``stop - 1``.
    """

    material_ids: NDArray[np.object_]
    cut: Callable[[int, int], RawCrystals]

    @property
    def n_rows(self) -> int:
        """Rows, usable or not."""
        return len(self.material_ids)

    def whole(self) -> RawCrystals:
        """Return all rows."""
        return self.cut(0, self.n_rows)

    def ids(self) -> Iterator[NDArray[np.object_]]:
        """Return the ids of all rows."""
        yield self.material_ids

    def read(self, size: int, numbers: Collection[int]) -> Iterator[tuple[int, RawCrystals]]:
        """Return these shards; only they are parsed."""
        for number in sorted(numbers):
            yield number, self.cut(number * size, min((number + 1) * size, self.n_rows))


@dataclass(frozen=True)
class _ParquetRows:
    """A file of any size, of which no more than two shards are in memory."""

    path: Path
    n_rows: int
    id_column: str | None

    def whole(self) -> RawCrystals:
        return read_table(self.named(read_parquet(self.path)), self.path)

    def ids(self) -> Iterator[NDArray[np.object_]]:
        first_row = 0
        for table in self._id_columns():
            yield split_off_ids(table, first_row=first_row)[0]
            first_row += len(table)

    def read(self, size: int, numbers: Collection[int]) -> Iterator[tuple[int, RawCrystals]]:
        last = max(numbers, default=-1)
        # Rows before the last one wanted are decoded in any case: that is fast, parsing is not.
        for number, table in enumerate(iter_tables(self.path, size)):
            if number > last:
                return
            if number in numbers:
                yield number, read_table(self.named(table), self.path, first_row=number * size)

    def named(self, table: "pa.Table") -> "pa.Table":
        """Return the table, its column of ids called as everywhere."""
        names = [ID_COLUMN if name == self.id_column else name for name in table.column_names]
        return table.rename_columns(names)

    def _id_columns(self) -> Iterator[pd.DataFrame]:
        if self.id_column is None:
            starts = range(0, self.n_rows, _IDS_AT_ONCE)
            return (pd.DataFrame(index=range(self.n_rows)[s : s + _IDS_AT_ONCE]) for s in starts)
        tables = iter_tables(self.path, _IDS_AT_ONCE, [self.id_column])
        return (to_frame(self.named(table), self.path) for table in tables)


@dataclass(frozen=True)
class OpenTable:
    """A table none of whose structures is parsed yet.

    Attributes:
        chunks: gives its rows in pieces that can be sent to another process.
        rows: reads them here.
        n_rows: rows, usable or not.
        columns: property columns, without rows.
        units: column -> unit in the file's metadata.
        note: what a user should know about the ids, "" for nothing.
    """

    chunks: Callable[[], Iterator[Chunk]]
    rows: Callable[[], Rows]
    n_rows: int
    columns: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    note: str = ""


def open_table(path: Path, ids: str = AUTO, *, by_chunks: bool = False) -> OpenTable:
    """Open a Parquet, CSV or JSON file; `ids` may name the column with the ids.

    Parquet is read by groups of rows. CSV and JSON are held whole, but for CSV `by_chunks`, of
    which ids and properties are in memory and structures come with their chunk.

    Raises:
        DataError: it cannot be read, or has no structure column or no such id column.
    """
    if ids == PATH:
        raise DataError(f"{path}: --ids path is for files; name a column, or leave it out")
    ending = find_ending(path)
    if ending in _CSV and by_chunks:
        return _open_csv(CsvFile.open(path), ids)
    if ending in _CSV:
        texts = [] if ids == AUTO else [ids]
        return _open_frame(path, CsvFile.open(path).table(texts=texts), ids)
    if ending in TABLE_READERS:
        return _open_frame(path, TABLE_READERS[ending](path), ids)
    return _open_parquet(path, ids)


def _open_parquet(path: Path, ids: str) -> OpenTable:
    with open_parquet(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    refuse_equal_columns(schema.names, str(path))
    found = _choose_ids(
        schema.names, lambda name: read_parquet(path, [name])[name].to_pylist(), ids, path
    )
    rows = _ParquetRows(path, n_rows, found.name)
    empty = rows.named(schema.empty_table())
    _check_ids(empty, path)

    def chunks() -> Iterator[Chunk]:
        for number, table in enumerate(iter_tables(path, SIZE)):
            yield arrow_chunk(rows.named(table), path, number * SIZE)

    units = {
        f.name: f.metadata[b"unit"].decode("utf-8", errors="replace")
        for f in schema
        if b"unit" in (f.metadata or {})
    }
    columns = read_table(empty, path).properties
    return OpenTable(chunks, lambda: rows, n_rows, columns, units, found.note)


def _check_ids(empty: "pa.Table", path: Path) -> None:
    import pyarrow as pa

    kind = empty.schema.field(ID_COLUMN).type if ID_COLUMN in empty.column_names else pa.string()
    if pa.types.is_nested(kind):
        raise DataError(f"{path}: column '{ID_COLUMN}' holds {kind}; ids are text or numbers")


def _choose_ids(
    columns: list[str], cells_of: Callable[[str], Any], ids: str, path: Path
) -> IdColumn:
    """Return the column with the ids: the one that is asked for, or one of the usual names."""
    if ids in (AUTO, ID_COLUMN):
        return find_ids(columns, cells_of)
    if ids not in columns:
        raise DataError(f"{path}: --ids {ids}: no such column{did_you_mean(ids, columns)}")
    if ID_COLUMN in columns:
        raise DataError(f"{path}: --ids {ids}: there is a '{ID_COLUMN}' already; leave --ids out")
    return IdColumn(ids)


def _with_ids(table: pd.DataFrame, ids: str, path: Path) -> tuple[pd.DataFrame, str]:
    names = list(map(str, table.columns))
    found = _choose_ids(names, lambda name: table[name].tolist(), ids, path)
    return table.set_axis(
        [ID_COLUMN if name == found.name else name for name in names], axis="columns"
    ), found.note


def _open_frame(path: Path, table: pd.DataFrame, ids: str) -> OpenTable:
    table, note = _with_ids(table, ids, path)

    def cut(start: int, stop: int) -> RawCrystals:
        return read_structure_table(table.iloc[start:stop], where=str(path), first_row=start)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(table), SIZE):
            rows = table.iloc[start : start + SIZE]
            yield table_chunk(rows, where=str(path), first_row=start)

    columns = cut(0, 0).properties  # the table's columns are refused now rather than in a shard
    held = partial(HeldRows, split_off_ids(table)[0], cut)
    return OpenTable(chunks, held, len(table), columns, note=note)


def _open_csv(file: CsvFile, ids: str) -> OpenTable:
    """Read everything but the structures; they come with their chunk."""
    names, path = file.names or [], file.path
    text = [name for name in TEXT_COLUMNS if name in names]
    others = [name for name in names if name not in text]
    texts = [] if ids == AUTO else [ids]
    if not text or not others:
        return _open_frame(path, file.table(texts=texts), ids)
    table, note = _with_ids(file.table(columns=others, texts=texts), ids, path)

    def chunks() -> Iterator[Chunk]:
        start = 0
        for cells in file.iter_texts(text[0], SIZE):
            rows = table.iloc[start : start + len(cells)].reset_index(drop=True)
            rows[text[0]] = cells.to_numpy(dtype=object)
            yield table_chunk(rows, where=str(path), first_row=start)
            start += len(cells)

    frame = _open_frame(path, table.iloc[:0].assign(**{text[0]: ""}), AUTO)
    return OpenTable(chunks, frame.rows, len(table), frame.columns, note=note)
