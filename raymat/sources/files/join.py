"""Parts of an import to one Parquet file: all that can only be judged with every row at hand.

Two passes over the parts. The first keeps ids, reasons and the target, about 150 bytes a row; the
second writes groups of rows. Structures are in memory a few parts at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.checks import (
    Checked,
    add_reasons,
    find_column,
    find_task,
    reject_duplicates,
    target_numbers,
    target_reasons,
)
from raymat.data.files.units import ColumnUnit, collect_text_units, plan_columns, split_header
from raymat.data.raw import ID_COLUMN
from raymat.data.writers import atomic_file, layout_field
from raymat.properties import find_property
from raymat.sources.files.columns import Columns, join_types, largest_integer
from raymat.sources.files.parts import IS_SINGLE, PREFIX, REASON, PartFolder
from raymat.sources.files.property_table import PropertyTable

if TYPE_CHECKING:
    import pyarrow as pa

    from raymat.data.files.source import OpenSource

_GROUP = 10_000  # rows that are written at once


@dataclass
class Survey:
    """What the first pass over the parts finds.

    Attributes:
        ids: of every row.
        reasons: why a row's structure cannot be used, else "".
        is_single: whether 32 bits hold a row's coordinates.
        schemas: of the parts.
        texts: column -> unit that follows its numbers -> a cell; of properties in words only.
        largest: column -> size of its largest integer.
    """

    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    is_single: list[bool] = field(default_factory=list)
    schemas: "list[pa.Schema]" = field(default_factory=list)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)

    def add(self, part: "pa.Table") -> None:
        """Take a part."""
        self.ids += part[ID_COLUMN].to_pylist()
        self.reasons += part[REASON].to_pylist()
        self.is_single += part[IS_SINGLE].to_pylist()
        if part.schema not in self.schemas[-1:]:
            self.schemas.append(part.schema)
        columns = [name for name in part.column_names if name.startswith(PREFIX)]
        note_text_units(part.select(columns), self.texts, PREFIX)
        for column in columns:
            name = column.removeprefix(PREFIX)
            self.largest[name] = max(self.largest.get(name, 0), largest_integer(part[column]))


def note_text_units(table: "pa.Table", texts: dict[str, dict[str, str]], prefix: str = "") -> None:
    """Note the units within the cells of known properties."""
    import pyarrow as pa

    for column in table.schema:
        name = column.name.removeprefix(prefix)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if is_text and find_property(split_header(name)[0]).meaning != _UNKNOWN:
            collect_text_units(table[column.name].to_pylist(), texts.setdefault(name, {}))


_UNKNOWN = find_property("").meaning


def first_reasons(parts: PartFolder) -> tuple[list[str], list[str]]:
    """Give why rows of the first part cannot be used, "" for usable ones, and its properties."""
    part = parts.read(0)
    names = [name.removeprefix(PREFIX) for name in part.column_names if name.startswith(PREFIX)]
    return part[REASON].to_pylist(), names


def survey(parts: PartFolder, n_parts: int) -> Survey:
    """Make the first pass."""
    found = Survey()
    for number in range(n_parts):
        found.add(parts.read(number))
    return found


def plan(
    found: Survey, source: "OpenSource", table: PropertyTable | None, units: dict[str, str]
) -> Columns:
    """Decide about every property column.

    Raises:
        DataError: units or names do not fit.
    """
    types = join_types(found.schemas, found.largest, source.name)
    own = plan_own(types, source, found.texts, units)
    where = source.name if table is None else f"{source.name} and {table.path}"
    columns = Columns(types, own, table, plan_table(table, units))
    columns.check_names(where)
    return columns


def plan_own(
    names: Iterable[str],
    source: "OpenSource",
    texts: dict[str, dict[str, str]],
    units: dict[str, str],
) -> dict[str, ColumnUnit]:
    """Decide about the columns of the source itself; `texts` are units within cells.

    Raises:
        DataError: units do not fit.
    """
    return plan_columns(
        names,
        declared=source.units,
        texts=texts,
        given=units,
        where=source.name,
        is_metadata=True,
    )


def plan_table(table: PropertyTable | None, units: dict[str, str]) -> dict[str, Any]:
    """Decide about the columns of a property table, before anything is parsed.

    Raises:
        DataError: units do not fit.
    """
    if table is None:
        return {}
    texts: dict[str, dict[str, str]] = {}
    note_text_units(table.columns, texts)
    return plan_columns(
        table.columns.column_names,
        declared=table.units,
        texts=texts,
        given=units,
        where=str(table.path),
    )


def judge(
    found: Survey, columns: Columns, parts: PartFolder, n_parts: int, target: str | None, where: str
) -> tuple[Checked, NDArray[np.float64] | None]:
    """Give every row's reason to be left out, and the target as numbers.

    Raises:
        DataError: no such target, or it holds text.
    """
    reasons = np.array(found.reasons, dtype=object)
    values = None
    if target is not None:
        hint: pd.DataFrame = columns.of(parts.read(0)).schema.empty_table().to_pandas()
        find_column(hint, target, where=where)
        column, values = _target_cells(columns, parts, n_parts, target)
        prop = find_task(column, values, hint, where=where)
        if prop.holds_words:  # written as they are
            add_reasons(reasons, target_reasons(column, target_numbers(column, prop), prop))
            values = None
        else:
            add_reasons(reasons, target_reasons(column, values, prop))
    reject_duplicates(reasons, np.array(found.ids, dtype=object), frozenset())
    return Checked(reasons, pd.DataFrame()), values


def _target_cells(
    columns: Columns, parts: PartFolder, n_parts: int, target: str
) -> tuple["pd.Series[Any]", NDArray[np.float64]]:
    """Give the target's cells as the source has them, and as numbers in raymat's unit."""
    cells, converted = [], []
    for number in range(n_parts):
        unit, column = columns.find(parts.read(number), target)
        cells.append(column.to_pandas())
        converted.append(unit.apply(column).to_pandas())
    values = target_numbers(pd.concat(converted, ignore_index=True))
    return pd.concat(cells, ignore_index=True).rename(target), values


@dataclass(frozen=True)
class Writing:
    """What the second pass needs to know.

    Attributes:
        is_usable: (n,) of every row.
        is_single: whether coordinates are written with 32 bits.
        target: name and (n,) numbers of the target, if there is one.
    """

    is_usable: NDArray[np.bool_]
    is_single: bool
    target: tuple[str, NDArray[np.float64]] | None


def write_joined(
    parts: PartFolder, n_parts: int, columns: Columns, writing: Writing, out: Path
) -> None:
    """Write the usable rows of all parts in the standard layout.

    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = _usable_tables(parts, n_parts, columns, writing)
    first = next(tables)
    with (
        atomic_file(out) as temporary,
        pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer,
    ):
        held, n_held = [first], len(first)
        for table in tables:
            if n_held >= _GROUP:
                writer.write_table(pa.concat_tables(held))
                held, n_held = [], 0
            held.append(table)
            n_held += len(table)
        writer.write_table(pa.concat_tables(held))


def _usable_tables(
    parts: PartFolder, n_parts: int, columns: Columns, writing: Writing
) -> "Iterator[pa.Table]":
    import pyarrow as pa

    start = 0
    for number in range(n_parts):
        part = parts.read(number)
        stop = start + len(part)
        given = columns.of(part)
        if writing.target is not None:
            name, values = writing.target
            given = _replaced(given, name, pa.array(values[start:stop], from_pandas=True))
        table = _laid_out(part, given, is_single=writing.is_single)
        yield table.filter(pa.array(writing.is_usable[start:stop]))
        start = stop


def _replaced(table: "pa.Table", name: str, column: "pa.Array") -> "pa.Table":
    return table.set_column(table.column_names.index(name), name, column)


def _laid_out(part: "pa.Table", properties: "pa.Table", *, is_single: bool) -> "pa.Table":
    """Give the columns of the standard Parquet, each with its unit."""
    import pyarrow as pa

    coords = pa.list_(pa.float32() if is_single else pa.float64())
    columns = {
        ID_COLUMN: part[ID_COLUMN],
        "lattice": part["lattice"],
        "atomic_numbers": part["atomic_numbers"],
        "frac_coords": part["frac_coords"].cast(coords),
        **{name: properties[name] for name in properties.column_names},
    }
    fields = [layout_field(name, column.type) for name, column in columns.items()]
    return pa.table(columns).cast(pa.schema(fields))
