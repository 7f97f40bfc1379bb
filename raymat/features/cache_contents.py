"""What lies in the cache of feature tables, and how it is kept small.

A table is taken away by renaming its folder first. A reader then sees the whole table or none: one
that is mapped already stays readable until it is let go, and one that is missed is built anew. Only
folders that raymat has written are looked at; whatever else lies beside them stays.
"""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymat.errors import ConfigError, RunError
from raymat.features.table_cache import LOCK, new_partial, partial_folders
from raymat.features.table_files import HEADER, Header, read_header

LIMIT_VARIABLE = "RAYMAT_CACHE_LIMIT"
_KEY = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?B)", re.IGNORECASE)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedTable:
    """A table in the cache.

    Attributes:
        key: the name of its folder.
        kind: such as "neighbors"; "damaged" where its header cannot be read.
        config: its parameters.
        n_crystals: how many crystals it is of.
        n_bytes: of its files.
        last_use: when it was last read or written, in seconds since 1970.
    """

    key: str
    kind: str
    config: dict[str, Any]
    n_crystals: int
    n_bytes: int
    last_use: float


@dataclass(frozen=True)
class CacheContents:
    """The cache at one moment.

    Attributes:
        folder: where it is; it need not exist.
        tables: the least recently used first.
        n_partial: folders of writers that are at work or were killed.
        n_other: entries that are not raymat's.
    """

    folder: Path
    tables: tuple[CachedTable, ...]
    n_partial: int
    n_other: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all tables."""
        return sum(table.n_bytes for table in self.tables)


def read_contents(folder: Path) -> CacheContents:
    """Look at a cache; a table that goes away meanwhile is left out.

    Raises:
        RunError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir()) if folder.exists() else []
        entries = [path for path in entries if path.suffix != LOCK]
    except OSError as cause:
        problem = cause.strerror or str(cause)
        raise RunError(f"{folder}: the cache cannot be read ({problem})") from cause
    n_partial = sum(1 for _ in partial_folders(folder))
    tables = [table for path in entries if (table := _look_at(path)) is not None]
    return CacheContents(
        folder=folder,
        tables=tuple(sorted(tables, key=lambda table: (table.last_use, table.key))),
        n_partial=n_partial,
        n_other=len(entries) - len(tables) - n_partial,
    )


def remove_tables(folder: Path, tables: Collection[CachedTable]) -> int:
    """Take tables out of the cache, and give the bytes that this set free.

    Of two processes that take away the same table, one does.

    Raises:
        RunError: a table cannot be taken away.
    """
    freed = 0
    for table in tables:
        try:
            if remove_key(folder, table.key):
                freed += table.n_bytes
        except OSError as cause:
            problem = cause.strerror or str(cause)
            raise RunError(f"{folder / table.key}: cannot be removed ({problem})") from cause
    return freed


def remove_key(folder: Path, key: str) -> bool:
    """Take one table away; False if it was gone already.

    Raises:
        OSError: it cannot be renamed.
    """
    leaving = new_partial(folder, key)  # a writer sweeps it if this process is killed now
    try:
        (folder / key).rename(leaving)
    except FileNotFoundError:
        return False
    shutil.rmtree(leaving, ignore_errors=True)
    return True


def over_limit(
    contents: CacheContents, limit: int, *, keep: Collection[str] = ()
) -> list[CachedTable]:
    """Give the tables to take away, the least recently used ones, until the rest fits.

    Args:
        contents: of the cache.
        limit: bytes.
        keep: keys that stay, whatever they take.
    """
    left, leaving = contents.n_bytes, []
    for table in contents.tables:
        if left <= limit:
            break
        if table.key not in keep:
            leaving.append(table)
            left -= table.n_bytes
    return leaving


def older_than(contents: CacheContents, age_s: float) -> list[CachedTable]:
    """Give the tables that were not used for so many seconds."""
    now = time.time()
    return [table for table in contents.tables if now - table.last_use > age_s]


def standing_limit() -> int | None:
    """Give ``$RAYMAT_CACHE_LIMIT`` in bytes; None where there is no limit.

    Raises:
        ConfigError: it is no size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    return parse_size(text, where=LIMIT_VARIABLE) if text else None


def has_limit() -> bool:
    """Say whether there is a standing limit that can be kept."""
    try:
        return standing_limit() is not None
    except ConfigError:
        return False


def keep_limit(folder: Path, *, keep: Collection[str]) -> None:
    """Apply the standing limit after a table was stored; what goes wrong is a warning.

    Args:
        folder: of the cache.
        keep: keys of the tables that are needed now.
    """
    try:
        limit = standing_limit()
        if limit is not None:
            remove_tables(folder, over_limit(read_contents(folder), limit, keep=keep))
    except (ConfigError, RunError) as cause:
        _log.warning("the size of the cache is not limited: %s", cause)


def parse_size(text: str, *, where: str) -> int:
    """Give the bytes of a size such as ``500MB`` or ``20GB``; 1 kB is 1000 B.

    Raises:
        ConfigError: it is no such size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{where} {text}: expected a size with its unit, such as 500MB or 20GB")
    return int(float(found[1]) * _BYTES[found[2].lower()])


def _look_at(path: Path) -> CachedTable | None:
    """Give the table in a folder; None where it is not raymat's, or has just gone."""
    if not _KEY.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return None
    with contextlib.suppress(OSError):
        files = {file.name: file.stat() for file in path.iterdir()}
        if all(name == HEADER or name.endswith(".npy") for name in files):
            header = _read_header(path)
            last = files.get(HEADER, path.stat()).st_mtime
            return CachedTable(
                key=path.name,
                kind=header.kind if header else "damaged",
                config=header.config if header else {},
                n_crystals=header.n_crystals if header else 0,
                n_bytes=sum(facts.st_size for facts in files.values()),
                last_use=last,
            )
    return None


def _read_header(path: Path) -> Header | None:
    try:
        header = read_header(path)
    except (OSError, ValueError):
        return None
    return header if header.key == path.name and header.shapes else None
