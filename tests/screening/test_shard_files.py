"""The files of a screened shard: what comes back, in which order, whatever lies beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from shards import NO_ROWS, logged, shards

from raymat.errors import RunError
from raymat.screening.shard import ScreenedShard
from raymat.screening.shard_files import (
    EXCLUDED,
    MEMBERS,
    SHARDS,
    TABLE,
    StoredShards,
    shard_path,
    write_shard,
)

REJECTED = pd.DataFrame({"material_id": ["bad-1", None], "reason": ["not finite", "no structure"]})


def write(
    run: Path, shard: ScreenedShard, number: int = 0, rejected: pd.DataFrame = NO_ROWS
) -> dict[str, Any]:
    """Write a shard and give the event that tells of it."""
    return logged(number, write_shard(run, number, shard, rejected))


def read_shards(run: Path, kind: str, *events: dict[str, Any]) -> Iterator[pd.DataFrame]:
    return StoredShards.of(run, events).read(kind)


def test_everything_comes_back(tmp_path: Path) -> None:
    (shard,) = shards(30, 30)
    event = write(tmp_path, shard, 4, REJECTED)
    (table,) = read_shards(tmp_path, TABLE, event)
    pd.testing.assert_frame_equal(table, shard.table)
    (members,) = read_shards(tmp_path, MEMBERS, event)
    assert members["material_id"].tolist() == shard.members["material_id"].tolist()
    for name in ("gap", "bulk"):
        assert all((a == b).all() for a, b in zip(members[name], shard.members[name], strict=True))
    (excluded,) = read_shards(tmp_path, EXCLUDED, event)
    assert list(excluded) == ["material_id", "formula", "reason", "is_rejected"]
    n = len(shard.excluded)
    assert excluded["reason"].tolist() == ["unstable"] * n + ["not finite", "no structure"]
    assert excluded["formula"].tolist()[:n] == ["LiX"] * n
    assert excluded["formula"].isna().tolist()[n:] == [True, True]
    assert excluded["is_rejected"].tolist() == [False] * n + [True, True]
    assert event == {
        "event": "shard_ended",
        "shard": 4,
        "judged": 30 - n,
        "excluded": n + 2,
        "rejected": 2,
        "spoken_for": len(shard.members),
        "member_atoms": shard.n_member_atoms,
        "predict_time_s": 0.5,
    }


def test_shards_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    parts = shards(36, 3)
    numbers = (11, 2, 0, 10, 1, *range(3, 10))
    events = [write(tmp_path, parts[number], number) for number in numbers]
    found = pd.concat(read_shards(tmp_path, TABLE, *events), ignore_index=True)
    expected = pd.concat([part.table for part in parts], ignore_index=True)
    assert found["material_id"].tolist() == expected["material_id"].tolist()


def test_shard_without_anybody(tmp_path: Path) -> None:
    (shard,) = shards(30, 30)
    empty = type(shard)(shard.table.head(0), shard.excluded.head(0), shard.members.head(0), 0, 0.0)
    event = write(tmp_path, empty)
    assert event["judged"] == 0
    assert [len(table) for table in read_shards(tmp_path, TABLE, event)] == [0]


def test_shard_written_again_replaces_itself(tmp_path: Path) -> None:
    """Such as by a task that is repeated because its process died after the last file."""
    first, second = shards(20, 10)
    events = [write(tmp_path, first), write(tmp_path, second)]
    (table,) = read_shards(tmp_path, TABLE, *events)
    assert table["material_id"].tolist() == second.table["material_id"].tolist()


def test_what_a_killed_process_left_half_written_is_not_read(tmp_path: Path) -> None:
    (shard,) = shards(10, 10)
    event = write(tmp_path, shard)
    half = shard_path(tmp_path, 1, TABLE)
    half.with_name(f".{half.name}.17-abc.tmp").write_bytes(b"PAR1")
    assert len(list(read_shards(tmp_path, TABLE, event))) == 1


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A failed run, not candidates that cannot be used."""
    (shard,) = shards(10, 10)
    (tmp_path / SHARDS).write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(RunError, match=r"000007-table\.parquet: cannot be written \("):
        write_shard(tmp_path, 7, shard, NO_ROWS)


# --- files that are not as they were written -----------------------------------------------------


def test_file_that_is_gone(tmp_path: Path) -> None:
    events = [write(tmp_path, part, number) for number, part in enumerate(shards(30, 10))]
    shard_path(tmp_path, 1, EXCLUDED).unlink()
    with pytest.raises(
        RunError,
        match=r"^\S+000001-excluded\.parquet: this file of shard 1 is missing; `raymat resume ",
    ):
        list(read_shards(tmp_path, EXCLUDED, *events))


def test_file_that_is_torn(tmp_path: Path) -> None:
    (shard,) = shards(10, 10)
    event = write(tmp_path, shard)
    path = shard_path(tmp_path, 0, MEMBERS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match="this file of shard 0 cannot be read") as found:
        list(read_shards(tmp_path, MEMBERS, event))
    assert "\n" not in str(found.value)


def test_file_with_other_rows_than_were_logged(tmp_path: Path) -> None:
    first, second = shards(20, 10)
    event = write(tmp_path, first)
    fewer = type(second)(second.table.head(3), second.excluded, second.members, 0, 0.0)
    write(tmp_path, fewer)
    with pytest.raises(RunError, match=rf"has 3 rows, {event['judged']} were logged"):
        list(read_shards(tmp_path, TABLE, event))


def test_damaged_shards_are_found_and_left_out(tmp_path: Path) -> None:
    events = [write(tmp_path, part, number) for number, part in enumerate(shards(40, 10))]
    found = StoredShards.of(tmp_path, events)
    assert found.damage() == {}
    shard_path(tmp_path, 1, TABLE).unlink()
    shard_path(tmp_path, 3, MEMBERS).write_bytes(b"PAR1")
    damage = found.damage()
    assert list(damage) == [1, 3]
    assert damage[1].endswith("000001-table.parquet: this file of shard 1 is missing")
    left = found.without(damage)
    assert list(left.logged) == [0, 2]
    assert left.total("judged") == events[0]["judged"] + events[2]["judged"]


def test_shard_that_has_not_ended(tmp_path: Path) -> None:
    found = StoredShards.of(tmp_path, [logged(0, {}), logged(2, {})])
    with pytest.raises(RunError, match=r"shard 1 has not ended; `raymat resume "):
        found.check_complete(3)
    StoredShards.of(tmp_path, [logged(1, {}), logged(0, {})]).check_complete(2)


# --- columns of any kind -------------------------------------------------------------------------


def test_columns_of_mixed_kind(tmp_path: Path) -> None:
    (shard,) = shards(4, 4)
    cells = {
        "mixed": [1, "two", None],
        "nested": [[1, 2], "three", None],
        "records": [{}, {"a": 1}, None],
        "large": [2**80, 1, None],
        "numbers": [1, 2, 3],
    }
    table = shard.table.head(3).assign(
        **{name: pd.Series(values, dtype=object) for name, values in cells.items()}
    )
    event = write(tmp_path, type(shard)(table, shard.excluded, shard.members, 0, 0.0))
    (found,) = read_shards(tmp_path, TABLE, event)
    assert found["mixed"].tolist()[:2] == ["1", "two"]
    assert found["nested"].tolist()[:2] == ["[1, 2]", "three"]
    assert found["records"].tolist()[:2] == ["{}", "{'a': 1}"]
    assert found["large"].tolist()[:2] == [str(2**80), "1"]
    assert found[["mixed", "nested", "records", "large"]].iloc[2].isna().all()
    assert found["numbers"].tolist() == [1, 2, 3]
