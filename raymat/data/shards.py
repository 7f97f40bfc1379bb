"""Crystals of any number, a shard of checked rows at a time, in memory that does not grow.

Shard k holds rows ``k * size`` to ``(k + 1) * size - 1`` of the source, usable or not, so the same
source has the same shards whenever it is read, and whichever of them are left out.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.checks import Checked, check_rows, find_column, read_target, target_numbers
from raymat.data.crystals import CrystalSet
from raymat.data.raw import RawCrystals
from raymat.data.readers import SourceFacts, list_rejected
from raymat.data.shard_sources import ShardSource, count_shards, open_source
from raymat.properties import Property, find_property

SHARD_SIZE = 2000
"""Rows in a shard, where the caller names no other number."""


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of a source, checked.

    Attributes:
        number: position of the shard in its source, from 0.
        crystals: the usable rows, perhaps none, with every property column as it stands.
        rejected: ``material_id``, ``reason``; one line for every other row, in source order.
        rows: (n_usable,) row of each crystal in the source, counted from 0.
        prop: the target as the whole source has it; numbers 0 and 1 are not yet a class.
    """

    number: int
    crystals: CrystalSet
    rejected: pd.DataFrame
    rows: NDArray[np.int64]
    prop: Property | None = None

    @property
    def n_rows(self) -> int:
        """Rows of the source in this shard."""
        return len(self.crystals) + len(self.rejected)


def count_candidates(source: str) -> int:
    """Count the rows of a source, usable or not, without parsing a structure.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    return open_source(source).n_rows


def describe_source(source: str) -> SourceFacts:
    """Give a source's name, path, SHA-256 and number of rows, without parsing a structure.

    The hash is the one that `load_crystals` gives to the same source; that of a folder without
    ``id_prop.csv`` covers the names and contents of its CIF files.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    return open_source(source).facts()


def iter_shards(
    source: str, *, size: int = SHARD_SIZE, skip: Collection[int] = frozenset()
) -> Iterator[Shard]:
    """Read and check a source, shard by shard; the rows kept are those `load_crystals` keeps.

    Parquet is read a shard at a time, and the files of a folder are opened when their shard is
    due. CSV and JSON are held whole, as text, and only their structures are parsed by shard. Of
    every row, 8 bytes are kept, so that an id met again is rejected in whichever shard it stands.

    Args:
        source: what `load_crystals` reads, or a folder of CIF files without ``id_prop.csv``; the
            files' names are then the ids.
        size: rows in a shard.
        skip: numbers of shards not to give. They are not parsed either, unless they hold an id
            that a given shard holds, too.

    Raises:
        DataError: the source cannot be used as a whole, or, while shards are given, rows of the
            file cannot be read.
    """
    return read_shards(open_source(source), size=size, skip=skip, where=source)


def read_shards(
    opened: ShardSource,
    *,
    where: str,
    size: int = SHARD_SIZE,
    skip: Collection[int] = frozenset(),
    target: str | None = None,
) -> Iterator[Shard]:
    """Read and check an open source, shard by shard; see `iter_shards`.

    Args:
        opened: the source.
        where: what to call it in a message.
        size: rows in a shard.
        skip: numbers of shards not to give.
        target: property column that must hold usable numbers, as for `load_crystals`.

    Raises:
        DataError: no such target column, or it holds text that is no two classes.
    """
    checker = _Checker(opened, target, where, size)
    return _give(opened, _plan(opened, size, skip), checker, size=size)


@dataclass(frozen=True)
class _Plan:
    """Which shards are given and which are read, and what their duplicates are known by.

    Attributes:
        given: numbers of the shards to give.
        read: these, and the skipped ones that decide which row of an id is the first usable one.
        repeated: (k,) hashes of the ids that stand in more than one row, ascending.
    """

    given: frozenset[int]
    read: frozenset[int]
    repeated: NDArray[np.int64]


def _plan(source: ShardSource, size: int, skip: Collection[int]) -> _Plan:
    given = frozenset(range(count_shards(source.n_rows, size))) - frozenset(skip)
    hashes = np.concatenate([_hashes(ids) for ids in source.ids()])
    values, counts = np.unique(hashes, return_counts=True)
    repeated = values[counts > 1]
    rows = np.flatnonzero(np.isin(hashes, repeated))
    shards = rows // size
    is_given = np.isin(shards, list(given))
    decides = ~is_given & np.isin(hashes[rows], hashes[rows[is_given]])
    return _Plan(given, given | frozenset(shards[decides].tolist()), repeated)


class _Checker:
    """Checks shard after shard, with the target as the whole source has it."""

    def __init__(self, opened: ShardSource, target: str | None, where: str, size: int) -> None:
        self.opened, self.target, self.where, self.size = opened, target, where, size
        self.prop: Property | None = None

    def check(self, raw: RawCrystals, taken: set[str]) -> Checked:
        if self.target is not None and self.prop is None:
            self.prop = self._find_target(raw, self.target)
        return check_rows(raw, self.target, where=self.where, earlier_ids=taken, prop=self.prop)

    def _find_target(self, first: RawCrystals, target: str) -> Property:
        """Find what the target is: numbers in the first shard tell, else all shards are read."""
        seen = [find_column(first.properties, target, where=self.where)]
        if np.isfinite(target_numbers(seen[0])).any():
            return find_property(target)
        shards = range(1, count_shards(self.opened.n_rows, self.size))
        for _, raw in self.opened.read(self.size, shards):
            seen.append(find_column(raw.properties, target, where=self.where))
        column = pd.concat(seen, ignore_index=True)
        return read_target(column, target_numbers(column), first.properties, where=self.where)


def _give(source: ShardSource, plan: _Plan, checker: _Checker, *, size: int) -> Iterator[Shard]:
    taken: set[str] = set()  # of the repeated ids, those that had a usable row
    for number, raw in source.read(size, plan.read):
        checked = checker.check(raw, taken)
        usable = raw.material_ids[checked.usable]
        taken.update(usable[np.isin(_hashes(usable), plan.repeated)])
        if number in plan.given:
            crystals = raw.select(checked.usable, checked.properties)
            rows = number * size + np.arange(len(raw.material_ids))[checked.usable]
            yield Shard(number, crystals, list_rejected(raw, checked), rows, checker.prop)


def _hashes(ids: NDArray[np.object_]) -> NDArray[np.int64]:
    # Two ids with one hash cost a look at the ids themselves and change nothing.
    return np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
