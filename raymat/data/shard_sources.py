"""Rows of a source, a shard at a time: what is held meanwhile depends on the kind of source."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.builtin import BUILTIN
from raymat.data.cif_folder import open_folder, open_listed_folder
from raymat.data.parquet_reader import iter_tables, open_parquet, read_table, to_frame
from raymat.data.raw import ID_COLUMN, RawCrystals, split_off_ids
from raymat.data.readers import (
    SourceFacts,
    facts_of_builtin,
    facts_of_file,
    facts_of_folder,
    find_ending,
    refuse_empty,
)
from raymat.data.structure_parser import read_structure_table
from raymat.data.table_reader import TABLE_READERS

_IDS_AT_ONCE = 50_000


class ShardSource(Protocol):
    """A source that can be read in shards of consecutive rows."""

    @property
    def n_rows(self) -> int:
        """Rows, usable or not."""
        ...

    def facts(self) -> SourceFacts:
        """Name, path, hash and number of rows; reads every byte, parses nothing."""
        ...

    def ids(self) -> Iterator[NDArray[np.object_]]:
        """Give the ids of all rows in order, some at a time, without their structures."""
        ...

    def read(self, size: int, numbers: Collection[int]) -> Iterator[tuple[int, RawCrystals]]:
        """Give these shards of `size` rows in order; only they are parsed."""
        ...


def open_source(source: str, target: str | None = None) -> ShardSource:
    """Find out what kind of source this is, and whether it has rows and structure columns.

    Args:
        source: what `iter_shards` reads.
        target: the property column that is asked for. A folder of CIF files then needs its
            ``id_prop.csv``, whose column has no other name.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    opened = _open(source, target)
    refuse_empty(opened.n_rows, source)
    return opened


def count_shards(n_rows: int, size: int) -> int:
    """Give the number of shards of `size` rows; the last may be shorter."""
    return -(-n_rows // size)


@dataclass(frozen=True)
class _WholeSource:
    """Ids and properties in memory at once; `cut` parses the structures from a row up to another.

    Attributes:
        material_ids: (n,) object array of str.
        cut: gives the raw crystals of rows ``start`` to ``stop - 1``.
        facts: describes the source.
    """

    material_ids: NDArray[np.object_]
    cut: Callable[[int, int], RawCrystals]
    facts: Callable[[], SourceFacts]

    @property
    def n_rows(self) -> int:
        return len(self.material_ids)

    def ids(self) -> Iterator[NDArray[np.object_]]:
        yield self.material_ids

    def read(self, size: int, numbers: Collection[int]) -> Iterator[tuple[int, RawCrystals]]:
        for number in sorted(numbers):
            yield number, self.cut(number * size, min((number + 1) * size, self.n_rows))


@dataclass(frozen=True)
class _ParquetSource:
    """A file of any size, of which no more than two shards are in memory."""

    path: Path
    n_rows: int
    has_ids: bool

    def facts(self) -> SourceFacts:
        return facts_of_file(self.path, self.n_rows)

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
                yield number, read_table(table, self.path, first_row=number * size)

    def _id_columns(self) -> Iterator[pd.DataFrame]:
        if not self.has_ids:
            starts = range(0, self.n_rows, _IDS_AT_ONCE)
            return (pd.DataFrame(index=range(self.n_rows)[s : s + _IDS_AT_ONCE]) for s in starts)
        return map(to_frame, iter_tables(self.path, _IDS_AT_ONCE, [ID_COLUMN]))


def _open(source: str, target: str | None) -> ShardSource:
    if source in BUILTIN:
        raw = BUILTIN[source]()
        return _WholeSource(raw.material_ids, raw.cut, partial(facts_of_builtin, source, raw))
    path = Path(source).expanduser()
    if path.is_dir():
        folder = open_folder(path) if target is None else open_listed_folder(path, target)
        return _WholeSource(folder.material_ids, folder.read, partial(facts_of_folder, folder))
    table_reader = TABLE_READERS.get(find_ending(path))
    return _open_parquet(path) if table_reader is None else _open_table(path, table_reader(path))


def _open_parquet(path: Path) -> _ParquetSource:
    with open_parquet(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    read_table(schema.empty_table(), path)  # its columns are refused now rather than in a shard
    return _ParquetSource(path, n_rows, has_ids=ID_COLUMN in schema.names)


def _open_table(path: Path, table: pd.DataFrame) -> _WholeSource:
    def cut(start: int, stop: int) -> RawCrystals:
        return read_structure_table(table.iloc[start:stop], where=str(path), first_row=start)

    cut(0, 0)  # its columns are refused now rather than in a shard
    return _WholeSource(split_off_ids(table)[0], cut, partial(facts_of_file, path, len(table)))
