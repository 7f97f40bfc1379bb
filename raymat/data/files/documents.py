"""Files with crystals, in a folder, an archive or by themselves: what there is to parse.

A file is a `Document`. One too long for a worker is cut into sections of whole structures while
it is read, so that no file is ever held whole.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from raymat.data.cif_folder import LIST
from raymat.data.files.archives import READ_ERRORS, Entry, expand_gzip, iter_archive
from raymat.data.files.formats import (
    KNOWN,
    Format,
    format_of,
    id_of,
    is_archive,
    is_hidden,
    is_packed,
)
from raymat.data.files.split import (
    TEXT_LIMIT,
    Lines,
    SplitError,
    has_atoms,
    split_cif,
    split_xyz,
    too_large,
)
from raymat.errors import DataError, one_line

_WHOLE = 1 << 20  # bytes of a file that a worker is given whole
_SECTION = 1 << 20  # bytes of structures that it is given of a longer one
_SHOWN = 3  # names in a message
NESTED = "nested archive: not opened; unpack it and import it by itself"


@dataclass(frozen=True)
class Document:
    """A file, or a section of one, as a worker gets it.

    Attributes:
        id: what its crystal is called unless it says so itself.
        path: where it stands in its source.
        kind: format.
        content: its bytes, or the file to read them from.
        problem: why it cannot be parsed, else "".
        first: number of its first structure if it is a section of a file with several, else None.
        row: row of ``id_prop.csv`` that names it, if there is such a list.
    """

    id: str
    path: str
    kind: Format
    content: bytes | Path = b""
    problem: str = ""
    first: int | None = None
    row: int | None = None

    def __len__(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else 0


@dataclass
class Contents:
    """What a source holds, by the names of its files alone.

    Attributes:
        ids: how many crystals' files would be called the same.
        n_files: files with crystals, or refused.
        others: names of files that are neither; the first few.
        n_others: how many there are.
        lists: paths of files called ``id_prop.csv``.
    """

    ids: Counter[str] = field(default_factory=Counter)
    n_files: int = 0
    others: list[str] = field(default_factory=list)
    n_others: int = 0
    lists: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Count one file."""
        if is_wanted(entry):
            self.n_files += 1
            self.ids[id_of(entry.path)] += not entry.problem
        elif Path(entry.path).name == LIST:
            self.lists.append(entry.path)
        else:
            self.n_others += 1
            self.others += [entry.path] if len(self.others) < _SHOWN else []

    def refuse_equal_ids(self, source: str) -> None:
        """Refuse files that would give their crystals one id.

        Raises:
            DataError: there are some.
        """
        equal = [name for name, n in self.ids.most_common(_SHOWN) if n > 1]
        if equal:
            n = sum(count for count in self.ids.values() if count > 1)
            problem = f"{n:,} files would share their ids with others ('{equal[0]}', for example)"
            raise DataError(
                f"{source}: {problem}; `raymat data import --ids path` calls each after its path"
            )

    def say_others(self) -> str:
        """Say which files are passed over, "" for none."""
        if not self.n_others:
            return ""
        more = ", ..." if self.n_others > len(self.others) else ""
        files = "1 other file" if self.n_others == 1 else f"{self.n_others:,} other files"
        return f"{files} passed over: {', '.join(map(clean, self.others))}{more}"


def is_wanted(entry: Entry) -> bool:
    """Say whether a file becomes rows: it holds crystals, or must be refused aloud."""
    return bool(entry.problem) or format_of(entry.path) is not None or is_packed(entry.path)


def list_contents(entries: Iterable[Entry]) -> Contents:
    """Count the files of a source."""
    contents = Contents()
    for entry in entries:
        contents.add(entry)
    return contents


def iter_folder(folder: Path) -> Iterator[Entry]:
    """Give the files of a folder and those below it by name, hidden ones left out.

    Links to files are followed, links to folders are not: they may lead round in a circle.

    Raises:
        DataError: a folder cannot be read.
    """

    def refuse(cause: OSError) -> None:
        raise DataError(
            f"{cause.filename}: the folder cannot be read ({cause.strerror})"
        ) from cause

    found = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        base = Path(parent).relative_to(folder)
        found += [(base / name).as_posix() for name in names]
    for path in sorted(path for path in found if not is_hidden(path)):
        yield entry_of(folder / path, path)


def entry_of(file: Path, path: str) -> Entry:
    """Describe a file on disk that its source calls `path`."""
    try:
        facts = file.stat()
    except (OSError, ValueError):  # a link to nothing, or no name: whoever reads it will say so
        return Entry(path, 0, partial(_open, file), local=file)
    problem = "" if stat.S_ISREG(facts.st_mode) else "not a file: a device or pipe"
    local = None if path.lower().endswith(".gz") else file
    return Entry(path, facts.st_size, partial(_open, file), problem, local, facts.st_mtime_ns)


def _open(file: Path) -> IO[bytes]:
    return file.open("rb")


def iter_entries(source: Path) -> Iterator[Entry]:
    """Give the files of a folder or an archive, or a file with crystals itself."""
    if source.is_dir():
        return iter_folder(source)
    return (
        iter_archive(source) if is_archive(source.name) else iter([entry_of(source, source.name)])
    )


def iter_documents(entries: Iterable[Entry]) -> Iterator[Document]:
    """Give what there is to parse, in the order of the entries."""
    for entry in entries:
        if is_wanted(entry):
            yield from open_entry(entry)


def open_entry(entry: Entry) -> Iterator[Document]:
    """Give a file whole, or in sections, or why it cannot be parsed."""
    kind = format_of(entry.path)
    path = clean(entry.path)
    blank = Document(clean(id_of(entry.path)), path, kind or "cif")
    if entry.problem or kind is None:
        yield replace(blank, id=path, problem=entry.problem or NESTED)
    elif entry.local is not None and entry.size <= _WHOLE:
        yield replace(blank, content=entry.local)
    else:
        yield from _read_entry(entry, blank)


def _read_entry(entry: Entry, blank: Document) -> Iterator[Document]:
    try:
        with closing(entry.open()) as opened:
            is_gzip = entry.path.lower().endswith(".gz")
            yield from _read_stream(expand_gzip(opened, entry.size) if is_gzip else opened, blank)
    except READ_ERRORS as cause:
        problem = one_line(cause)
        is_told = isinstance(cause, DataError)
        yield replace(blank, problem=problem if is_told else f"unreadable file: {problem}")


def _read_stream(stream: IO[bytes], blank: Document) -> Iterator[Document]:
    start = stream.read(_WHOLE + 1)
    if len(start) <= _WHOLE:
        yield replace(blank, content=start)
    elif blank.kind in ("cif", "xyz") and _has_lines(start):
        yield from _sections(_Joined(start, stream), blank)
    else:
        rest = stream.read(TEXT_LIMIT + 1 - len(start))
        whole = start + rest
        is_long = len(whole) > TEXT_LIMIT
        problem = too_large("the file", TEXT_LIMIT) if is_long else ""
        yield replace(blank, problem=problem, content=b"" if problem else whole)


def _has_lines(start: bytes) -> bool:
    """Say whether lines can be told apart before text is decoded: not in UTF-16."""
    return b"\n" in start and b"\0" not in start[:4]


def _sections(stream: Lines, blank: Document) -> Iterator[Document]:
    """Give a long file in sections; one that holds a single structure as a short file."""
    start, texts, size, problem = 0, list[bytes](), 0, ""
    try:
        for text in _split(stream, blank.kind):
            if size >= _SECTION:
                yield replace(blank, content=b"".join(texts), first=start)
                start, texts, size = start + len(texts), [], 0
            texts.append(text)
            size += len(text)
    except SplitError as cause:
        problem = str(cause)
    n_found = start + len(texts)
    if texts:
        is_single = n_found == 1 and not problem
        yield replace(blank, content=b"".join(texts), first=None if is_single else start)
    if problem or not n_found:
        problem = problem or "structure is missing: the file holds none"
        yield replace(blank, problem=problem, first=n_found or None)


def _split(stream: Lines, kind: Format) -> Iterator[bytes]:
    if kind == "xyz":
        return split_xyz(stream)
    return (block for block in split_cif(stream) if has_atoms(block))


class _Joined:
    """Bytes that were read already, and the rest of their stream, by lines."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self._start, self._at, self._stream = start, 0, stream

    def readline(self, limit: int) -> bytes:
        end = self._start.find(b"\n", self._at, self._at + limit) + 1
        stop = end or min(self._at + limit, len(self._start))
        line, self._at = self._start[self._at : stop], stop
        is_cut = not line.endswith(b"\n") and self._at == len(self._start) and len(line) < limit
        return line + self._stream.readline(limit - len(line)) if is_cut else line


def clean(text: str) -> str:
    """Give a name that can be written as UTF-8: on disk names are bytes."""
    return os.fsencode(text).decode("utf-8", errors="replace")


def refuse_nothing(contents: Contents, source: str) -> None:
    """Refuse a source without a file that could be parsed.

    Raises:
        DataError: it holds none.
    """
    if not contents.n_files:
        found = contents.say_others() or "it is empty"
        raise DataError(f"{source}: no files with crystals ({found}); expected {KNOWN}")
