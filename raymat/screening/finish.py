"""From the tables of all shards to one ranking, and the reasons of those left out."""

import math
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.writers import write_csv
from raymat.errors import DataError, RunError
from raymat.screening.candidates import column_values, numbers_of
from raymat.screening.criterion import Criterion
from raymat.screening.criterion_names import IN_TRAINING
from raymat.screening.member_curve import probability_curve
from raymat.screening.ranking import ranked_candidates, short_list
from raymat.screening.shard_files import EXCLUDED, IS_REJECTED, TABLE, StoredShards
from raymat.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    import pyarrow as pa

SCREENING, CURVE = "screening", "probability_curve.csv"
_SCRATCH = "ranking"  # folder in the run while it is ranked
_EXCLUDED_COLUMNS = ["material_id", "formula", "reason"]
_REJECTED_COLUMNS = ["material_id", "reason"]
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

    Shards are read one after another and sorted on disk, so memory does not grow with the number
    of candidates.

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
    left_out = _write_left_out(shards, run)
    n_ranked = shards.total("judged")
    if n_ranked == 0:
        raise DataError(_say_nothing_left(left_out))
    n_candidates = n_ranked + left_out.n_excluded
    if left_out.n_rejected > max_rejected * n_candidates:
        raise DataError(_say_rejected(left_out, n_candidates, max_rejected, run))
    counts = _write_ranking(shards, criterion, run)
    with run.replacing(CURVE) as path:
        write_csv(probability_curve(criterion, shards, weights), path)
    metrics = {
        "criterion": criterion.name,
        "n_members": len(next(iter(weights.values()))),
        "candidates": n_candidates,
        "ranked": n_ranked,
        **counts,
        "excluded": left_out.n_excluded,
        "rejected": left_out.n_rejected,
        "reasons": dict(most_frequent(left_out.reasons)),
    }
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    return metrics


# --- who is ranked -------------------------------------------------------------------------------


def _write_ranking(shards: StoredShards, criterion: Criterion, run: RunDirectory) -> dict[str, Any]:
    """Write the ranking as Parquet and CSV, and count what is to be known of the ranked."""
    scratch = run.path / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    schema, found = shards.schema(TABLE), _Ranked(criterion)
    try:
        scratch.mkdir()
        with (
            ranked_candidates(shards.read(TABLE), schema, criterion, scratch=scratch) as batches,
            run.replacing(f"{SCREENING}.parquet") as parquet,
            run.replacing(f"{SCREENING}.csv") as csv,
        ):
            for table in _write_numbered(batches, schema, criterion.rank.by, parquet, csv):
                found.count(table)
    except OSError as cause:
        raise RunError(f"{scratch}: cannot be written ({cause.strerror or cause})") from cause
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return found.to_dict()


class _Ranked:
    """Who is ranked, counted batch by batch.

    Args:
        criterion: by which they were.
    """

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self.n = Counter[str]()
        self.passing = dict.fromkeys(criterion.passes, 0)
        known = {name for rule in criterion.known.values() for name in rule.names}
        self.filters = {
            reason: rule
            for reason, rule in criterion.exclude.items()
            if (rule.names & set(criterion.columns)) - known
        }
        self.unknown = dict.fromkeys(self.filters, 0)

    def count(self, table: pd.DataFrame) -> None:
        """Take some candidates in."""
        self.n["listed"] += len(short_list(table, self.criterion))
        by_members = table["source"] == "ensemble"
        self.n["known"] += int((~by_members).sum())
        self.n["outside_domain"] += int((~table["in_domain"]).sum())  # NA is neither
        if IN_TRAINING in table:
            self.n["in_training"] += int((table[IN_TRAINING] & by_members).sum())
            self.n["training_unknown"] += int((table[IN_TRAINING].isna() & by_members).sum())
        self._count_ranks(table)
        values = column_values(self.criterion, table)
        for reason, rule in self.filters.items():
            decided = np.broadcast_to(rule.evaluate(values), len(table))
            self.unknown[reason] += int(np.isnan(decided).sum())

    def to_dict(self) -> dict[str, Any]:
        """Give the counts as `metrics.json` has them."""
        names = ("listed", "known", "outside_domain", "in_training", "training_unknown")
        return {
            **{name: self.n[name] for name in names},
            "filter_unknown": self.unknown,
            "passing": self.passing,
            "ranking": {
                "by": self.criterion.rank.by,
                **{name: self.n[name] for name in ("first", "distinct", "unknown")},
            },
        }

    def _count_ranks(self, table: pd.DataFrame) -> None:
        """Count who shares the first rank, how many ranks there are, and who has no number."""
        ranks = table["rank"].to_numpy()
        self.n["first"] += int((ranks == 1).sum())
        self.n["distinct"] += len(set(ranks.tolist()) - {self.n["last"]})
        self.n["last"] = int(ranks[-1])
        self.n["unknown"] += int(np.isnan(numbers_of(table, self.criterion.rank.by)).sum())
        for name in self.passing:
            self.passing[name] += int((numbers_of(table, name) > 0).sum())


def _write_numbered(
    batches: "Iterator[pa.RecordBatch]", schema: "pa.Schema", by: str, parquet: Path, csv: Path
) -> Iterator[pd.DataFrame]:
    """Write candidates that come in order of `by`, ``rank`` before them, and give each batch.

    Candidates of one value share the first of their ranks (1, 1, 3), also those without a value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema.insert(0, pa.field("rank", pa.int64()))
    place, rank, value = 0, 0, np.nan  # of the last candidate
    with pq.ParquetWriter(parquet, schema) as writer, csv.open("w", encoding="utf-8") as text:
        for batch in batches:
            values = numbers_of(batch.select([by]).to_pandas(), by)
            places = np.arange(place, place + len(batch)) + 1
            before = np.concatenate([[value], values[:-1]])
            is_tied = (values == before) | (np.isnan(values) & np.isnan(before))
            is_tied[0] &= place > 0
            ranks = np.maximum.accumulate(np.where(is_tied, rank, places))
            numbered = pa.record_batch([pa.array(ranks), *batch.columns], schema=schema)
            writer.write_batch(numbered)
            table = numbered.to_pandas(types_mapper=_nullable)
            write_csv(table, text, header=place == 0)
            place, rank, value = int(places[-1]), int(ranks[-1]), values[-1]
            yield table


def _nullable(kind: "pa.DataType") -> Any:
    """Give the pandas type that keeps whole numbers and flags as such where some are missing."""
    import pyarrow as pa

    if kind == pa.bool_():
        return pd.BooleanDtype()
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


# --- who is left out -----------------------------------------------------------------------------


@dataclass
class _LeftOut:
    """Who is not ranked, counted.

    Attributes:
        n_excluded: candidates that are not ranked, the next ones among them.
        n_rejected: rows that are no usable crystals.
        reasons: of all.
        rejected_reasons: of the rejected.
    """

    n_excluded: int = 0
    n_rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejected_reasons: Counter[str] = field(default_factory=Counter)


def _write_left_out(shards: StoredShards, run: RunDirectory) -> _LeftOut:
    """Write who was excluded, and apart who is no usable crystal, shard by shard."""
    found = _LeftOut()
    with (
        run.replacing("excluded.csv") as excluded,
        run.replacing("rejected.csv") as rejected,
        excluded.open("w", encoding="utf-8") as all_text,
        rejected.open("w", encoding="utf-8") as rejected_text,
    ):
        write_csv(pd.DataFrame(columns=_EXCLUDED_COLUMNS), all_text)
        write_csv(pd.DataFrame(columns=_REJECTED_COLUMNS), rejected_text)
        for table in shards.read(EXCLUDED):
            unusable = table[table[IS_REJECTED].astype(bool)]
            write_csv(table[_EXCLUDED_COLUMNS], all_text, header=False)
            write_csv(unusable[_REJECTED_COLUMNS], rejected_text, header=False)
            found.n_excluded += len(table)
            found.n_rejected += len(unusable)
            found.reasons += count_reasons(table["reason"])
            found.rejected_reasons += count_reasons(unusable["reason"])
    return found


def count_reasons(told: Iterable[object]) -> Counter[str]:
    """Count why candidates were excluded.

    A candidate with several reasons counts under each. What tells one candidate from another (a
    site after a colon, how many of the members, what stood in a cell) is left out.
    """
    counts = Counter[str]()
    for reasons in told:
        plain = _CELL.sub(r"\1 holds no number", _WHO.sub("", str(reasons)))
        for reason in plain.split("; "):
            counts[reason.partition(": ")[0]] += 1
    return counts


def most_frequent(reasons: Counter[str]) -> list[tuple[str, int]]:
    """Give reasons and their counts, the most frequent first, ties by name."""
    return sorted(reasons.items(), key=lambda found: (-found[1], found[0]))


def _say_nothing_left(left_out: _LeftOut) -> str:
    listed = _say_reasons(left_out.reasons, "excluded.csv")
    return f"none of {left_out.n_excluded:,} candidates is left to rank: {listed}"


def _say_rejected(
    left_out: _LeftOut, n_candidates: int, max_rejected: float, run: RunDirectory
) -> str:
    enough = math.ceil(100 * left_out.n_rejected / n_candidates) / 100
    reasons = _say_reasons(left_out.rejected_reasons, "rejected.csv")
    return (
        f"{left_out.n_rejected:,} of {n_candidates:,} candidates cannot be used, more than"
        f" --max-rejected {max_rejected:g}: {reasons}; fix them and start a new run, or rank the"
        f" others with `raymat resume {shlex.quote(str(run.path))} --max-rejected {enough:g}`"
    )


def _say_reasons(reasons: Counter[str], file: str) -> str:
    told = most_frequent(reasons)
    listed = "; ".join(f"{count:,} {reason}" for reason, count in told[:_SHOWN_REASONS])
    more = f"; and other reasons, see {file}" if len(told) > _SHOWN_REASONS else ""
    return listed + more
