"""A run directory: who holds it, what it is, how it went."""

import fcntl
import json
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from raymat.errors import RaymatError, RunError
from raymat.reading import check_types, read_json
from raymat.tracking.events import Event, EventLog, finite, now, read_events
from raymat.tracking.known_addresses import check_address
from raymat.tracking.own_files import open_regular, refuse_links

Status = Literal["running", "complete", "interrupted", "failed"]
# Hears of every event; what it gives back is a warning, which the run's log keeps.
Listener = Callable[[Event], str | None]
# Events from which on a run has work to lose.
BEGINNINGS = (
    "search_started",
    "trial_started",
    "cell_started",
    "member_started",
    "classifiers_started",
    "contributions_started",
    "screening_started",  # tasks may write their files before the first of them has ended
)
_LOCK_ATTEMPTS, _LOCK_WAIT_S = 3, 0.1
PACKAGES = (
    "raymat",
    "ray",
    "torch",
    "optuna",
    "numpy",
    "scipy",
    "pymatgen",
    "dscribe",
    "scikit-learn",
    "pandas",
)


_EMPTY: dict[str, Any] = {"arguments": {}, "argv": []}  # what stands for what is missing
# Of what `run.json` may hold.
_TYPES: dict[str, type] = {
    **dict.fromkeys(("command", "status", "started", "host", "target", "unit", "task"), str),
    **dict.fromkeys(("arguments", "data", "split", "ensemble_sha256"), dict),
    "argv": list,
    "seed": int,
    "threshold": float,
}


class RunDirectory:
    """One run's folder, held by one process at a time.

    Use as a context manager: leaving it records how the run went in `run.json` (complete;
    interrupted after Ctrl-C; failed after any other exception) and gives the folder free.

    A new run that ends before any training began, because what was asked for cannot be done,
    leaves nothing behind: the corrected command may use the same folder.

    Args:
        path: the folder.
        listeners: called with every event, logged or passing.
    """

    def __init__(self, path: Path, *, listeners: tuple[Listener, ...] = ()) -> None:
        self.path = path.absolute()
        self.listeners = listeners
        self._is_worth_keeping = True
        self._lock = _lock(self.path)
        try:
            self._log = EventLog(self.path / "events.jsonl")
        except (OSError, RunError) as cause:
            os.close(self._lock)
            if isinstance(cause, RunError):
                raise
            raise _cannot_write(self.path, cause) from cause

    @classmethod
    def create(
        cls, path: Path, header: dict[str, Any], *, listeners: tuple[Listener, ...] = ()
    ) -> Self:
        """Make a new run directory with a `run.json`.

        Raises:
            RunError: the folder exists and is not empty, or cannot be made or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(not _is_false_start(file) for file in path.iterdir())
        except OSError as cause:
            raise _cannot_write(path, cause) from cause
        if taken:
            raise RunError(f"{path}: the folder exists and is not empty; {_advice(path)}")
        run = cls(path, listeners=listeners)
        if (path / "run.json").exists():  # another process has made one, and ended, just now
            run._close()
            raise RunError(f"{path}: the folder exists and is not empty; {_advice(path)}")
        run._is_worth_keeping = False
        try:
            run.write_header({**header, "status": "running", "started": now(), **_machine()})
        except RunError:
            run._close()
            _remove_files(path)  # a second try must not stumble over a half-made run
            raise
        return run

    @classmethod
    def reopen(
        cls, path: Path, *, listeners: tuple[Listener, ...] = (), is_part: bool = False
    ) -> Self:
        """Take up an existing run directory.

        Args:
            path: the folder.
            listeners: called with every event.
            is_part: of a run that is at work already, as a cell of a comparison is; it connects to
                no cluster of its own.

        Raises:
            RunError: it is not one, another process is at work in it, or it would connect to a
                cluster that the user has never named.
        """
        arguments = read_header(path).get("arguments")
        if not is_part and isinstance(arguments, dict):
            check_address(arguments.get("address"), path)
        run = cls(path, listeners=listeners)
        try:
            run.update_header(status="running", resumed=now())
        except RunError:
            run._close()
            raise
        return run

    def emit(self, event: str, *, durable: bool = False, **values: Any) -> None:
        """Log an event and tell the listeners.

        Raises:
            RunError: the log cannot be written.
        """
        try:
            record = self._log.append(event, durable=durable, **values)
        except OSError as cause:
            raise _cannot_write(self.path, cause) from cause
        self._is_worth_keeping |= event in BEGINNINGS
        self._tell(record)

    def mention(self, event: str, **values: Any) -> None:
        """Tell the listeners something passing that is not logged, such as progress."""
        self._tell({"event": event, "time": now(), **values})

    def events(self) -> list[Event]:
        """Read all events logged so far."""
        return read_events(self.path / "events.jsonl")

    @property
    def header(self) -> dict[str, Any]:
        """The content of `run.json`."""
        return read_header(self.path)

    def write_header(self, header: dict[str, Any]) -> None:
        """Replace `run.json`."""
        self.write_json("run.json", header)

    def update_header(self, **values: Any) -> None:
        """Change some keys of `run.json`."""
        self.write_header({**self.header, **values})

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file of the run; floats that are not finite become null.

        Raises:
            RunError: it cannot be written.
        """
        text = json.dumps(finite(content), indent=2, default=str, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write one file of the run, whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        with self.replacing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def replacing(self, name: str) -> "_Replacing":
        """Give a temporary path that takes the name of a file when the block ends well.

        Raises:
            RunError: the block could not write it.
        """
        return _Replacing(self.path / name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, RaymatError) and not self._is_worth_keeping and not self._has_runs():
            self._close()
            _remove_files(self.path)
            return
        status: Status = "complete"
        if kind is not None:
            status = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        try:
            self.update_header(
                status=status, ended=now(), error=None if status == "complete" else str(error)
            )
            self.emit("run_ended", durable=True, status=status)
        except RunError:
            if error is None:  # a full disk that already ended the run must not hide its cause
                raise
        finally:
            self._close()

    def _has_runs(self) -> bool:
        """Say whether runs of its own lie in the folder, as in that of a series."""
        return any((folder / "run.json").exists() for folder in self.path.iterdir())

    def _close(self) -> None:
        try:
            self._log.close()
        finally:
            os.close(self._lock)

    def _tell(self, record: Event) -> None:
        for listener in self.listeners:
            problem = listener(record)
            if problem is not None:
                self.emit("warning", text=problem)


class _Replacing:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as cause:
            raise _cannot_write(self.path.parent, cause) from cause
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if kind is None:
            try:
                self.temporary.chmod(0o644)
                self.temporary.replace(self.path)
            except OSError as cause:
                error = cause
            else:
                return
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(self.path.parent, error) from error


def safe_name(text: str) -> str:
    """Give a text as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "_", text)


def read_header(path: Path) -> dict[str, Any]:
    """Read the `run.json` of a run directory.

    Raises:
        RunError: there is none, it cannot be read, or a link leads out of the folder.
    """
    file = path / "run.json"
    refuse_links(path)
    try:
        content = read_json(file)
        check_types(content, {}, _TYPES)
    except FileNotFoundError:
        raise RunError(f"{path}: not a run directory (no run.json in it)") from None
    except (OSError, ValueError) as cause:
        raise RunError(f"{file}: cannot be read ({cause})") from cause
    return {**content, **{key: content.get(key) or empty for key, empty in _EMPTY.items()}}


def amend_arguments(path: Path, changes: dict[str, Any]) -> None:
    """Change how an interrupted run is continued, such as on which cluster; also of runs within.

    An argument that the run's command does not have stays unknown.

    Raises:
        RunError: it is no run directory, or another process is at work in it.
    """
    header = read_header(path)
    arguments = header.get("arguments", {})
    for given in (arguments, *arguments.get("properties", ())):
        given.update({key: value for key, value in changes.items() if key in given})
    lock = _lock(path)
    try:
        with _Replacing(path / "run.json") as temporary:
            temporary.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    finally:
        os.close(lock)
    for folder in sorted(path.iterdir()):
        if (folder / "run.json").exists():
            amend_arguments(folder, changes)


def package_versions() -> dict[str, str]:
    """Give the installed version of Python and of every package that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _advice(path: Path) -> str:
    try:
        status = read_header(path).get("status")
    except RunError:
        return "choose another --out"
    if status == "complete":
        return "it holds a complete run; choose another --out"
    return f"continue it with `raymat resume {shlex.quote(str(path))}`, or choose another --out"


def _is_false_start(file: Path) -> bool:
    """Say whether a file may be left of a run that was killed before it had a `run.json`."""
    return file.name == ".lock" or (file.name == "events.jsonl" and file.stat().st_size == 0)


def _remove_files(path: Path) -> None:
    for file in path.iterdir():
        if file.is_file():
            file.unlink()
    with suppress(OSError):  # it may have been there before us, or be the mount of a disk
        path.rmdir()


def _machine() -> dict[str, Any]:
    return {
        "versions": package_versions(),
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "argv": sys.argv[1:],
    }


def _lock(path: Path) -> int:
    # The kernel frees the lock when the process ends, however it ends.
    try:
        handle = open_regular(path / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as cause:
        raise _cannot_write(path, cause) from cause
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            if attempt == _LOCK_ATTEMPTS - 1:
                os.close(handle)
                message = f"{path}: another raymat process is at work in this folder"
                raise RunError(message) from cause
            time.sleep(_LOCK_WAIT_S)  # `raymat status` may look at it just now
        else:
            break
    return handle


def _cannot_write(path: Path, cause: OSError) -> RunError:
    reason = cause.strerror or str(cause)
    return RunError(f"{path}: cannot be written ({reason}); free it or choose another --out")
