"""The files of a stored table: one array each, and a header that holds their checksums."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.config import Config
from raymat.features.table import FeatureTable, TableConfig

HEADER = "header.json"

Array = NDArray[Any]


class Header(Config):
    """What a stored table must turn out to be.

    Attributes:
        key: hash of what it was built from.
        kind: such as "neighbors".
        config: its parameters.
        shapes: of the arrays, the one that counts crystals first.
        sha256: of the arrays' files.
    """

    key: str
    kind: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    sha256: dict[str, str]

    @property
    def n_crystals(self) -> int:
        """Crystals in the table."""
        first = next(iter(self.shapes.values()))
        return first[0] - 1


def read_header(stored: Path) -> Header:
    """Read what a stored table says of itself.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    return Header.model_validate_json((stored / HEADER).read_bytes())


def read_table(stored: Path, key: str, config: TableConfig) -> FeatureTable:
    """Map a stored table into memory, read-only, after a look at every byte.

    Raises:
        OSError: it is not there.
        ValueError: it is not what it should be.
        KeyError: its header does not name all of its arrays.
    """
    header = _check_header(stored, key, config)
    table_class = config.table_class()
    arrays = {
        name: read_array(stored, name, dtype, header) for name, dtype in table_class.dtypes.items()
    }
    return table_class(config=config, **arrays)


def _check_header(stored: Path, key: str, config: TableConfig) -> Header:
    header = read_header(stored)
    if header.key != key or header.kind != config.kind:
        raise ValueError(f"it was stored as {header.kind} {header.key}")
    return header


def read_array(stored: Path, name: str, dtype: str, header: Header) -> Array:
    """Map one array of a stored table into memory; see `read_table`."""
    path = stored / f"{name}.npy"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != header.sha256[name]:
            raise ValueError(f"{path.name} is damaged")
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.str != dtype or array.shape != header.shapes[name]:
        raise ValueError(f"{path.name} holds {array.dtype.str} {array.shape}")
    # As a plain array on the mapped memory: a memmap itself is pickled with a copy of it, so every
    # process of Ray that reads the table would hold its own.
    return np.asarray(array)


@dataclass(frozen=True)
class _Pieces:
    """An array that is written piece by piece: no two pieces are in memory at once."""

    shape: tuple[int, ...]
    read: Callable[[], Iterator[Array]]


def write_table(folder: Path, key: str, table: FeatureTable) -> None:
    """Write the files of a table into an empty folder.

    Raises:
        OSError: they cannot be written.
    """
    arrays = {name: getattr(table, name) for name in table.dtypes}
    whole = {name: _Pieces(a.shape, partial(iter, [a])) for name, a in arrays.items()}
    _write(folder, key, table.config, whole)


def write_joined(folder: Path, key: str, config: TableConfig, parts: Sequence[Path]) -> None:
    """Write one table out of the stored tables of consecutive parts of its crystals.

    Args:
        folder: empty; where to.
        key: of the whole table.
        config: of all of them.
        parts: folder of each part, called by its key, in order; one array of one part is read at a
            time.

    Raises:
        OSError: a part is not there, or the files cannot be written.
        ValueError: a part is damaged.
    """
    headers = [(path, _check_header(path, path.name, config)) for path in parts]
    running = config.table_class().running
    joined = {
        name: _pieces(name, dtype, headers, is_running=name in running)
        for name, dtype in config.table_class().dtypes.items()
    }
    _write(folder, key, config, joined)


def _pieces(
    name: str, dtype: str, headers: Sequence[tuple[Path, Header]], *, is_running: bool
) -> _Pieces:
    shapes = [header.shapes[name] for _, header in headers]
    shared = int(is_running)  # a part begins with the sum that the one before has ended with
    n = sum(shape[0] - shared for shape in shapes) + shared

    def read() -> Iterator[Array]:
        last: Any = 0
        for number, (stored, header) in enumerate(headers):
            array = read_array(stored, name, dtype, header)
            if not is_running:
                yield array
                continue
            yield array[min(number, 1) :] + last
            last += array[-1]

    return _Pieces((n, *shapes[0][1:]), read)


def _write(folder: Path, key: str, config: TableConfig, arrays: dict[str, _Pieces]) -> None:
    dtypes = config.table_class().dtypes
    header = Header(
        key=key,
        kind=config.kind,
        config=config.model_dump(mode="json"),
        shapes={name: pieces.shape for name, pieces in arrays.items()},
        sha256={
            name: _write_array(folder / f"{name}.npy", dtypes[name], pieces)
            for name, pieces in arrays.items()
        },
    )
    with (folder / HEADER).open("wb") as file:
        file.write(header.model_dump_json().encode())
        os.fsync(file.fileno())


def _write_array(path: Path, dtype: str, pieces: _Pieces) -> str:
    """Write the file that `numpy.save` would write of the whole, and give its checksum."""
    described = {"descr": dtype, "fortran_order": False, "shape": pieces.shape}
    with path.open("w+b") as file:
        np.lib.format.write_array_header_1_0(file, described)
        for piece in pieces.read():
            np.ascontiguousarray(piece, dtype).tofile(file)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
