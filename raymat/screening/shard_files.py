"""The files of a screened shard, and how all of them are read again."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.writers import atomic_file
from raymat.errors import DataError, RunError
from raymat.screening.shard import ScreenedShard

SHARDS = "shards"  # folder in the run
TABLE, EXCLUDED, MEMBERS = "table", "excluded", "members"


def write_shard(
    run: Path, number: int, screened: ScreenedShard, rejected: pd.DataFrame
) -> dict[str, Any]:
    """Write a shard's tables, each whole or not at all, and give its counts.

    Args:
        run: the run directory.
        number: of the shard.
        screened: what it came to.
        rejected: rows that are no usable crystals: ``material_id, reason``.

    Raises:
        RunError: they cannot be written.
    """
    unusable = rejected.assign(formula=None)[["material_id", "formula", "reason"]]
    excluded = pd.concat([screened.excluded, unusable.astype(object)], ignore_index=True)
    content = {TABLE: screened.table, EXCLUDED: excluded, MEMBERS: screened.members}
    with suppress(OSError):  # told by the first file that cannot be written
        (run / SHARDS).mkdir(exist_ok=True)
    try:
        for kind, table in content.items():
            with atomic_file(shard_path(run, number, kind)) as path:
                table.to_parquet(path, index=False)
    except DataError as cause:  # nothing is wrong with the candidates
        raise RunError(str(cause)) from cause
    return {
        "judged": len(screened.table),
        "excluded": len(excluded),
        "member_atoms": screened.n_member_atoms,
        "predict_time_s": screened.predict_time_s,
    }


def shard_path(run: Path, number: int, kind: str) -> Path:
    """Give the path of one table of a shard."""
    return run / SHARDS / f"{number:06d}-{kind}.parquet"


def read_shards(run: Path, kind: str) -> Iterator[pd.DataFrame]:
    """Give one table of every shard, in the order of the shards."""
    for path in sorted((run / SHARDS).glob(f"[0-9]*-{kind}.parquet")):
        yield pd.read_parquet(path)
