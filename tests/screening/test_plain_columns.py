"""Tables of shards whose columns differ in kind, as one."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from raymat.screening.plain_columns import (
    common_schema,
    join_tables,
    plain_columns,
    to_arrow,
)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2], ["a", None], ["1", "2", "a", None]),
        ([1.5, None], [True, False], [1.5, None, 1.0, 0.0]),
        ([None, None], [1.5, 2.5], [None, None, 1.5, 2.5]),
        (["a", "b"], [None, None], ["a", "b", None, None]),
        ([None, None], [None, None], [None] * 4),
        ([1, 2], [1.5, None], [1.0, 2.0, 1.5, None]),
        ([[1], [2]], ["a", "b"], ["[1]", "[2]", "a", "b"]),
        ([pd.Timestamp("2024-01-02"), None], [7, 8], ["2024-01-02 00:00:00", None, "7", "8"]),
    ],
)
def test_types_that_differ_between_shards(
    first: list[Any], second: list[Any], expected: list[Any], tmp_path: Path
) -> None:
    """Joined as they come back from Parquet, and written again."""
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, values in zip(paths, (first, second), strict=True):
        pd.DataFrame({"a": 0, "x": values, "z": 1}).to_parquet(path)
    joined = join_tables([pd.read_parquet(path) for path in paths])
    assert list(joined) == ["a", "x", "z"]
    joined.to_parquet(tmp_path / "joined.parquet")
    found = pd.read_parquet(tmp_path / "joined.parquet")["x"]
    assert [None if pd.isna(value) else value for value in found] == expected

    schema = common_schema(map(pq.read_schema, paths))
    assert schema.names == ["a", "x", "z"]
    parts = [to_arrow(pd.read_parquet(path), schema).column("x").to_pylist() for path in paths]
    assert [*parts[0], *parts[1]] == expected


def test_columns_of_one_kind_are_left_alone() -> None:
    table = pd.DataFrame(
        {
            "flag": pd.array([True, None], dtype="boolean"),
            "text": ["a", None],
            "list": [[1.0, 2.0], [3.0]],
            "kind": pd.Series(["a", "b"], dtype="category"),
        }
    )
    pd.testing.assert_frame_equal(plain_columns(table), table)


def test_column_that_a_shard_lacks() -> None:
    joined = join_tables([pd.DataFrame({"a": [1]}), pd.DataFrame({"b": ["x"], "a": [2]})])
    assert list(joined) == ["a", "b"]
    assert joined["a"].tolist() == [1, 2]
    assert joined["b"].isna().tolist() == [True, False]
