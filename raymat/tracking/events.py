"""The event log of a run: one JSON object a line, only ever appended to.

It is the one truth about a run. Every table of the run directory can be rebuilt from it, and a
run that was killed is resumed from it.
"""

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from typing import Any

from raymat.errors import RaymatError, RunError, one_line
from raymat.reading import LOG_BYTES, parse_object
from raymat.tracking.own_files import open_regular

Event = dict[str, Any]


class EventLog:
    """Appends events to a file; one writer at a time (the run's lock sees to that).

    Args:
        path: the file; made if missing. A last line torn by a crash is cut off.

    Raises:
        RunError: what stands there is no event log.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        handle = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._file = os.fdopen(handle, "a+b", buffering=0)  # a full disk leaves nothing in memory
        try:
            _cut_torn_line(self._file, path)
        except RunError:
            self.close()
            raise

    def append(self, event: str, *, durable: bool = False, **values: Any) -> Event:
        """Write one event and give it back.

        Args:
            event: its kind.
            durable: wait until it is on the disk, not only with the operating system.
            values: JSON values; floats that are not finite become null.

        Raises:
            OSError: it cannot be written; the log is then as it was before.
        """
        record: Event = {"event": event, "time": now(), **finite(values)}
        self._write(json.dumps(record, allow_nan=False).encode() + b"\n")
        if durable:
            os.fsync(self._file.fileno())
        return record

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            _write_whole(self._file, line)
        except OSError:
            os.truncate(self._file.fileno(), size)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> list[Event]:
    """Read all whole events of a log; a torn last line is left out, a missing log is empty.

    Raises:
        RunError: another line is damaged.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            content = file.read(LOG_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as cause:
        raise RunError(f"{path}: cannot be read ({one_line(cause)})") from cause
    if len(content) > LOG_BYTES:
        raise RunError(f"{path}: longer than {LOG_BYTES:,} bytes, which no log of a run is")
    lines = content.split(b"\n")[:-1]  # what follows the last newline is torn
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            events.append(_checked(parse_object(line)))
        except ValueError as cause:
            raise RunError(
                f"{path}, line {number}: damaged ({cause}); put the file back from a copy, or"
                " remove the line and resume"
            ) from cause
    return events


def _checked(event: Event) -> Event:
    """Check what every event has.

    Raises:
        ValueError: it lacks its kind, or its time is none.
    """
    if not isinstance(event.get("event"), str):
        raise ValueError("no 'event' that names its kind")  # noqa: TRY004
    if "time" in event:
        datetime.fromisoformat(str(event["time"]))
    return event


@contextmanager
def reading_log(what: str = "events.jsonl") -> Iterator[None]:
    """Turn what a value of the wrong form makes of the code that reads it into a `RunError`.

    Args:
        what: holds the value, for the message.
    """
    try:
        yield
    except RaymatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as cause:
        raise RunError(
            f"{what}: a value is missing or of the wrong form ({type(cause).__name__}:"
            f" {one_line(cause)}); put the file back from a copy"
        ) from cause


def now() -> str:
    """Give the present time, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _write_whole(file: RawIOBase, line: bytes) -> None:
    if file.write(line) != len(line):  # a disk that fills up takes what still fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def finite(value: Any) -> Any:
    """Give a JSON value in which floats that are not finite are null, and text can be encoded."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and not value.isascii():  # a file's name may be in another encoding
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _cut_torn_line(file: RawIOBase, path: Path) -> None:
    """Cut off what follows the last line break, once the file is seen to be an event log."""
    file.seek(0)
    content = file.readall() or b""
    if os.fstat(file.fileno()).st_nlink > 1:
        raise RunError(f"{path}: has a second name (a hard link); put a copy in its place")
    first = content.partition(b"\n")
    if content and not (_is_event(first[0]) if first[1] else content.startswith(_BEGINNING)):
        raise RunError(f"{path}: not an event log of raymat; put the file back from a copy")
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file.fileno(), whole)


_BEGINNING = b"{"  # of a log whose first line is torn


def _is_event(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("event"), str)
