"""Feature tables on disk, found by the content they were built from.

The key is a hash of the crystals and of the table's parameters, so a changed coordinate or cutoff
is a miss. A stored table is a folder of arrays with a header that holds their checksums, put in
place by one rename: readers see the whole table or none, and a damaged or foreign one is a miss.
Nothing here stops the work: a cache that cannot be written is a warning.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.errors import one_line
from raymat.features.table import FeatureTable, TableConfig
from raymat.features.table_files import HEADER, read_table, write_joined, write_table

PARTIAL = ".partial"
LOCK = ".lock"  # a killed builder leaves it behind; the next one takes it
_OWN_PARTIAL = re.compile(rf"(damaged-)?[0-9a-f]{{16}}-[0-9a-f]{{32}}{re.escape(PARTIAL)}")
_STALE_S = 86_400.0  # a writer that has not finished in a day never will

_log = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """Give ``$RAYMAT_CACHE``, or raymat's folder in the user's cache."""
    chosen = os.environ.get("RAYMAT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raymat"


def table_key(crystals: CrystalSet, config: TableConfig) -> str:
    """Hash what a table depends on: cells, elements, coordinates, parameters, and what computes it.

    Names and properties of the crystals are no part of it.
    """
    digest = hashlib.sha256()
    made_by = {name: _installed(name) for name in config.packages}
    digest.update(f"{config.kind} {config.version} {made_by} {config.model_dump_json()}".encode())
    parts: tuple[tuple[NDArray[Any], str], ...] = (
        (crystals.lattices, "<f8"),
        (crystals.offsets, "<i8"),
        (crystals.atomic_numbers, "|u1"),
        (crystals.frac_coords, "<f8"),
    )
    for array, dtype in parts:
        digest.update(f" {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    return digest.hexdigest()


def load_table(folder: Path, key: str, config: TableConfig) -> FeatureTable | None:
    """Map the table of `config` stored under `key` into memory, read-only.

    Returns:
        The table, or None if there is none or it is not what its header says.
    """
    stored = folder / key
    try:
        table = read_table(stored, key, config)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError) as cause:
        _log.warning("%s: stored table ignored (%s)", stored, one_line(cause))
        return None
    with contextlib.suppress(OSError):  # a cache that others own may be read-only
        os.utime(stored / HEADER)  # its last use, for a limit of the cache's size
    return table


def store_table(folder: Path, key: str, table: FeatureTable) -> bool:
    """Store a table for later runs; of several writers at once the first one counts.

    Returns:
        Whether it is there. A folder that cannot be written is a warning in the log.
    """
    return _store(folder, key, table.config, lambda partial: write_table(partial, key, table))


def store_joined(folder: Path, key: str, config: TableConfig, parts: Iterable[str]) -> bool:
    """Store one table out of the stored tables of consecutive parts of its crystals.

    Args:
        folder: of the cache.
        key: of the whole table.
        config: of all of them.
        parts: keys of the parts, in order and once for every part, for crystals may be the same
            again; hardly more than one of their arrays is in memory.

    Returns:
        Whether it is there.
    """
    paths = [folder / part for part in parts]
    return _store(folder, key, config, lambda partial: write_joined(partial, key, config, paths))


@contextlib.contextmanager
def building(folder: Path, key: str) -> Iterator[None]:
    """Let one process at a time build a table; others wait, and find it in the cache then.

    Where a cache cannot be written or locked, each builds its own.

    Args:
        folder: of the cache.
        key: of the table.
    """
    path = folder / f".{key[:16]}{LOCK}"
    try:
        handle = _locked(path)
    except OSError as cause:
        _log.debug("%s: not locked (%s)", path, cause)
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits looks for a new one
        os.close(handle)


def _locked(path: Path) -> int:
    """Take a lock, by a file that is removed with it; the kernel frees it if its holder dies."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:  # its holder has just removed it
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def sweep_partial(folder: Path, *, older_than_s: float = _STALE_S) -> None:
    """Remove what killed writers left; other folders are not touched.

    Args:
        folder: of the cache.
        older_than_s: a younger one may be still at work.
    """
    for left in partial_folders(folder):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - left.stat().st_mtime > older_than_s:
                shutil.rmtree(left, ignore_errors=True)


def partial_folders(folder: Path) -> Iterator[Path]:
    """Give the folders that writers are at work in, or were when they were killed."""
    for path in folder.glob(f"*{PARTIAL}"):
        if _OWN_PARTIAL.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path


def new_partial(folder: Path, key: str) -> Path:
    """Give the path of a folder that is no table, under a name that no other process takes."""
    return folder / f"{key[:16]}-{uuid.uuid4().hex}{PARTIAL}"


def _store(folder: Path, key: str, config: TableConfig, write: Callable[[Path], None]) -> bool:
    partial = new_partial(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(folder)
        partial.mkdir()
        write(partial)
        _put_in_place(partial, folder / key, config)
    except (OSError, ValueError, KeyError) as cause:
        _log.warning(
            "%s: table not cached (%s); set RAYMAT_CACHE to another folder",
            folder,
            one_line(cause),
        )
        return False
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _installed(package: str) -> str | None:
    """Give the version of a package, without importing it; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _put_in_place(partial: Path, stored: Path, config: TableConfig) -> None:
    """Rename the finished folder; one that is already there stays unless it is damaged."""
    if stored.exists():
        if load_table(stored.parent, stored.name, config) is not None:
            return
        damaged = stored.with_name(f"damaged-{partial.name}")
        with contextlib.suppress(FileNotFoundError):  # not damaged, but removed meanwhile
            stored.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        partial.rename(stored)
    except OSError:
        if not stored.exists():
            raise
        _log.debug("%s: another process was first", stored)
    handle = os.open(stored.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
