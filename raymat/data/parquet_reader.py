"""Parquet: structures as arrays, read by column without building an object per crystal."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.crystals import ranges
from raymat.data.raw import ID_COLUMN, STRUCTURE_COLUMNS, RawCrystals, split_off_ids
from raymat.data.structure_parser import read_structure_table
from raymat.errors import DataError
from raymat.reading import regular_file
from raymat.text import plain

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BUFFER = 1 << 16  # bytes of a column that are read at once


def read_parquet(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """Read a whole file, or some of its columns.

    Raises:
        DataError: no Parquet file, or one that is damaged.
    """
    with open_parquet(path) as file:
        try:
            table = file.read(columns=columns)
            table.validate(full=True)  # text that is no UTF-8 would stop us later, without a row
        except _read_errors() as cause:
            raise _unreadable(path, cause) from cause
    return table


def open_parquet(path: Path) -> "pq.ParquetFile":
    """Open a file; only its footer is read.

    Raises:
        DataError: no Parquet file.
    """
    import pyarrow.parquet as pq

    try:
        # ParquetFile, so that a folder named like key=value is not taken for a partition. With a
        # buffer of its own and no other, a row group of any size is read page by page.
        return pq.ParquetFile(regular_file(path), buffer_size=_BUFFER, pre_buffer=False)
    except _read_errors() as cause:
        raise _unreadable(path, cause) from cause


def iter_tables(path: Path, size: int, columns: list[str] | None = None) -> "Iterator[pa.Table]":
    """Give `size` rows at a time (at the end, what is left), whatever the row groups.

    Never more than twice as many rows are in memory.

    Raises:
        DataError: no Parquet file, or rows that cannot be read.
    """
    import pyarrow as pa

    with open_parquet(path) as file:
        pending: list[pa.Table] = []
        for batch in _iter_batches(file, path, size, columns):
            table = pa.concat_tables([*pending, pa.Table.from_batches([batch])])
            while len(table) >= size:
                yield table.slice(0, size)
                table = table.slice(size)
            pending = [table]
        yield from (table for table in pending if len(table))


def _iter_batches(
    file: "pq.ParquetFile", path: Path, size: int, columns: list[str] | None
) -> "Iterator[pa.RecordBatch]":
    n_rows, n_read = file.metadata.num_rows, 0
    batches = file.iter_batches(batch_size=size, columns=columns, use_threads=False)
    while n_read < n_rows:
        try:
            batch = _next_batch(batches)
        except _read_errors() as cause:
            where = f"rows {n_read} to {min(n_read + size, n_rows) - 1} of {n_rows}"
            problem = f"{where} cannot be read ({_first_line(cause)})"
            raise DataError(f"{path}: {problem}; the file is damaged, write it anew") from cause
        n_read += len(batch)
        yield batch


def _next_batch(batches: "Iterator[pa.RecordBatch]") -> "pa.RecordBatch":
    batch = next(batches, None)
    if batch is None:
        raise OSError("the file ends before them")
    batch.validate(full=True)  # text that is no UTF-8 would stop us later, without a row
    return batch


def read_table(table: "pa.Table", path: Path, *, first_row: int = 0) -> RawCrystals:
    """Read the rows of a table that stand in the file from `first_row` on.

    Structures are ``lattice``, ``atomic_numbers``, ``frac_coords``, or a ``cif``/``structure``
    column. `lattice` holds nine numbers (Å, row-major, rows are a, b, c), `frac_coords` three per
    atom; both may also be nested lists.

    Raises:
        DataError: no structure columns, or one that cannot be read.
    """
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    table = table.drop_columns(index)
    if not set(STRUCTURE_COLUMNS) <= set(table.column_names):
        return read_structure_table(to_frame(table, path), where=str(path), first_row=first_row)
    return _read_arrays(table, path, first_row)


def _read_arrays(table: "pa.Table", path: Path, first_row: int) -> RawCrystals:
    lattices, n_lattice = _flatten(table["lattice"], path)
    numbers, n_sites = _flatten(table["atomic_numbers"], path)
    coords, n_coords = _flatten(table["frac_coords"], path)
    problems = _shape_problems(n_lattice, n_sites, n_coords)
    good = np.flatnonzero(problems == "")
    atoms = _rows_of(numbers, n_sites, good)
    kept = np.where(problems == "", n_sites, 0)
    cells = np.tile(np.eye(3), (table.num_rows, 1, 1))
    cells[good] = _rows_of(lattices, n_lattice, good).reshape(-1, 3, 3)
    rest = to_frame(table.drop_columns(list(STRUCTURE_COLUMNS)), path)
    ids, properties = split_off_ids(rest, first_row=first_row)
    return RawCrystals(
        material_ids=ids,
        lattices=cells,
        offsets=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        atomic_numbers=_whole_numbers(atoms),
        frac_coords=_rows_of(coords, n_coords, good).reshape(-1, 3),
        properties=properties.reset_index(drop=True),
        problems=problems,
    )


def to_frame(table: "pa.Table", path: Path) -> pd.DataFrame:
    """Return the pandas table, whatever another program noted for pandas, its ids as in the file.

    Raises:
        DataError: a column holds what pandas cannot.
    """
    import pyarrow as pa

    # pandas would write 17 as 17.0 wherever a row without an id is among those read at once.
    has_ids = ID_COLUMN in table.column_names
    rest = table.drop_columns([ID_COLUMN]) if has_ids else table
    try:
        frame: pd.DataFrame = _texts(rest).replace_schema_metadata(None).to_pandas()
        ids = table[ID_COLUMN].to_pylist() if has_ids else []
    except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError) as cause:
        problem = f"a column cannot be read ({plain(_first_line(cause))}); write it as numbers"
        raise DataError(f"{path}: {problem} or text") from cause
    if not len(frame.columns):
        frame = pd.DataFrame(index=range(len(table)))
    if has_ids:
        frame.insert(0, ID_COLUMN, pd.Series(ids, dtype=object))
    return frame


def _texts(table: "pa.Table") -> "pa.Table":
    """Return the table with text where bytes are stored that are text."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            with suppress(pa.ArrowException):
                table = table.set_column(index, field.name, table[index].cast(pa.large_string()))
    return table


def _flatten(column: "pa.ChunkedArray", path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Give all numbers of a list column and how many each row owns (0 where null)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = _plain(column.combine_chunks())
    counts = np.ones(len(values), dtype=np.int64)
    while _is_list(values.type):
        inner = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(inner)])
        rows = np.concatenate([[0], np.cumsum(counts)])
        counts = np.diff(ends[rows])
        values = _plain(values.flatten())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        name = f"structure columns must hold lists of numbers, found {column.type}"
        raise DataError(f"{path}: {name}; write them as float64[9], uint8 and float lists")
    return values.to_numpy(zero_copy_only=False), counts


def _plain(values: Any) -> Any:
    """Return an array without dictionary, extension type or views of lists."""
    import pyarrow as pa

    if isinstance(values, pa.ExtensionArray):
        return _plain(values.storage)
    if pa.types.is_dictionary(values.type):
        return _plain(values.dictionary_decode())
    if pa.types.is_list_view(values.type) or pa.types.is_large_list_view(values.type):
        # Not by a cast: that of pyarrow 26 gives a list of negative length.
        return pa.array(values.to_pylist(), pa.large_list(values.type.value_type))
    return values


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _shape_problems(
    n_lattice: NDArray[np.int64], n_sites: NDArray[np.int64], n_coords: NDArray[np.int64]
) -> NDArray[np.object_]:
    problems = np.full(len(n_sites), "", dtype=object)
    for i in np.flatnonzero(n_coords != 3 * n_sites):
        problems[i] = f"unreadable structure: {n_sites[i]} atoms but {n_coords[i]} coordinates"
    for i in np.flatnonzero(n_lattice != 9):
        problems[i] = f"unreadable structure: lattice has {n_lattice[i]} numbers, not 9"
    return problems


def _rows_of(
    values: NDArray[Any], counts: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[Any]:
    if len(rows) == len(counts):
        return values
    starts = np.cumsum(counts) - counts
    return values[ranges(starts[rows], counts[rows])]


def _whole_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """Give atomic numbers as int64; what is missing or no whole number becomes 0."""
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    whole = np.isfinite(values) & (np.abs(values) < 1000) & (values == np.round(values))
    return np.where(whole, values, 0).astype(np.int64)


def _read_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    errors: tuple[type[Exception], ...] = (pa.ArrowException, OSError)
    return errors


def _unreadable(path: Path, cause: Exception) -> DataError:
    return DataError(f"{path}: not a readable Parquet file ({_first_line(cause)})")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
