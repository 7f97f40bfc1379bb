"""The page of a screening: who was judged, who was excluded and why, and who comes first."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raymat.ensembles import SHARED_ERRORS
from raymat.errors import RunError
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.parts import Chart, Note, Part, Section, Table
from raymat.reports.page.run_files import RunFiles
from raymat.reports.page.screening_charts import (
    best_candidates,
    best_values,
    distributions,
    member_numbers,
    passes_of,
)
from raymat.reports.page.stability import stability
from raymat.reports.screening_results import all_are_tied, nothing_passes, say_ranking
from raymat.screening.criterion_names import IN_DOMAIN, IN_TRAINING
from raymat.screening.finish import SCREENING, count_reasons, most_frequent

REPLACED = frozenset({"top", "histograms", "passes", "stability_diagram", "probability_curve"})
MOST_LISTED = 3_000  # candidates of a table
_MOST_GIVEN = 12  # columns of the user's that the table shows
_MOST_REASONS = 20  # bars
_DIGITS = 4  # of a number in the tables
_OWN = (IN_TRAINING, "domain_distance", "unseen_elements")  # beside what the criterion makes
_IDENTITY = ("rank", "material_id", "formula")
_ENDINGS = ("", "_std", "_lo", "_hi")
_FATES = {
    "candidates": "read",
    "excluded": "excluded",
    "rejected": "excluded: no usable crystal",
    "ranked": "ranked",
    "listed": "ranked, and on the criterion's short list",
    "known": "ranked by known values instead of the members",
    "outside_domain": "ranked, outside the training domain",
    "in_training": "ranked, known to an ensemble from training or selection",
    "training_unknown": "ranked, not known whether an ensemble learned from it",
}


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of a screening.

    Raises:
        RunError: its log cannot be read.
    """
    ranking = f"{SCREENING}.parquet"
    made = {"Candidates": parts_or_note(lambda: _fates(run))}
    if run.has(ranking):
        made["Ranking"] = parts_or_note(lambda: _ranking(run, ranking))
        made["Stability"] = parts_or_note(lambda: stability(run, ranking))
        made["Distributions"] = parts_or_note(lambda: _distributions(run, ranking))
    if run.has("probability_curve.csv"):
        made["Number of members"] = parts_or_note(lambda: member_numbers(run))
    if run.has("excluded.csv"):
        made["Excluded"] = parts_or_note(lambda: _excluded(run))
    made |= {"Criterion": _criterion(run), "Shards": _shards(run)}
    return [Section(title, parts) for title, parts in made.items() if parts]


# --- who is left ---------------------------------------------------------------------------------


def _fates(run: RunFiles) -> Iterator[Part]:
    shards = _ended(run)
    if not run.has("metrics.json"):
        begun = run.last("screening_started") or {}
        judged, excluded = (sum(int(s.get(key, 0)) for s in shards) for key in _COUNTED)
        yield Note(
            f"{len(shards):,} of {begun.get('shards', 0):,} shards have ended: of"
            f" {begun.get('candidates', 0):,} candidates {judged:,} are judged and {excluded:,}"
            " excluded. They are ranked when all shards have ended."
        )
        return
    metrics = run.json("metrics.json")
    known = {name: metrics[key] for key, name in _FATES.items() if metrics.get(key) is not None}
    rows = pd.DataFrame(known.items(), columns=["what became of them", "candidates"])
    total = metrics.get("candidates")
    if total:
        rows["share"] = [f"{100 * count / total:.1f} %" for count in rows["candidates"]]
    yield Table("How many candidates", rows, _say_members(metrics))
    yield from _reasons(metrics)


def _say_members(metrics: dict[str, Any]) -> str:
    told = f"Criterion {metrics.get('criterion', '')}"
    members = metrics.get("n_members")
    return f"{told}, judged by {members:,} members." if members else f"{told}."


def _reasons(metrics: dict[str, Any]) -> Iterator[Part]:
    """Tell why candidates were excluded, and for how many of the others that is not known."""
    reasons = {str(reason): int(count) for reason, count in (metrics.get("reasons") or {}).items()}
    unknown = metrics.get("filter_unknown") or {}
    if not reasons and not unknown:
        yield Note("No candidate was excluded.")
        return
    table = pd.DataFrame({"reason": list(dict.fromkeys([*reasons, *unknown]))})
    table["excluded"] = [reasons.get(reason, 0) for reason in table["reason"]]
    caption = "A candidate with several reasons counts under each."
    if unknown:
        table["ranked, value not known"] = [unknown.get(reason) for reason in table["reason"]]
        caption += " A filter is not applied to candidates of which its value is not known."
    if reasons:
        yield reason_chart(table)
    yield Table("Reasons", table, caption)


def reason_chart(table: pd.DataFrame) -> Chart:
    """Draw how many candidates were excluded for each reason, the most frequent first."""
    rows = table.loc[table["excluded"] > 0, ["reason", "excluded"]].head(_MOST_REASONS)
    y, height = charts.names("reason", rows["reason"])
    drawn = (
        charts.base()
        .mark_bar()
        .encode(
            x=alt.X("excluded:Q", title="candidates", axis=alt.Axis(format=",d", tickMinStep=1)),
            y=y,
            tooltip=charts.tips(rows, "reason", "excluded"),
        )
        .properties(height=height * len(rows))
    )
    return charts.chart("Why candidates were excluded", drawn, rows)


def _excluded(run: RunFiles) -> Iterator[Part]:
    table = run.table("excluded.csv")
    if table.empty:
        return
    if not run.has("metrics.json"):
        counts = most_frequent(count_reasons(table["reason"]))
        yield reason_chart(pd.DataFrame(counts, columns=["reason", "excluded"]))
    caption = _say_listed(len(table), "excluded.csv", "first")
    yield Table("Excluded candidates", table.head(MOST_LISTED), caption)


def _say_listed(n: int, file: str, which: str) -> str:
    if n <= MOST_LISTED:
        return f"All {n:,}, as in {file}."
    return f"The {which} {MOST_LISTED:,} of {n:,}; all of them are in {file}."


# --- who comes first -----------------------------------------------------------------------------


def _ranking(run: RunFiles, file: str) -> Iterator[Part]:
    first = run.first_rows(file, MOST_LISTED)
    if first.empty:
        yield Note("No candidate was left to rank.")
        return
    criterion = _asked(run)
    yield Note(SHARED_ERRORS)
    metrics = _metrics(run)
    yield from (Note(sentence) for sentence in say_ranking(metrics))
    if not all_are_tied(metrics):
        yield from () if nothing_passes(metrics) else best_candidates(first)
        yield from best_values(first, (criterion.get("rank") or {}).get("by"))
    n = len(run.table(file, columns=["rank"]))
    shown = [name for name in _columns(first, criterion) if not first[name].isna().all()]
    caption = (
        f"{_say_listed(n, f'{SCREENING}.csv', 'best')} _std: standard deviation of the members; _lo"
        " and _hi: 95 % interval; ∞: without bound. The file has the candidates' other columns."
    )
    yield Table("Ranked candidates", _rounded(first[shown]), caption)


def _metrics(run: RunFiles) -> dict[str, Any]:
    try:
        return run.json("metrics.json") if run.has("metrics.json") else {}
    except RunError:  # the section on all candidates reports it
        return {}


def _columns(table: pd.DataFrame, criterion: dict[str, Any]) -> list[str]:
    """Give the columns to show: what decides first, all that raymat made, some of the user's.

    Of the user's columns those that the criterion reads come before others.
    """
    names = [str(name) for name in table]
    split = names.index(IN_DOMAIN) + 1 if IN_DOMAIN in names else len(names)
    made, given = names[:split], names[split:]
    by = (criterion.get("rank") or {}).get("by")
    deciding = [f"{name}{end}" for name in (by, *passes_of(made)) for end in _ENDINGS]
    heads = [name for name in dict.fromkeys([*_IDENTITY, *deciding]) if name in made]
    made = [*heads, *(name for name in made if name not in heads)]
    read = list(criterion.get("columns") or {})
    wanted = sorted(given, key=lambda name: (name not in _OWN, name not in read))
    return [*made, *(name for name in given if name in wanted[:_MOST_GIVEN])]


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Give numbers with the digits that one can read; the files have all of them."""
    rounded = table.copy()
    for name in (name for name in table if pd.api.types.is_float_dtype(table[name])):
        values = table[name].to_numpy(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.floor(np.log10(np.abs(values)))
            step = 10.0 ** np.where(np.isfinite(size), size - _DIGITS + 1, 0.0)
            rounded[name] = np.round(values / step) * step
    return rounded


def _distributions(run: RunFiles, file: str) -> Iterator[Part]:
    names = [str(name) for name in run.first_rows(file, 1)]
    passes = passes_of(names)
    values = [name for name in names if f"{name}_std" in names]
    wanted = [*passes, *values]
    units = _asked(run).get("columns") or {}
    if wanted:
        table = run.table(file, columns=wanted)
        yield from distributions(table, passes, values, units)


# --- what was asked, and how far it is -----------------------------------------------------------

_COUNTED = ("judged", "excluded")
_SECTIONS = {
    "predictions": "a prediction of",
    "values": "value, for every member",
    "passes": "passes if, share of the members",
    "counts": "counted if, over the members",
    "exclude": "excluded if",
    "require": "excluded unless, for every member",
}


def _asked(run: RunFiles) -> dict[str, Any]:
    """Give the criterion as `run.json` has it; empty where it has none."""
    asked = (run.header.get("arguments") or {}).get("criterion")
    return asked if isinstance(asked, dict) else {}


def _criterion(run: RunFiles) -> list[Part]:
    asked = _asked(run)
    rows = [
        {"what": meaning, "name": name, "expression": str(text)}
        for section, meaning in _SECTIONS.items()
        for name, text in (asked.get(section) or {}).items()
    ]
    rank = asked.get("rank") or {}
    if rank:
        order = str(rank.get("order", "descending"))
        rows.append({"what": "ranked by", "name": str(rank.get("by")), "expression": order})
    if asked.get("list_if"):
        rows.append({"what": "on the short list if", "name": "", "expression": asked["list_if"]})
    return [Table("What was asked of a candidate", pd.DataFrame(rows))] if rows else []


def _ended(run: RunFiles) -> list[dict[str, Any]]:
    """Give the shards that have ended, each as it was logged last."""
    ended = {event["shard"]: event for event in run.events if event["event"] == "shard_ended"}
    return [dict(ended[number]) for number in sorted(ended)]


def _shards(run: RunFiles) -> list[Part]:
    rows = pd.DataFrame(_ended(run)).drop(columns=["event"], errors="ignore")
    if rows.empty:
        return []
    caption = (
        "spoken_for: candidates that members had to judge; predict_time_s: seconds of their"
        " predictions; member_atoms: atoms times members."
    )
    return [Table("Shards", rows, caption)]
