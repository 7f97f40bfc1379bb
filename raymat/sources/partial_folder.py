"""The folder beside an output in which it grows, ``OUT.partial``: held by one process, and resumed.

What is finished lies in it as files that appear whole. A process may be killed at any instant; the
same command goes on with what is there, and another command is refused.
"""

import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raymat.data.writers import atomic_file
from raymat.errors import DataError, RunError

_FACTS, _LOCK = "command.json", ".lock"
_PARTS = "parts"  # the fact that says what their names are like
SOURCE_FACTS = ("sha256", "listing")
"""Facts that tell what a source held, rather than what was asked of it."""
_SHOWN = 60  # characters of a fact in a message
_TRIES = 100  # at a folder that others remove at the very moment it is taken


def partial_folder(out: Path) -> Path:
    """Give the folder in which an output grows."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def hold_partial(out: Path, facts: Mapping[str, Any], *, finished: str) -> Iterator[Path]:
    """Give the folder of an output, new or left by the same command; empty, it does not stay.

    Args:
        out: the file that will be.
        facts: everything that decides what the parts hold, as JSON values.
        finished: pattern of the names of finished parts.

    Raises:
        DataError: it holds parts of another command, or cannot be made or locked.
        RunError: another process is at work in it.
    """
    folder = partial_folder(out)
    with _holding(folder) as lock:
        _refuse_others(folder, finished)
        try:
            _check_facts(folder, json.loads(json.dumps(dict(facts))), finished)
            yield folder
        finally:
            is_ours = _is_at(lock, folder / _LOCK)  # not if the block removed it: then of the next
            if is_ours and not any(folder.glob(finished)):
                remove_partial(folder)


@contextmanager
def hold_folder(folder: Path) -> Iterator[Path]:
    """Hold a folder while the block lasts, whatever is in it; it is made if it is not there.

    Raises:
        DataError: it cannot be made or locked.
        RunError: another process is at work in it.
    """
    with _holding(folder):
        yield folder


@contextmanager
def _holding(folder: Path) -> Iterator[int]:
    lock = _hold(folder)
    try:
        yield lock
    finally:
        os.close(lock)  # and with it the lock


def remove_partial(folder: Path) -> None:
    """Remove a folder that this process holds, and no longer holds then.

    Its parts go first, then the word of whose they are, so that no kill leaves parts without an
    owner. The lock goes last: who takes the folder after that finds nothing that is still removed.
    """
    kept = (folder / _FACTS, folder / _LOCK)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in kept:
            _remove(path)
    with suppress(OSError):
        for path in kept:
            path.unlink(missing_ok=True)
        folder.rmdir()


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes left of a file that `atomic_file` was to write.

    Only for who holds the folder of that output: nobody else writes it then.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.tmp"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _hold(folder: Path) -> int:
    """Give the lock of a folder, taken."""
    for _ in range(_TRIES):
        lock = _open_lock(folder)
        if lock is None:
            continue
        try:
            _lock(lock, folder)
            if _is_at(lock, folder / _LOCK):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # of a folder that its holder removed meanwhile
    raise RunError(f"{folder}: other processes make and remove this folder all the time")


def _open_lock(folder: Path) -> int | None:
    """Open the lock; None if the folder went away in between."""
    try:
        with suppress(FileExistsError):
            folder.mkdir()  # exist_ok would fail if it goes away at this moment
        with suppress(FileNotFoundError):
            return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as cause:
        raise _unusable(folder, "be made", cause) from cause
    return None


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        raise RunError(f"{folder}: another process is at work in this folder") from cause
    except OSError as cause:
        raise _unusable(folder, "be locked", cause) from cause


def _is_at(lock: int, path: Path) -> bool:
    """Tell whether an open file is the one at a path, not one that was removed from there."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _unusable(folder: Path, what: str, cause: OSError) -> DataError:
    problem = cause.strerror or str(cause)
    return DataError(f"{folder}: cannot {what} ({problem}); choose another -o")


def _check_facts(folder: Path, facts: dict[str, Any], finished: str) -> None:
    known, facts = _read(folder / _FACTS), {_PARTS: finished, **facts}
    if not any(folder.glob(finished)):
        with atomic_file(folder / _FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return
    if known is None:
        raise DataError(
            f"{folder}: holds parts, but {_FACTS}, which says of what, is missing or damaged;"
            " remove the folder, or choose another -o"
        )
    for key in sorted(known | facts):
        if key in SOURCE_FACTS and known.get(key) != facts.get(key):
            raise DataError(
                f"{folder}: holds parts of another source, or of this one before it was changed;"
                " remove the folder, or choose another -o"
            )
        if known.get(key) != facts.get(key):
            was, now = (repr(each.get(key))[:_SHOWN] for each in (known, facts))
            raise DataError(
                f"{folder}: holds parts of another command ({key} was {was}, is {now}); repeat that"
                " command to go on, remove the folder, or choose another -o"
            )


def _refuse_others(folder: Path, finished: str) -> None:
    """Refuse a folder with parts of other names, such as those of an import to a fetch."""
    pattern = (_read(folder / _FACTS) or {}).get(_PARTS)
    if isinstance(pattern, str) and pattern != finished and any(folder.glob(pattern)):
        raise DataError(
            f"{folder}: holds parts of another command, which goes on there; choose another -o, or"
            " remove the folder"
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
