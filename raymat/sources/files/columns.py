"""Property columns of many parts as one: their types, and the same columns of every part."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymat.data.raw import ID_COLUMN, STRUCTURE_COLUMNS
from raymat.errors import DataError
from raymat.sources.files.parts import PREFIX
from raymat.sources.files.property_table import PropertyTable
from raymat.sources.files.units import ColumnUnit

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

        found = {
            self.units[name].name: self.units[name].apply(_column(part, name, kind))
            for name, kind in self.types.items()
        }
        if self.table is not None:
            rows = self.table.rows_of(part[ID_COLUMN].to_pylist())
            for name, unit in self.table_units.items():
                found[unit.name] = unit.apply(rows[name])
        return pa.table(found) if found else pa.table({"": pa.nulls(len(part))}).select([])

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


def join_types(schemas: "Iterable[pa.Schema]", where: str) -> "dict[str, pa.DataType]":
    """Give every property column's type, such that it holds what each part has.

    Raises:
        DataError: a column holds what no type does, such as lists and numbers.
    """
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            if field.name.startswith(PREFIX):
                name = field.name.removeprefix(PREFIX)
                types[name] = _join(types.get(name), field.type, f"{where}: column '{name}'")
    return types


def _join(first: "pa.DataType | None", second: "pa.DataType", where: str) -> "pa.DataType":
    import pyarrow as pa

    if first is None or first == second:
        return second
    schemas = [pa.schema([("x", kind)]) for kind in (first, second)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        if pa.types.is_nested(first) or pa.types.is_nested(second):
            problem = f"holds {first} in some rows and {second} in others"
            raise DataError(f"{where} {problem}; write one kind") from None
        is_text = any(pa.types.is_string(t) or pa.types.is_large_string(t) for t in (first, second))
        return pa.large_string() if is_text else pa.float64()


def _column(part: "pa.Table", name: str, kind: "pa.DataType") -> "pa.ChunkedArray":
    import pyarrow as pa

    if f"{PREFIX}{name}" not in part.column_names:
        return pa.chunked_array([pa.nulls(len(part), kind)])
    return part[f"{PREFIX}{name}"].cast(kind)
