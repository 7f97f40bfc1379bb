"""The event log of a run: one JSON object a line, only ever appended to.

It is the one truth about a run. Every table of the run directory can be rebuilt from it, and a
run that was killed is resumed from it.
"""

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventLog:
    """Appends events to a file; one writer at a time (the run's lock sees to that).

    Args:
        path: the file; made if missing. A last line torn by a crash is cut off.
    """

    def __init__(self, path: Path) -> None:
        _cut_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, event: str, *, durable: bool = False, **values: Any) -> Event:
        """Write one event and give it back.

        Args:
            event: its kind.
            durable: wait until it is on the disk, not only with the operating system.
            values: JSON values; floats that are not finite become null.
        """
        record: Event = {"event": event, "time": now(), **_finite(values)}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        return record

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> list[Event]:
    """Read all whole events of a log; a torn last line is left out, a missing log is empty."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
    return [json.loads(line) for line in lines if line.strip()]


def now() -> str:
    """Give the present time, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
