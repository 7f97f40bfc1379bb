"""What tells a source from another, and that it stayed the same while it was read."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from raymat.data.cif_folder import CifFolder
from raymat.data.facts import DATA_ENDINGS, SourceFacts, facts_of_folder
from raymat.data.files.archives import Entry
from raymat.data.files.documents import is_wanted, iter_folder
from raymat.data.files.formats import ARCHIVES, id_of
from raymat.errors import DataError

_AGAIN = "run the same command again"


class SourceChangedError(DataError):
    """A source is no longer what its parts were parsed from."""


@dataclass(frozen=True)
class WatchedFile:
    """A file as it was before anything was read of it.

    Attributes:
        path: the file.
        size: bytes.
        changed: when it was changed last, in ns.
    """

    path: Path
    size: int
    changed: int

    @classmethod
    def look(cls, path: Path) -> Self:
        """Note what a file is like now."""
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns)

    def describe(self, digest: str, n_rows: int) -> SourceFacts:
        """Describe the file, whose hash is known.

        Raises:
            SourceChangedError: it is another one by now.
        """
        if not self.path.exists() or self.look(self.path) != self:
            raise SourceChangedError(f"{self.path}: the file changed while it was read; {_AGAIN}")
        name = self.path.name
        endings = [e for e in (*ARCHIVES, *DATA_ENDINGS, ".db") if name.lower().endswith(e)]
        longest = max(map(len, endings), default=0)
        stem = name[:-longest] if longest else id_of(name)
        return SourceFacts(stem, str(self.path.resolve()), sha256=digest, n_rows=n_rows)


class Listing:
    """The hash of the names, sizes and times of change of files that pass through."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def pass_on(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give the same entries."""
        for entry in entries:
            self._digest.update(os.fsencode(f"{entry.path}\0{entry.size}\0{entry.changed}\n"))
            yield entry

    def hexdigest(self) -> str:
        """Give the hash of those that have passed."""
        return self._digest.hexdigest()


def describe_folder(path: Path, listing: str, n_rows: int) -> SourceFacts:
    """Hash the names and contents of a folder's files, as `describe_source` does.

    Raises:
        SourceChangedError: files came, went or changed while they were read.
    """
    digest, now = hashlib.sha256(), Listing()
    for entry in now.pass_on(iter_folder(path)):
        if is_wanted(entry) and not entry.problem:
            digest.update(os.fsencode(entry.path) + b"\0")
            _add_content(digest, entry)
    if now.hexdigest() != listing:
        raise SourceChangedError(f"{path}: files changed while they were read; {_AGAIN}")
    return SourceFacts(path.resolve().name, str(path.resolve()), digest.hexdigest(), n_rows)


def describe_listed(folder: CifFolder, listing: str) -> SourceFacts:
    """Describe a folder with ``id_prop.csv``.

    Raises:
        SourceChangedError: files came, went or changed while they were read.
    """
    now = Listing()
    for _ in now.pass_on(iter_folder(folder.path)):
        pass
    if now.hexdigest() != listing:
        raise SourceChangedError(f"{folder.path}: files changed while they were read; {_AGAIN}")
    return facts_of_folder(folder)


def _add_content(digest: Any, entry: Entry) -> None:
    with suppress(OSError), entry.open() as file:  # a row says that it cannot be read
        while content := file.read(1 << 20):
            digest.update(content)
