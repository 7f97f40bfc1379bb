"""The page of an ensemble: its members, whether their spread can be trusted, how many it takes."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from raymat.ensembles.record import MEMBER_STARTED, EnsembleRecord
from raymat.errors import RunError
from raymat.reports.drawing import score_labels
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note, warning
from raymat.reports.page.member_curve import member_curve
from raymat.reports.page.parts import Chart, Note, Part, Section, Table
from raymat.reports.page.run_files import RunFiles
from raymat.reports.page.spread import spread
from raymat.training.metrics import score_name

REPLACED = frozenset({"calibration", "member_curve"})
_FEWEST = 3  # members of a distribution
_ATTEMPTS = "every attempt that failed; a member has a new seed in the next one"


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of an ensemble.

    Raises:
        RunError: its log cannot be read.
    """
    record = EnsembleRecord.from_events(run.events, _planned(run))
    members = parts_or_note(lambda: _members(run, record))
    made = [
        Section("Members", [*members, *_failures(record)]),
        Section("Spread of the members", parts_or_note(lambda: spread(run))),
        Section("Number of members", parts_or_note(lambda: member_curve(run))),
    ]
    return [section for section in made if section.parts]


def _planned(run: RunFiles) -> int:
    begun = run.last("ensemble_started") or {}
    seen = [int(event["member"]) + 1 for event in run.events if "member" in event]
    return int(begun.get("members") or max(seen, default=0))


def _members(run: RunFiles, record: EnsembleRecord) -> Iterator[Part]:
    """Tell of the members that have ended: from the log, where there is no table yet."""
    score = score_name(run.header.get("task", "regression"))
    table = record.table(score)
    if record.n_planned:
        yield Note(_say_members(run, record))
    if run.has("members.parquet"):
        try:
            table = run.table("members.parquet")
        except RunError as error:
            yield warning(error)
    score = next((name for name in score_labels("") if name in table), score)
    scored = table.dropna(subset=[score])
    if len(scored) >= _FEWEST:
        yield _distribution(scored, score, run)
    if len(table):
        yield _table(table, score)


def _say_members(run: RunFiles, record: EnsembleRecord) -> str:
    """Say how many members have ended, and how those fared that have not."""
    begun = {int(event["member"]) for event in run.events if event["event"] == MEMBER_STARTED}
    open_ones = begun - set(record.ended) - set(record.given_up)
    size = (run.last("ensemble_started") or {}).get("n_train")
    told = [f"{len(record.ended):,} of {record.n_planned:,} members are trained"]
    if size:
        told[0] += f", each on {size:,} crystals drawn from the training rows"
    if open_ones:
        told.append(f"{len(open_ones):,} had begun and not ended when the log was written")
    if record.n_retried:
        told.append(f"{record.n_retried:,} needed another attempt")
    if record.given_up:
        told.append(f"{len(record.given_up):,} failed for good")
    return f"{'; '.join(told)}."


def _distribution(table: pd.DataFrame, score: str, run: RunFiles) -> Chart:
    label = score_labels(str(run.header.get("unit", "")))[score]
    drawn = (
        charts.base()
        .mark_bar()
        .encode(
            x=alt.X(f"{score}:Q", bin=alt.Bin(maxbins=25), title=label),
            y=alt.Y("count()", title="members", axis=alt.Axis(tickMinStep=1)),
            tooltip=[alt.Tooltip("count()", title="members")],
        )
        .properties(height=200)
    )
    values = table[score]
    caption = (
        f"From {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}, standard"
        f" deviation {values.std():.2g}. Members differ by their rows and their seeds only,"
        " unless several configurations were given."
    )
    return charts.chart("Scores of the members", drawn, table[["member", score]], caption)


def _table(table: pd.DataFrame, score: str) -> Table:
    order = table.sort_values(score, ascending=score != "val_auc", na_position="last")
    caption = (
        f"{score} is that of the best epoch, time_s the seconds of training; the best member"
        " comes first."
    )
    return Table("All members", order.drop(columns="error", errors="ignore"), caption)


def _failures(record: EnsembleRecord) -> list[Part]:
    rows = [
        {"member": member, "attempt": attempt + 1, "seed": told["seed"], "error": told["error"]}
        for member, failed in sorted(record.failures.items())
        for attempt, told in enumerate(failed)
    ]
    return [Table("Failed attempts", pd.DataFrame(rows), _ATTEMPTS)] if rows else []
