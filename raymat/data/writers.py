"""Crystals out: the standard Parquet, rejected.csv; a file appears whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.data.raw import ID_COLUMN
from raymat.errors import UnwritableError
from raymat.properties import find_property
from raymat.reading import regular_file
from raymat.text import csv_cell

if TYPE_CHECKING:
    import pyarrow as pa


def write_crystals(crystals: CrystalSet, path: Path) -> None:
    """Write the Parquet layout that `load_crystals` reads without parsing.

    Columns: ``material_id``; ``lattice`` (9 x float64, Å, row-major); ``atomic_numbers`` (list of
    uint8); ``frac_coords`` (list, flattened N x 3; float32 where that loses nothing, else
    float64); then the properties, with their unit in the field metadata where it is known.

    Raises:
        UnwritableError: the file cannot be written.
    """
    import pyarrow.parquet as pq

    table = to_table(crystals)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_csv(table: pd.DataFrame, target: Path | IO[str], *, header: bool = True) -> None:
    """Write a table as CSV whose text cells and names no spreadsheet takes for formulas.

    Numbers are written as they are. `read_own_csv` gives the text back.
    """
    safe = table.set_axis([csv_cell(str(name)) for name in table.columns], axis="columns")
    for place in range(safe.shape[1]):
        column = safe.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column) and column.map(_is_text).any():
            safe.isetitem(place, np.array([_safe_cell(value) for value in column], dtype=object))
    safe.to_csv(target, index=False, header=header)


def read_own_csv(source: Path | IO[str], **options: Any) -> pd.DataFrame:
    """Read a CSV file that raymat wrote; `options` are those of `pandas.read_csv`.

    Only an empty cell is a missing value, and ids and formulas are text: ``NaN`` is a compound,
    and ``001`` an id.
    """
    table: pd.DataFrame = pd.read_csv(
        regular_file(source) if isinstance(source, Path) else source,
        keep_default_na=False,
        na_values=[""],
        dtype=_TEXT_COLUMNS,
        **options,
    )
    for name in table.columns[~table.dtypes.map(pd.api.types.is_numeric_dtype)]:
        table[name] = table[name].map(_bare_cell, na_action="ignore")
    return table.set_axis([_bare_cell(name) for name in table.columns], axis="columns")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _safe_cell(value: object) -> object:
    return csv_cell(value) if isinstance(value, str) else value


def _bare_cell(value: Any) -> Any:
    """Return a cell as it was before it was made safe."""
    is_safe = isinstance(value, str) and value.startswith("'") and csv_cell(value[1:]) == value
    return value[1:] if is_safe else value


_TEXT_COLUMNS = {ID_COLUMN: str, "formula": str}


def write_rejected(rejected: pd.DataFrame, path: Path) -> None:
    """Write ``material_id, reason``; only the header if nothing was rejected.

    Raises:
        UnwritableError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        write_csv(rejected, temporary)


@contextmanager
def writing_rejected(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that adds rows to a list that appears when the block ends well.

    What else fails in the block, such as reading the source, is not told as a failure to write.

    Raises:
        UnwritableError: the file cannot be written.
    """
    temporary = _temporary_of(path)
    try:
        with _telling(path):
            file = temporary.open("w", encoding="utf-8", newline="")
        with file:
            write_rows = partial(_add_rows, file, path)
            write_rows(pd.DataFrame(columns=[ID_COLUMN, "reason"]), header=True)
            yield write_rows
            with _telling(path):
                file.flush()
        with _telling(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _add_rows(file: IO[str], path: Path, rows: pd.DataFrame, *, header: bool = False) -> None:
    with _telling(path):
        write_csv(rows, file, header=header)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends without an exception.

    Raises:
        UnwritableError: the folder does not exist or cannot be written, or the disk is full.
    """
    temporary = _temporary_of(path)
    try:
        with _telling(path):
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{token_hex(4)}.tmp")


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Tell of a file that cannot be written."""
    try:
        yield
    except OSError as cause:
        problem = cause.strerror or str(cause)
        raise UnwritableError(
            f"{path}: cannot be written ({problem}); choose another place"
        ) from cause


def to_table(crystals: CrystalSet) -> "pa.Table":
    """Give the columns of the standard Parquet layout, with units where they are known."""
    import pyarrow as pa

    coords: NDArray[np.floating] = crystals.frac_coords.ravel()
    single = coords.astype(np.float32)
    coords = single if np.array_equal(single, coords) else coords
    numbers = pa.array(crystals.atomic_numbers)
    columns = {
        ID_COLUMN: pa.array(crystals.material_ids.tolist(), pa.string()),
        "lattice": pa.FixedSizeListArray.from_arrays(pa.array(crystals.lattices.ravel()), 9),
        "atomic_numbers": pa.ListArray.from_arrays(_int32(crystals.offsets), numbers),
        "frac_coords": pa.ListArray.from_arrays(_int32(3 * crystals.offsets), pa.array(coords)),
    }
    properties = pa.Table.from_pandas(crystals.properties, preserve_index=False)
    for name in properties.column_names:
        columns[name] = properties[name]
    return pa.table(columns).cast(pa.schema([layout_field(n, c.type) for n, c in columns.items()]))


def layout_field(name: str, kind: "pa.DataType") -> "pa.Field":
    """Give a column of the standard Parquet, its unit in the metadata where it is known."""
    import pyarrow as pa

    unit = "Å, 3x3 row-major" if name == "lattice" else find_property(name).unit
    return pa.field(name, kind, metadata={"unit": unit} if unit else None)


def _int32(offsets: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(offsets.astype(np.int32))
