"""Property columns of many parts as one: their types, and the same columns of every part."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymat.data.files.units import ColumnUnit
from raymat.data.raw import ID_COLUMN, STRUCTURE_COLUMNS
from raymat.errors import DataError
from raymat.sources.files.parts import PREFIX
from raymat.sources.files.property_table import PropertyTable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """How the properties of a part become those of the output.

    Attributes:
        types: column of the source -> type that holds its values in every part.
        units: column of the source -> how it is renamed and converted.
        table: properties that are found by id, if there are any.
        table_units: the same for the table's columns.
    """

    types: "dict[str, pa.DataType]"
    units: dict[str, ColumnUnit]
    table: PropertyTable | None
    table_units: dict[str, ColumnUnit]

    def of(self, part: "pa.Table") -> "pa.Table":
        """Give the properties of a part's rows, in raymat's units."""
        import pyarrow as pa

        found = {unit.name: unit.apply(cells) for unit, cells in self._cells(part)}
        return pa.table(found) if found else pa.table({"": pa.nulls(len(part))}).select([])

    def find(self, part: "pa.Table", name: str) -> "tuple[ColumnUnit, pa.ChunkedArray]":
        """Give one property's unit and cells, these as the source has them."""
        return next(found for found in self._cells(part) if found[0].name == name)

    def _cells(self, part: "pa.Table") -> "Iterator[tuple[ColumnUnit, pa.ChunkedArray]]":
        for name, kind in self.types.items():
            yield self.units[name], _column(part, name, kind)
        if self.table is not None:
            rows = self.table.rows_of(part[ID_COLUMN].to_pylist())
            for name, unit in self.table_units.items():
                yield unit, rows[name]

    def check_names(self, where: str) -> None:
        """Refuse names that could not stand in one file.

        Raises:
            DataError: two columns have one name, or one is called like a column of the structure.
        """
        own = [unit.name for unit in self.units.values()]
        names = [*own, *(unit.name for unit in self.table_units.values())]
        for name in names:
            if names.count(name) > 1:
                raise DataError(f"{where}: both hold a column '{name}'; rename one")
            if name in (ID_COLUMN, *STRUCTURE_COLUMNS):
                raise DataError(f"{where}: a property is called '{name}', as raymat's own column")


def join_types(
    schemas: "Iterable[pa.Schema]", largest: Mapping[str, int], where: str
) -> "dict[str, pa.DataType]":
    """Give every property column's type, such that it holds what each part has.

    Args:
        schemas: of the parts.
        largest: column -> size of its largest integer.
        where: the source, for a message.

    Raises:
        DataError: a column holds what no type does, such as lists and numbers, or integers that
            would lose digits.
    """
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            if field.name.startswith(PREFIX):
                name = field.name.removeprefix(PREFIX)
                types[name] = _join(types.get(name), field.type, f"{where}: column '{name}'")
    for name, kind in types.items():
        if largest.get(name, 0) > _limit(kind):
            problem = f"holds the integer {largest[name]} in some rows and {kind} in others"
            raise DataError(
                f"{where}: column '{name}' {problem}, which would change its digits; write one kind"
            )
    return types


def largest_integer(column: "pa.ChunkedArray") -> int:
    """Give the size of a column's largest integer, 0 where it holds none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(column.type):
        return 0
    bounds: dict[str, int | None] = pc.min_max(column).as_py()
    return max(abs(bounds["min"] or 0), abs(bounds["max"] or 0))


def _limit(kind: "pa.DataType") -> float:
    """Give the largest integer that a type holds to the digit."""
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return 2**53
    return 2**63 - 1 if pa.types.is_int64(kind) else math.inf


def _join(first: "pa.DataType | None", second: "pa.DataType", where: str) -> "pa.DataType":
    import pyarrow as pa

    if first is None or first == second:
        return second
    kinds = [t.value_type if pa.types.is_dictionary(t) else t for t in (first, second)]
    if all(map(_is_number, kinds)) and any(map(pa.types.is_floating, kinds)):
        return pa.float64()  # Arrow would squeeze integers of 64 bits into a float of 32
    try:
        schemas = [pa.schema([("x", kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        is_nested = any(map(pa.types.is_nested, kinds))
        if any(map(_is_text, kinds)) and not is_nested:
            return pa.large_string()
        if all(map(_is_number, kinds)):
            return pa.float64()
    problem = f"holds {first} in some rows and {second} in others"
    raise DataError(f"{where} {problem}; write one kind")


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _column(part: "pa.Table", name: str, kind: "pa.DataType") -> "pa.ChunkedArray":
    import pyarrow as pa

    if f"{PREFIX}{name}" not in part.column_names:
        return pa.chunked_array([pa.nulls(len(part), kind)])
    cells = part[f"{PREFIX}{name}"]
    try:
        return cells.cast(kind)
    except pa.ArrowException as cause:
        problem = f"holds {cells.type} in some rows, which is no {kind} as in others ({cause})"
        raise DataError(f"column '{name}' {problem}; write one kind") from cause
