"""The folder beside an output in which it grows, ``OUT.partial``: held by one process, and resumed.

What is finished lies in it as files that appear whole. A process may be killed at any instant; the
same command goes on with what is there, and another command is refused.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raymat.data.writers import atomic_file
from raymat.errors import DataError, RunError

_FACTS, _LOCK = "command.json", ".lock"
_SHOWN = 60  # characters of a fact in a message


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
        DataError: it holds parts of another command, or cannot be made.
        RunError: another process is at work in it.
    """
    folder = partial_folder(out)
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as cause:
        problem = cause.strerror or str(cause)
        raise DataError(f"{folder}: cannot be made ({problem}); choose another -o") from cause
    try:
        _hold(lock, folder)
        try:
            _check_facts(folder, json.loads(json.dumps(dict(facts))), finished)
            yield folder
        finally:
            if folder.exists() and not any(folder.glob(finished)):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)  # and with it the lock


def _hold(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        raise RunError(f"{folder}: another process is at work in this folder") from cause


def _check_facts(folder: Path, facts: dict[str, Any], finished: str) -> None:
    known = _read(folder / _FACTS)
    if known is None or not any(folder.glob(finished)):
        with atomic_file(folder / _FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return
    for key in sorted(known | facts):
        if known.get(key) != facts.get(key):
            was, now = (repr(each.get(key))[:_SHOWN] for each in (known, facts))
            raise DataError(
                f"{folder}: holds parts of another command ({key} was {was}, is {now}); repeat that"
                " command to go on, remove the folder, or choose another -o"
            )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
