"""Feature tables on disk, found by the content they were built from.

The key is a hash of the crystals and of the table's parameters, so a changed coordinate or cutoff
is a miss. A stored table is a folder of arrays with a header that holds their checksums, put in
place by one rename: readers see the whole table or none, and a damaged or foreign one is a miss.
Nothing here stops the work: a cache that cannot be written is a warning.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.config import Config
from raymat.data.crystals import CrystalSet
from raymat.features.table import FeatureTable, TableConfig

_HEADER = "header.json"
_PARTIAL = ".partial"
_STALE_S = 86_400.0  # a writer that has not finished in a day never will

_log = logging.getLogger(__name__)


class _Header(Config):
    """What a stored table must turn out to be."""

    key: str
    kind: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    sha256: dict[str, str]


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
    try:
        return _read(folder / key, key, config)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError) as cause:
        _log.warning("%s: stored table ignored (%s)", folder / key, _one_line(cause))
        return None


def store_table(folder: Path, key: str, table: FeatureTable) -> None:
    """Store a table for later runs; of several writers at once the first one counts.

    A folder that cannot be written is a warning in the log.
    """
    partial = folder / f"{key[:16]}-{uuid.uuid4().hex}{_PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        partial.mkdir()
        _write(partial, key, table)
        _put_in_place(partial, folder / key, table.config)
    except OSError as cause:
        _log.warning(
            "%s: table not cached (%s); set RAYMAT_CACHE to a folder with space",
            folder,
            _one_line(cause),
        )
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _installed(package: str) -> str | None:
    """Give the version of a package, without importing it; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(stored: Path, key: str, config: TableConfig) -> FeatureTable:
    header = _Header.model_validate_json((stored / _HEADER).read_bytes())
    if header.key != key or header.kind != config.kind:
        raise ValueError(f"it was stored as {header.kind} {header.key}")
    table_class = config.table_class()
    arrays = {
        name: _read_array(stored, name, dtype, header) for name, dtype in table_class.dtypes.items()
    }
    return table_class(config=config, **arrays)


def _read_array(stored: Path, name: str, dtype: str, header: _Header) -> NDArray[Any]:
    path = stored / f"{name}.npy"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != header.sha256[name]:
            raise ValueError(f"{path.name} is damaged")
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.str != dtype or array.shape != header.shapes[name]:
        raise ValueError(f"{path.name} holds {array.dtype.str} {array.shape}")
    # As a plain array on the mapped memory: a memmap itself is pickled with a copy of it, so every
    # process of Ray that reads the table would hold its own.
    return np.asarray(array)


def _write(partial: Path, key: str, table: FeatureTable) -> None:
    arrays = {
        name: np.ascontiguousarray(getattr(table, name), dtype)
        for name, dtype in table.dtypes.items()
    }
    header = _Header(
        key=key,
        kind=table.config.kind,
        config=table.config.model_dump(mode="json"),
        shapes={name: array.shape for name, array in arrays.items()},
        sha256={name: _write_array(partial, name, array) for name, array in arrays.items()},
    )
    with (partial / _HEADER).open("wb") as file:
        file.write(header.model_dump_json().encode())
        os.fsync(file.fileno())


def _write_array(partial: Path, name: str, array: NDArray[Any]) -> str:
    with (partial / f"{name}.npy").open("w+b") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(partial: Path, stored: Path, config: TableConfig) -> None:
    """Rename the finished folder; one that is already there stays unless it is damaged."""
    if stored.exists():
        if load_table(stored.parent, stored.name, config) is not None:
            return
        damaged = stored.with_name(f"damaged-{partial.name}")
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


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(f"*{_PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _one_line(cause: Exception) -> str:
    return " ".join(str(cause).split())
