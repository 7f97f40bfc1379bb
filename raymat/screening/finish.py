"""From the tables of all shards to one ranking, and what more members would have changed."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from raymat.ensembles.curves import curve_sizes, member_draws
from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError
from raymat.screening.criterion import Criterion
from raymat.screening.evaluate import evaluate
from raymat.screening.ranking import rank, short_list
from raymat.screening.shard_files import EXCLUDED, MEMBERS, TABLE, read_shards
from raymat.tracking.run_directory import RunDirectory

SCREENING, CURVE = "screening", "probability_curve.csv"
CURVE_CANDIDATES = 1000  # of which the curve over the number of members is taken, evenly spaced
CURVE_DRAWS = 10
_SHOWN_REASONS = 3
_WHO = re.compile(r" \(in (\d+ of \d+ members|the known values)[^)]*\)")


def finish_screening(criterion: Criterion, run: RunDirectory, *, n_members: int) -> dict[str, Any]:
    """Rank all candidates, write the run's files and give `metrics.json`.

    The table of all candidates, without what single members say, is held in memory: about 300
    bytes for each.

    Raises:
        DataError: no candidate is left to rank.
        RunError: a file cannot be written.
    """
    run.emit("ranking")
    excluded = _join(run, EXCLUDED, ["material_id", "formula", "reason"])
    with run.replacing("excluded.csv") as path:
        excluded.to_csv(path, index=False)
    table = _join(run, TABLE, [])
    if not len(table):
        raise DataError(_say_nothing_left(excluded))
    ranked = rank(table, criterion)
    with run.replacing(f"{SCREENING}.parquet") as path:
        ranked.to_parquet(path, index=False)
    with run.replacing(f"{SCREENING}.csv") as path:
        ranked.to_csv(path, index=False)
    curve = probability_curve(criterion, run, n_members)
    with run.replacing(CURVE) as path:
        curve.to_csv(path, index=False)
    metrics = {
        "criterion": criterion.name,
        "n_members": n_members,
        "candidates": len(ranked) + len(excluded),
        "ranked": len(ranked),
        "listed": len(short_list(ranked, criterion)),
        "known": int((ranked["source"] != "ensemble").sum()),
        "outside_domain": int((ranked["in_domain"] == False).sum()),  # noqa: E712  not for NA
        "excluded": len(excluded),
        "reasons": dict(count_reasons(excluded)),
    }
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    return metrics


def count_reasons(excluded: pd.DataFrame) -> list[tuple[str, int]]:
    """Count why candidates were excluded, the most frequent reason first.

    A candidate with several reasons counts under each. What tells one candidate from another (a
    site after a colon, how many of the members) is left out.
    """
    counts = Counter[str]()
    for reasons in excluded["reason"]:
        for reason in _WHO.sub("", str(reasons)).split("; "):
            counts[reason.partition(": ")[0]] += 1
    return sorted(counts.items(), key=lambda found: (-found[1], found[0]))


def probability_curve(criterion: Criterion, run: RunDirectory, n_members: int) -> pd.DataFrame:
    """Tell how far probabilities from fewer members lie from those of all of them.

    Returns:
        One row per number of members: ``n_members, n_draws`` and, for every probability of the
        criterion, its mean absolute deviation over candidates and random draws, and the largest
        over candidates of the mean over draws.
    """
    predictions, columns = _some_candidates(criterion, run)
    if not len(columns):
        return pd.DataFrame(columns=["n_members", "n_draws"])
    names = list(criterion.passes)
    whole = evaluate(criterion, predictions, columns).table[names].to_numpy(dtype=np.float64)
    rows = []
    for size in curve_sizes(n_members)[1:-1]:  # one member has no share, all have no deviation
        draws = [
            _deviations(criterion, predictions, columns, members, whole)
            for members in member_draws(n_members, [size], n_draws=CURVE_DRAWS)
        ]
        mean = np.mean(draws, axis=0)
        row: dict[str, float] = {"n_members": size, "n_draws": len(draws)}
        for place, name in enumerate(names):
            row[f"{name}_deviation"] = float(mean[:, place].mean())
            row[f"{name}_largest"] = float(mean[:, place].max())
        rows.append(row)
    return pd.DataFrame(rows)


def _deviations(
    criterion: Criterion,
    predictions: dict[str, MemberPredictions],
    columns: pd.DataFrame,
    members: Any,
    whole: Any,
) -> Any:
    drawn = {name: found.draw(members) for name, found in predictions.items()}
    table = evaluate(criterion, drawn, columns).table[list(criterion.passes)]
    return np.abs(table.to_numpy(dtype=np.float64) - whole)


def _some_candidates(
    criterion: Criterion, run: RunDirectory
) -> tuple[dict[str, MemberPredictions], pd.DataFrame]:
    """Give members' predictions and the columns of candidates that members speak for."""
    counts = [len(members) for members in read_shards(run.path, MEMBERS)]
    step = max(1, -(-sum(counts) // CURVE_CANDIDATES))
    members, columns = [], []
    seen = 0
    for table, spoken in zip(
        read_shards(run.path, TABLE), read_shards(run.path, MEMBERS), strict=True
    ):
        some = spoken.iloc[-seen % step :: step]  # the same ones, whatever the size of the shards
        seen += len(spoken)
        members.append(some)
        columns.append(table[table["material_id"].isin(set(some["material_id"]))])
    if not sum(map(len, members)):
        return {}, pd.DataFrame()
    joined = pd.concat(members, ignore_index=True)
    predictions = {
        name: MemberPredictions.equal(np.stack(joined[name].to_list(), axis=1))
        for name in criterion.predictions
    }
    return predictions, pd.concat(columns, ignore_index=True)


def _join(run: RunDirectory, kind: str, columns: list[str]) -> pd.DataFrame:
    tables = [table for table in read_shards(run.path, kind) if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _say_nothing_left(excluded: pd.DataFrame) -> str:
    reasons = count_reasons(excluded)
    listed = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:_SHOWN_REASONS])
    more = "; and other reasons, see excluded.csv" if len(reasons) > _SHOWN_REASONS else ""
    return f"none of {len(excluded):,} candidates is left to rank: {listed}{more}"
