"""The files of a screened shard, and how all of them are read again."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pandas as pd

from raymat.data.writers import atomic_file
from raymat.errors import DataError, RunError, one_line
from raymat.screening.plain_columns import common_schema, plain_columns
from raymat.screening.shard import ScreenedShard
from raymat.tracking.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")
SHARDS = "shards"  # folder in the run
SHARD_ENDED = "shard_ended"  # event that tells the rows of its files
TABLE, EXCLUDED, MEMBERS = "table", "excluded", "members"
IS_REJECTED = "is_rejected"  # column of the excluded: the row is no usable crystal
_COUNTS = {TABLE: "judged", EXCLUDED: "excluded", MEMBERS: "spoken_for"}  # in the event


@dataclass(frozen=True)
class StoredShards:
    """The shards of a run that have ended, as they were logged.

    Attributes:
        run: the run directory.
        logged: number -> what the log says of it, ascending.
    """

    run: Path
    logged: Mapping[int, Event]

    @classmethod
    def of(cls, run: Path, events: Iterable[Event]) -> Self:
        """Find the shards in a run's events; one that was screened again counts once."""
        ended = {event["shard"]: event for event in events if event["event"] == SHARD_ENDED}
        return cls(run, dict(sorted(ended.items())))

    def check_complete(self, n_shards: int) -> None:
        """Check that every shard has ended.

        Raises:
            RunError: one has not.
        """
        for number in range(n_shards):
            if number not in self.logged:
                raise RunError(f"{self.run}: shard {number} has not ended; {_advice(self.run)}")

    def read(self, kind: str) -> Iterator[pd.DataFrame]:
        """Give one table of every shard, in the order of the shards.

        Raises:
            RunError: a file is missing, damaged, or has not the rows that were logged.
        """
        for number, event in self.logged.items():
            yield _read(self.run, number, kind, event.get(_COUNTS[kind]))

    def schema(self, kind: str) -> "pa.Schema":
        """Give the columns of one table in all shards that have rows of it.

        Raises:
            RunError: a file is missing or damaged.
        """
        import pyarrow.parquet as pq

        return common_schema(
            _read_with(pq.read_schema, self.run, number, kind)
            for number, event in self.logged.items()
            if event.get(_COUNTS[kind]) != 0
        )

    def damage(self) -> dict[int, str]:
        """Give the shards that cannot be used -> why."""
        found = {}
        for number, event in self.logged.items():
            try:
                for kind, count in _COUNTS.items():
                    _read(self.run, number, kind, event.get(count))
            except RunError as problem:
                found[number] = str(problem).partition("; ")[0]
        return found

    def without(self, numbers: Iterable[int]) -> "StoredShards":
        """Leave some shards out."""
        left = set(self.logged) - set(numbers)
        return StoredShards(self.run, {n: e for n, e in self.logged.items() if n in left})

    def total(self, count: str) -> int:
        """Give the sum of what was counted in the shards."""
        return sum(event[count] for event in self.logged.values())


def write_shard(
    run: Path, number: int, screened: ScreenedShard, rejected: pd.DataFrame
) -> dict[str, Any]:
    """Write a shard's tables, each whole or not at all, and give its counts.

    Args:
        run: the run directory.
        number: of the shard.
        screened: what it came to.
        rejected: rows that are no usable crystals: ``material_id, reason``.

    Raises:
        RunError: they cannot be written.
    """
    unusable = rejected.assign(formula=None)[["material_id", "formula", "reason"]]
    excluded = pd.concat([screened.excluded, unusable.astype(object)], ignore_index=True)
    excluded[IS_REJECTED] = np.arange(len(excluded)) >= len(screened.excluded)
    content = {TABLE: screened.table, EXCLUDED: excluded, MEMBERS: screened.members}
    with suppress(OSError):  # told by the first file that cannot be written
        (run / SHARDS).mkdir(exist_ok=True)
    for kind, table in content.items():
        try:
            with atomic_file(shard_path(run, number, kind)) as path:
                write_parquet(table, path)
        except DataError as cause:  # nothing is wrong with the candidates
            raise RunError(str(cause)) from cause
    return {
        **{count: len(content[kind]) for kind, count in _COUNTS.items()},
        "rejected": len(rejected),
        "member_atoms": screened.n_member_atoms,
        "predict_time_s": screened.predict_time_s,
    }


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table, columns of mixed kind as text.

    Raises:
        RunError: Parquet cannot hold it.
        OSError: the file cannot be written.
    """
    import pyarrow as pa

    try:
        plain_columns(table).to_parquet(path, index=False)
    except pa.ArrowException as cause:
        raise RunError(f"{path}: cannot be written as Parquet ({_one_line(cause)})") from cause


def shard_path(run: Path, number: int, kind: str) -> Path:
    """Give the path of one table of a shard."""
    return run / SHARDS / f"{number:06d}-{kind}.parquet"


def _read(run: Path, number: int, kind: str, n_rows: int | None) -> pd.DataFrame:
    path = shard_path(run, number, kind)
    table = _read_with(pd.read_parquet, run, number, kind)
    if n_rows is not None and len(table) != n_rows:
        raise RunError(
            f"{path}: this file of shard {number} has {len(table)} rows, {n_rows} were logged;"
            f" {_advice(run)}"
        )
    return table


def _read_with(read: Callable[[Path], _T], run: Path, number: int, kind: str) -> _T:
    """Read one file of a shard, and say which it is if that cannot be done."""
    import pyarrow as pa

    path = shard_path(run, number, kind)
    try:
        return read(path)
    except FileNotFoundError:
        raise RunError(f"{path}: this file of shard {number} is missing; {_advice(run)}") from None
    except (OSError, pa.ArrowException) as cause:
        raise RunError(
            f"{path}: this file of shard {number} cannot be read ({_one_line(cause)});"
            f" {_advice(run)}"
        ) from cause


def _advice(run: Path) -> str:
    return f"`raymat resume {shlex.quote(str(run))}` screens the shard again"


def _one_line(cause: Exception) -> str:
    return one_line(cause).replace("; ", ", ")
