"""Crystals of any number, a shard of checked rows at a time, in memory that does not grow.

Shard k holds rows ``k * size`` to ``(k + 1) * size - 1`` of the source, usable or not, so the same
source has the same shards whenever it is read, and whichever of them are left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.checks import Checked, check_rows, find_task, target_column, target_numbers
from raymat.data.crystals import CrystalSet
from raymat.data.facts import SourceFacts
from raymat.data.files.source import open_source
from raymat.data.files.tables import Rows
from raymat.data.raw import RawCrystals
from raymat.data.readers import list_rejected, refuse_empty
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


@dataclass(frozen=True)
class ShardSource:
    """A source that is open.

    Attributes:
        name: as the user gave it.
        rows: reads it.
        facts: name, path, hash and number of rows.
        units: column -> unit that the source says of it.
    """

    name: str
    rows: Rows
    facts: SourceFacts
    units: Mapping[str, str]


def open_shards(source: str, target: str | None = None) -> ShardSource:
    """Open a source; tables and listed folders are read later, shard by shard.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    opened = open_source(source, target=target)
    rows = opened.open_rows()
    refuse_empty(rows.n_rows, source)
    return ShardSource(source, rows, opened.facts_of(rows.ids()), opened.units)


def iter_shards(
    source: str | ShardSource,
    *,
    size: int = SHARD_SIZE,
    skip: Collection[int] = frozenset(),
    target: str | None = None,
    on_note: Callable[[str], None] = lambda _note: None,
) -> Iterator[Shard]:
    """Read and check a source, shard by shard; the rows kept are those `load_crystals` keeps.

    Parquet is read a shard at a time, and the files of a folder with ``id_prop.csv`` are opened
    when their shard is due. CSV and JSON are held whole, as text, and only their structures are
    parsed by shard; what else `open_source` opens is parsed at once. Of every row, 8 bytes are
    kept, so that an id met again is rejected in whichever shard it stands.

    Args:
        source: what `load_crystals` reads, perhaps open already.
        size: rows in a shard.
        skip: numbers of shards not to give. They are not parsed either, unless they hold an id
            that a given shard holds, too.
        target: property column that must hold usable numbers, as for `load_crystals`.
        on_note: told where the target came from, if not from a column of its name.

    Raises:
        DataError: the source cannot be used as a whole, or, while shards are given, rows of the
            file cannot be read; no such target column, or it holds text that is no two classes.
    """
    opened = open_shards(source, target) if isinstance(source, str) else source
    checker = _Checker(target, opened, on_note, size)
    return _give(opened.rows, _plan(opened.rows, size, skip), checker, size=size)


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


def _plan(source: Rows, size: int, skip: Collection[int]) -> _Plan:
    given = frozenset(range(-(-source.n_rows // size))) - frozenset(skip)
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

    def __init__(
        self, target: str | None, source: ShardSource, on_note: Callable[[str], None], size: int
    ) -> None:
        self.target, self.source, self.size = target, source, size
        self.on_note, self.note = on_note, ""
        self.prop: Property | None = None

    def check(self, raw: RawCrystals, taken: set[str]) -> Checked:
        if self.target is not None and self.prop is None:
            self.prop = self._find_target(raw, self.target)
        checked = check_rows(
            raw,
            self.target,
            where=self.source.name,
            units=self.source.units,
            earlier_ids=taken,
            prop=self.prop,
        )
        if checked.note != self.note:
            self.note = checked.note
            self.on_note(self.note)
        return checked

    def _find_target(self, first: RawCrystals, target: str) -> Property:
        """Find what the target is: numbers in the first shard tell, else all shards are read."""
        where, rows = self.source.name, self.source.rows
        seen = [target_column(first.properties, target, where=where)]
        if not np.isfinite(target_numbers(seen[0])).any():
            shards = range(1, -(-rows.n_rows // self.size))
            for _, raw in rows.read(self.size, frozenset(shards)):
                seen.append(target_column(raw.properties, target, where=where))
            column = pd.concat(seen, ignore_index=True)
            prop = find_task(column, target_numbers(column), first.properties, where=where)
            if column.name == target:
                return prop
        return find_property(target)


def _give(source: Rows, plan: _Plan, checker: _Checker, *, size: int) -> Iterator[Shard]:
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
