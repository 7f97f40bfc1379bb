"""From the tables of all shards to one ranking, and the reasons of those left out."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import DataError
from raymat.screening.criterion import Criterion
from raymat.screening.member_curve import probability_curve
from raymat.screening.plain_columns import join_tables, plain_columns
from raymat.screening.ranking import rank, short_list
from raymat.screening.shard_files import (
    EXCLUDED,
    IS_REJECTED,
    TABLE,
    StoredShards,
    write_parquet,
)
from raymat.tracking.run_directory import RunDirectory

SCREENING, CURVE = "screening", "probability_curve.csv"
_EXCLUDED_COLUMNS = ["material_id", "formula", "reason"]
_SHOWN_REASONS = 3
# What tells one candidate's reason from another's: who says so, and what stood in a cell.
_WHO = re.compile(r" \(in (\d+ of \d+ members|the known values)[^)]*\)")
_CELL = re.compile(r"(column '[^']*') holds .*?, a number is needed")


def finish_screening(
    criterion: Criterion,
    run: RunDirectory,
    *,
    n_shards: int,
    weights: Mapping[str, NDArray[np.float64]],
    max_rejected: float,
) -> dict[str, Any]:
    """Rank all candidates, write the run's files and give `metrics.json`.

    The table of all candidates, without what single members say, is held in memory: about 300
    bytes for each.

    Args:
        criterion: what was screened by.
        run: whose shards have ended.
        n_shards: how many there must be.
        weights: prediction -> (n_members,) of the ensemble that makes it.
        max_rejected: largest share of rows that are no usable crystals.

    Raises:
        DataError: no candidate is left to rank, or too many rows are no usable crystals.
        RunError: a file of a shard is missing or damaged, or a file cannot be written.
    """
    run.emit("ranking")
    shards = StoredShards.of(run.path, run.events())
    shards.check_complete(n_shards)
    excluded = _join(shards, EXCLUDED, [*_EXCLUDED_COLUMNS, IS_REJECTED])
    rejected = _write_left_out(run, excluded)
    table = _join(shards, TABLE, [])
    if not len(table):
        raise DataError(_say_nothing_left(excluded))
    n_candidates = len(table) + len(excluded)
    if len(rejected) > max_rejected * n_candidates:
        raise DataError(_say_rejected(rejected, n_candidates, max_rejected, run))
    ranked = plain_columns(rank(table, criterion))
    with run.replacing(f"{SCREENING}.parquet") as path:
        write_parquet(ranked, path)
    with run.replacing(f"{SCREENING}.csv") as path:
        ranked.to_csv(path, index=False)
    with run.replacing(CURVE) as path:
        probability_curve(criterion, shards, weights).to_csv(path, index=False)
    metrics = {
        "criterion": criterion.name,
        "n_members": len(next(iter(weights.values()))),
        "candidates": n_candidates,
        "ranked": len(ranked),
        "listed": len(short_list(ranked, criterion)),
        "known": int((ranked["source"] != "ensemble").sum()),
        "outside_domain": int((ranked["in_domain"] == False).sum()),  # noqa: E712  not for NA
        "excluded": len(excluded),
        "rejected": len(rejected),
        "reasons": dict(count_reasons(excluded)),
    }
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    return metrics


def count_reasons(excluded: pd.DataFrame) -> list[tuple[str, int]]:
    """Count why candidates were excluded, the most frequent reason first.

    A candidate with several reasons counts under each. What tells one candidate from another (a
    site after a colon, how many of the members, what stood in a cell) is left out.
    """
    counts = Counter[str]()
    for reasons in excluded["reason"]:
        plain = _CELL.sub(r"\1 holds no number", _WHO.sub("", str(reasons)))
        for reason in plain.split("; "):
            counts[reason.partition(": ")[0]] += 1
    return sorted(counts.items(), key=lambda found: (-found[1], found[0]))


def _join(shards: StoredShards, kind: str, columns: list[str]) -> pd.DataFrame:
    tables = [table for table in shards.read(kind) if len(table)]
    return join_tables(tables) if tables else pd.DataFrame(columns=columns)


def _write_left_out(run: RunDirectory, excluded: pd.DataFrame) -> pd.DataFrame:
    """Write who was excluded, and apart who is no usable crystal; give the latter."""
    with run.replacing("excluded.csv") as path:
        excluded[_EXCLUDED_COLUMNS].to_csv(path, index=False)
    is_rejected = excluded[IS_REJECTED].to_numpy(dtype=bool)
    rejected = excluded.loc[is_rejected, ["material_id", "reason"]]
    with run.replacing("rejected.csv") as path:
        rejected.to_csv(path, index=False)
    return rejected


def _say_nothing_left(excluded: pd.DataFrame) -> str:
    listed = _say_reasons(excluded, "excluded.csv")
    return f"none of {len(excluded):,} candidates is left to rank: {listed}"


def _say_rejected(
    rejected: pd.DataFrame, n_candidates: int, max_rejected: float, run: RunDirectory
) -> str:
    enough = math.ceil(100 * len(rejected) / n_candidates) / 100
    return (
        f"{len(rejected):,} of {n_candidates:,} candidates cannot be used, more than --max-rejected"
        f" {max_rejected:g}: {_say_reasons(rejected, 'rejected.csv')}; mend them and start a new"
        f" run, or rank the others with `raymat resume {run.path} --max-rejected {enough:g}`"
    )


def _say_reasons(left_out: pd.DataFrame, file: str) -> str:
    reasons = count_reasons(left_out)
    listed = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:_SHOWN_REASONS])
    more = f"; and other reasons, see {file}" if len(reasons) > _SHOWN_REASONS else ""
    return listed + more
