"""The files of a run directory, as they were left: perhaps by a run that is still at work."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from raymat.data.writers import read_own_csv
from raymat.errors import RunError, one_line
from raymat.reading import read_json, regular_file
from raymat.tracking.events import Event, read_events
from raymat.tracking.run_directory import read_header

_ROWS_AT_ONCE = 10_000
# What readers of files raise when these are cut off or are something else.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException, RunError)


@dataclass(frozen=True)
class RunFiles:
    """One run directory.

    Attributes:
        path: the folder.
        header: content of `run.json`.
    """

    path: Path
    header: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "RunFiles":
        """Look at a folder.

        Raises:
            RunError: it is no run directory.
        """
        return cls(path, read_header(path))

    @cached_property
    def events(self) -> list[Event]:
        """The event log."""
        return read_events(self.path / "events.jsonl")

    def last(self, kind: str) -> Event | None:
        """Give the last event of a kind, if there is one."""
        return next((e for e in reversed(self.events) if e["event"] == kind), None)

    def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return (self.path / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file; empty if it is not there yet.

        Raises:
            RunError: it is damaged.
        """
        if not self.has(name):
            return {}
        try:
            return read_json(self.path / name)
        except DAMAGE as cause:
            raise self._damaged(name, cause) from cause

    def table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read a Parquet or CSV file.

        Args:
            name: of the file.
            columns: those to read; None for all.

        Raises:
            RunError: it is not there, damaged, or lacks a column.
        """
        path = self.path / name
        try:
            if path.suffix == ".parquet":
                return pd.read_parquet(regular_file(path), columns=columns)
            return read_own_csv(path, usecols=columns)
        except FileNotFoundError as cause:
            raise RunError(f"{path} is not there") from cause
        except DAMAGE as cause:
            raise self._damaged(name, cause) from cause

    def first_rows(self, name: str, n: int) -> pd.DataFrame:
        """Read the first rows of a Parquet file, however long it is.

        Raises:
            RunError: it is not there, or damaged.
        """
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(regular_file(self.path / name)) as file:
                found: list[pa.RecordBatch] = []
                for batch in file.iter_batches(min(n, _ROWS_AT_ONCE)):
                    found.append(batch)
                    if sum(map(len, found)) >= n:
                        break
                whole = pa.Table.from_batches(found, schema=file.schema_arrow)
                table: pd.DataFrame = whole.slice(0, n).to_pandas()
                return table
        except FileNotFoundError as cause:
            raise RunError(f"{self.path / name} is not there") from cause
        except DAMAGE as cause:
            raise self._damaged(name, cause) from cause

    def _damaged(self, name: str, cause: Exception) -> RunError:
        reason = one_line(cause)
        return RunError(f"{self.path / name} cannot be read: {reason[:200]}")
