"""The files of a screened shard: what comes back, in which order, whatever lies beside them."""

from pathlib import Path

import pandas as pd
import pytest
from shards import NO_ROWS, shards

from raymat.errors import RunError
from raymat.screening.shard_files import (
    EXCLUDED,
    MEMBERS,
    SHARDS,
    TABLE,
    read_shards,
    shard_path,
    write_shard,
)

REJECTED = pd.DataFrame({"material_id": ["bad-1", None], "reason": ["not finite", "no structure"]})


def test_everything_comes_back(tmp_path: Path) -> None:
    (shard,) = shards(30, 30)
    counts = write_shard(tmp_path, 4, shard, REJECTED)
    (table,) = read_shards(tmp_path, TABLE)
    pd.testing.assert_frame_equal(table, shard.table)
    (members,) = read_shards(tmp_path, MEMBERS)
    assert members["material_id"].tolist() == shard.members["material_id"].tolist()
    for name in ("gap", "bulk"):
        assert all((a == b).all() for a, b in zip(members[name], shard.members[name], strict=True))
    (excluded,) = read_shards(tmp_path, EXCLUDED)
    assert list(excluded) == ["material_id", "formula", "reason"]
    n = len(shard.excluded)
    assert excluded["reason"].tolist() == ["unstable"] * n + ["not finite", "no structure"]
    assert excluded["formula"].tolist()[:n] == ["LiX"] * n
    assert excluded["formula"].isna().tolist()[n:] == [True, True]
    assert counts == {
        "judged": 30 - n,
        "excluded": n + 2,
        "member_atoms": shard.n_member_atoms,
        "predict_time_s": 0.5,
    }


def test_shards_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    parts = shards(36, 3)
    for number in (11, 2, 0, 10, 1, *range(3, 10)):
        write_shard(tmp_path, number, parts[number], NO_ROWS)
    found = pd.concat(read_shards(tmp_path, TABLE), ignore_index=True)
    expected = pd.concat([part.table for part in parts], ignore_index=True)
    assert found["material_id"].tolist() == expected["material_id"].tolist()


def test_shard_without_anybody(tmp_path: Path) -> None:
    (shard,) = shards(30, 30)
    empty = type(shard)(shard.table.head(0), shard.excluded.head(0), shard.members.head(0), 0, 0.0)
    assert write_shard(tmp_path, 0, empty, NO_ROWS)["judged"] == 0
    assert [len(table) for table in read_shards(tmp_path, TABLE)] == [0]


def test_shard_written_again_replaces_itself(tmp_path: Path) -> None:
    """Such as by a task that is repeated because its process died after the last file."""
    first, second = shards(20, 10)
    write_shard(tmp_path, 0, first, NO_ROWS)
    write_shard(tmp_path, 0, second, NO_ROWS)
    (table,) = read_shards(tmp_path, TABLE)
    assert table["material_id"].tolist() == second.table["material_id"].tolist()


def test_what_a_killed_process_left_half_written_is_not_read(tmp_path: Path) -> None:
    (shard,) = shards(10, 10)
    write_shard(tmp_path, 0, shard, NO_ROWS)
    half = shard_path(tmp_path, 1, TABLE)
    half.with_name(f".{half.name}.17-abc.tmp").write_bytes(b"PAR1")
    assert len(list(read_shards(tmp_path, TABLE))) == 1


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A failed run, not candidates that cannot be used."""
    (shard,) = shards(10, 10)
    (tmp_path / SHARDS).write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(RunError, match=r"000007-table\.parquet: cannot be written \("):
        write_shard(tmp_path, 7, shard, NO_ROWS)
