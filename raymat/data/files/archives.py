"""Members of zip and tar archives, one after another, none of them unpacked to disk.

An archive is not trusted: a header may lie about sizes, a name may point out of the archive, a few
bytes may expand without end. What expands is counted while it is read.
"""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from raymat.data.files.formats import is_hidden
from raymat.errors import DataError, one_line

RATIO_LIMIT = 200
"""Bytes that one compressed byte may give; texts of crystals give 5 to 60."""
FREE = 16 << 20
"""Bytes that anything may expand to, however small it is compressed."""
MEMBER_LIMIT = 16 << 30
"""Bytes that one member may expand to."""
TOTAL_LIMIT = 256 << 30
"""Bytes that an archive may expand to."""
HEADER_LIMIT = 1 << 20
"""Bytes of one member's long name or further facts in a tar."""

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".xz": lzma.open,
    ".txz": lzma.open,
    ".bz2": bz2.open,
    ".tbz2": bz2.open,
}

READ_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the standard library raises on a broken archive or member."""


class ExpandsTooFarError(DataError):
    """More came out of compressed bytes than crystals ever need."""


@dataclass(frozen=True)
class Entry:
    """A file of a folder or an archive.

    Attributes:
        path: where it stands in its source, with ``/``.
        size: bytes, as its header or the disk says; not to be trusted.
        open: gives its bytes; of an archive's member only until the next one is asked for.
        problem: why it must not be opened, else "".
        local: where it lies on disk, if it can be read there as it is.
        changed: when it was changed last, in ns, if it is a file of its own.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    problem: str = ""
    local: Path | None = None
    changed: int = 0


class _Counted(io.RawIOBase):
    """Bytes of another stream, up to a limit."""

    def __init__(self, stream: IO[bytes], limit: int, what: str) -> None:
        self._stream, self._left, self._what = stream, limit, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        self._left -= len(found)
        if self._left < 0:
            raise ExpandsTooFarError(self._what)
        buffer[: len(found)] = found
        return len(found)


def expand_gzip(stream: IO[bytes], size: int) -> IO[bytes]:
    """Give the content of a ``.gz`` stream of `size` bytes, with a hard limit."""
    return _counted(gzip.GzipFile(fileobj=stream), size, MEMBER_LIMIT)


def iter_archive(path: Path) -> Iterator[Entry]:
    """Give the members in the archive's order, hidden files and folders left out.

    Raises:
        DataError: no readable archive, an encrypted one, or one that expands too far.
    """
    read = _iter_zip if path.name.lower().endswith(".zip") else _iter_tar
    try:
        for entry in read(path):
            if entry.problem or not is_hidden(entry.path):
                plain = PurePosixPath(entry.path).as_posix()  # without ./
                yield entry if entry.problem else replace(entry, path=plain)
    except ExpandsTooFarError as cause:
        raise DataError(
            f"{path}: {cause}; if it is sound, unpack it and import the folder"
        ) from cause
    except READ_ERRORS as cause:
        if isinstance(cause, DataError):
            raise
        problem = one_line(cause)
        raise DataError(f"{path}: not a readable archive ({problem}); write it anew") from cause


def _iter_zip(path: Path) -> Iterator[Entry]:
    expanded = _limit(path.stat().st_size, TOTAL_LIMIT)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                problem = f"'{info.filename}' is encrypted; decrypt the archive first"
                raise DataError(f"{path}: {problem}")
            problem = _zip_problem(info)
            # No more than a header declares is ever read, and many may share the same few bytes.
            expanded -= 0 if problem else info.file_size
            if expanded < 0:
                raise ExpandsTooFarError(_say_limit(path.stat().st_size))
            yield Entry(info.filename, info.file_size, _opener(archive, info), problem)


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: _counted(archive.open(info), info.compress_size, MEMBER_LIMIT)


def _zip_problem(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind and not stat.S_ISREG(mode):
        return "unsafe member: a link or device, not a file"
    if info.file_size > _limit(info.compress_size, MEMBER_LIMIT):
        return _say_limit(info.compress_size)
    # zipfile itself cuts names at a zero byte, and turns the separators of other systems.
    return path_problem(info.orig_filename)


class _Header(tarfile.TarInfo):
    """A tar's header; the standard library reads what describes a member whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > HEADER_LIMIT:
            problem = f"expands too far: the header of a member has {found.size:,} bytes"
            raise ExpandsTooFarError(problem)
        return found


def _iter_tar(path: Path) -> Iterator[Entry]:
    with (
        _expanded(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive,
    ):
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # a million would be kept
            if not info.isdir():
                yield Entry(info.name, info.size, _extractor(archive, info), _tar_problem(info))


def _extractor(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def extract() -> IO[bytes]:
        stream = archive.extractfile(info)
        if stream is None:
            raise DataError(f"{info.name}: not a file")
        return stream

    return extract


def _tar_problem(info: tarfile.TarInfo) -> str:
    if not info.isreg():
        return "unsafe member: a link or device, not a file"
    if info.issparse():  # holes expand to any size without being read
        return "unsafe member: a sparse file"
    return path_problem(info.name)


def path_problem(path: str) -> str:
    """Say what is wrong with a member's name, "" if it stays within its archive."""
    parts = re.split(r"[/\\]", path)
    if parts[0] == "" or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return "unsafe member: an absolute path"
    return "unsafe member: its path leaves the archive" if ".." in parts else ""


@contextmanager
def _expanded(path: Path) -> Iterator[IO[bytes]]:
    opener = _OPENERS.get(path.suffix.lower(), open)
    with opener(path, "rb") as stream:
        yield _counted(stream, path.stat().st_size, TOTAL_LIMIT)


def _counted(stream: Any, size: int, most: int) -> IO[bytes]:
    return io.BufferedReader(_Counted(stream, _limit(size, most), _say_limit(size)), 1 << 16)


def _limit(size: int, most: int) -> int:
    return min(max(FREE, RATIO_LIMIT * size), most)


def _say_limit(size: int) -> str:
    return f"expands too far: {size:,} bytes give over {RATIO_LIMIT} times as many (a zip bomb?)"
