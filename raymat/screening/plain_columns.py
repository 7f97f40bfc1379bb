"""Columns of candidates as Parquet can hold them, and tables of several shards as one.

What a user's file holds beside its crystals is passed on, whatever it is: a column of numbers and
words becomes one of text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa


def plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table without columns of mixed kind: they become text, what is missing stays so."""
    mixed = [name for name in table if table[name].dtype == object and not _is_plain(table[name])]
    return table.assign(**{str(name): table[name].map(_text) for name in mixed})


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
