"""Files of a run or model folder, which may have come from somebody else.

A link in such a folder could lead to any file of this user, and a pipe could keep a reader waiting
for ever. What is read or written there is a regular file inside the folder.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from raymat.errors import RunError

_MARKS = ("run.json", "model.json", "ensemble.json")  # what makes a folder one of ours


def refuse_links(folder: Path) -> None:
    """Check that a run or model folder holds regular files only, and no link that leads out of it.

    Links between its own files, such as those of W&B, are left alone; so is any other folder.

    Raises:
        RunError: it holds such a link, a pipe, a socket or a device.
    """
    if not any(os.path.lexists(folder / name) for name in _MARKS):
        return
    root = os.path.realpath(folder)
    for entry in _entries(root):
        where = folder / os.path.relpath(entry.path, root)
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath((root, target)) != root:
                raise RunError(
                    f"{where}: a link that leads out of the folder (to {target}), which is not"
                    " followed; put a copy of the file in its place, or remove the link"
                )
        elif not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            raise RunError(f"{where}: a pipe, socket or device, not a regular file; remove it")


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, PermissionError):  # of a run at work, or not ours to look at
        return
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)


def open_regular(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a regular file, following no link in its place, and return its descriptor.

    Raises:
        RunError: a link, a pipe, a folder or a device stands there.
        OSError: it cannot be opened.
    """
    if path.is_symlink():
        raise RunError(f"{path}: a link, which is not followed; put the file in its place")
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RunError(f"{path}: not a regular file; remove it")
    return handle
