"""Columns of candidates as Parquet can hold them, and tables of several shards as one.

What a user's file holds beside its crystals is passed on, whatever it is: a column of numbers and
words becomes one of text.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa


def plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table without columns of mixed kind: they become text, what is missing stays so."""
    mixed = [name for name in table if table[name].dtype == object and not _is_plain(table[name])]
    return table.assign(**{str(name): table[name].map(_text) for name in mixed})


def rename_candidates(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Give columns that a candidate brought a name that is free, beginning with ``candidate_``."""
    new = {}
    for name in names:
        free = f"candidate_{name}"
        while free in table:
            free = f"candidate_{free}"
        new[name] = free
    return table.rename(columns=new)


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of shards row by row; types may differ between them.

    A column that is missing altogether in a shard says nothing about its type.
    """
    names = list(dict.fromkeys(name for table in tables for name in table))
    disputed = {
        name
        for name in names
        if len({str(table[name].dtype) for table in tables if name in table}) > 1
    }
    told = [
        table.drop(
            columns=[name for name in table if name in disputed and table[name].isna().all()]
        )
        for table in tables
    ]
    return plain_columns(pd.concat(told, ignore_index=True).reindex(columns=names))


def common_schema(schemas: Iterable["pa.Schema"]) -> "pa.Schema":
    """Give the columns of all shards: numbers of several kinds are floats, other mixtures text."""
    import pyarrow as pa

    kinds: dict[str, list[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, []).append(_without_encoding(field.type))
    return pa.schema([(name, _common_type(set(found))) for name, found in kinds.items()])


def to_arrow(table: pd.DataFrame, schema: "pa.Schema") -> "pa.Table":
    """Give a shard's table with the columns of all shards, missing ones empty."""
    import pyarrow as pa

    columns = [_to_array(table.get(field.name), field.type, len(table)) for field in schema]
    return pa.table(columns, schema=schema)


def _without_encoding(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(kind) else kind


def _common_type(kinds: "set[pa.DataType]") -> "pa.DataType":
    import pyarrow as pa

    told = {kind for kind in kinds if not pa.types.is_null(kind)}  # all missing: says nothing
    if len(told) == 1:
        return told.pop()
    if told and all(pa.types.is_integer(kind) for kind in told):
        return pa.int64()
    is_number = [pa.types.is_integer(k) or pa.types.is_floating(k) or k == pa.bool_() for k in told]
    return pa.float64() if told and all(is_number) else pa.string()


def _to_array(column: "pd.Series[Any] | None", kind: "pa.DataType", n_rows: int) -> "pa.Array":
    import pyarrow as pa

    if column is None or column.isna().all():
        return pa.nulls(n_rows, kind)
    if kind == pa.string():
        column = column.astype(object).map(_text)
    elif kind == pa.float64():
        column = column.astype("Float64")
    return pa.array(column, type=kind, from_pandas=True)


def _is_plain(column: "pd.Series[Any]") -> bool:
    import pyarrow as pa

    # Arrow by itself would take an integer among dates for one of them.
    if pd.api.types.infer_dtype(column).startswith("mixed") and not _holds_lists(column):
        return False
    try:
        found = pa.array(column, from_pandas=True).type
    except (pa.ArrowException, OverflowError):
        return False
    return not pa.types.is_nested(found) or _is_list_of_plain(found)


def _holds_lists(column: "pd.Series[Any]") -> bool:
    return all(isinstance(value, list | np.ndarray) for value in column[column.notna()])


def _is_list_of_plain(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type))


def _text(value: Any) -> str | None:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return str(value.tolist() if isinstance(value, np.ndarray) else value)
