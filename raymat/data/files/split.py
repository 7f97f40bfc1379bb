"""One file's bytes to the texts of its structures, one after another, each of bounded length."""

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from raymat.errors import DataError

TEXT_LIMIT = 16 << 20
"""Bytes that the text of one structure may have: 100,000 atoms and more."""

_ATOMS = re.compile(rb"_atom_site[._]fract_[xyz]", re.IGNORECASE)
_LONGEST_LINE = 1 << 20  # bytes; a file without line ends must not fill the memory


class Lines(Protocol):
    """A file, or what can be read like one by lines."""

    def readline(self, limit: int, /) -> bytes:
        """Give the next line, or its first `limit` bytes; nothing at the end."""
        ...


class SplitError(DataError):
    """From here on a file holds no structures that could be told apart."""


def split_cif(stream: Lines) -> Iterator[bytes]:
    """Give each ``data_`` block; comments before the first belong to none.

    Text between lines that begin with a semicolon may hold anything, ``data_`` too.

    Raises:
        SplitError: a block is longer than `TEXT_LIMIT`.
    """
    block: list[bytes] = []
    size, has_begun, is_text = 0, False, False
    for line in _lines(stream):
        is_text ^= line[:1] == b";"
        if not is_text and line.lstrip()[:5].lower() == b"data_":
            if has_begun:
                yield b"".join(block)
            block, size, has_begun = [], 0, True
        block.append(line)
        size = _add(size, line)
    if block:
        yield b"".join(block)


def split_xyz(stream: Lines) -> Iterator[bytes]:
    """Give each frame: a line with the number of atoms, a comment, a line for every atom.

    Raises:
        SplitError: a line that should hold the number of atoms does not, so that the frame before
            it counts too few; a frame is cut off or longer than `TEXT_LIMIT`.
    """
    lines = _lines(stream)
    frame: list[bytes] = []
    for number, first in enumerate(_skip_empty(lines)):
        n_atoms = _n_atoms(first, number)
        if frame:
            yield b"".join(frame)
        frame, size = [first], len(first)
        for _ in range(n_atoms + 1):
            line = next(lines, None)
            if line is None:
                raise SplitError(f"unreadable xyz: the file ends within frame {number}")
            frame.append(line)
            size = _add(size, line)
    if frame:
        yield b"".join(frame)


def has_atoms(block: bytes) -> bool:
    """Say whether a CIF block describes a structure, not only a publication or a pattern."""
    return bool(_ATOMS.search(block))


def _n_atoms(line: bytes, frame: int) -> int:
    try:
        count = int(line)
    except ValueError:
        count = -1
    if count < 0:
        shown = line[:40].decode("utf-8", errors="replace").strip()
        before = f", after the atoms that frame {frame - 1} counts" if frame else ""
        problem = f"frame {frame} begins with {shown!r}, not with a number{before}"
        raise SplitError(f"unreadable xyz: {problem}")
    return count


def _skip_empty(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (line for line in lines if line.strip())


def _lines(stream: Lines) -> Iterator[bytes]:
    while line := stream.readline(_LONGEST_LINE):
        yield line


def _add(size: int, line: bytes) -> int:
    size += len(line)
    if size > TEXT_LIMIT:
        raise SplitError(too_large("the text of one structure", TEXT_LIMIT))
    return size


def too_large(what: str, limit: int) -> str:
    """Give the reason for what is too long to be a structure; `limit` in bytes."""
    return f"too large: {what} has more than {limit >> 20} MiB"
