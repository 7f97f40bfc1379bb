"""The page of a comparison: scores, what tuning gained, what models cost, and what failed."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from raymat.errors import RunError
from raymat.reports.comparison_pairs import say_verdicts
from raymat.reports.comparison_statistics import (
    checked_rows,
    largest_size,
    learning_curve_fit,
    summarise,
)
from raymat.reports.drawing import with_unit
from raymat.reports.page.comparison_charts import gain_chart, pair_chart, score_chart
from raymat.reports.page.comparison_costs import cost_chart, curve_chart
from raymat.reports.page.comparison_text import REPORT, how_to_read, of_property
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.partial_files import whole_rows
from raymat.reports.page.parts import Note, Part, Section, Table
from raymat.reports.page.run_files import RunFiles

REPLACED = frozenset({"comparison-*"})
_TABLE, _DIFFERENCES = "comparison.csv", "differences.csv"
_SCORES = ("mae", "rmse", "r2", "auc", "accuracy", "accuracy_0", "accuracy_1", "first_mae")
_COSTS = ("train_time_s", "search_time_s", "featurize_time_s", "n_parameters", "model_bytes",
          "n_trials", "n_trials_complete")  # fmt: skip

_PAIR = ("property", "n_train", "model", "setting", "other_model", "other_setting", "metric",
         "difference", "told_apart")  # fmt: skip


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of a comparison.

    Raises:
        RunError: its log or its table cannot be read.
    """
    rows, notes = _rows(run)
    progress = [*notes, *_progress(run)]
    if rows.empty:
        return [Section("Scores", [*progress, Note("No cell has a result yet.")]), *_failed(run)]
    rows = checked_rows(rows)
    differences, told = _differences(run)
    properties = list(dict.fromkeys(rows["property"]))
    return [
        Section("Scores", [*progress, _score_table(rows)]),
        *_failed(run),
        *(_of_property(run, rows, differences, name) for name in properties),
        *_difference_section(differences, told),
        Section("Cells", [_cell_table(rows)]),
        *_remarks(run),
    ]


def _rows(run: RunFiles) -> tuple[pd.DataFrame, list[Note]]:
    """Give the rows of the finished cells: of the table, or of the log before there is one."""
    if run.has(_TABLE):
        return whole_rows(run, _TABLE)
    ended = {e["cell"]: e["row"] for e in run.events if e["event"] == "cell_ended"}
    return pd.DataFrame(list(ended.values())), []


def _differences(run: RunFiles) -> tuple[pd.DataFrame, list[Note]]:
    """Give the paired differences, which are written at the end."""
    if not run.has(_DIFFERENCES):
        return pd.DataFrame(), []
    try:
        return whole_rows(run, _DIFFERENCES)
    except RunError as error:
        return pd.DataFrame(), [Note(f"{error}.", is_warning=True)]


def _progress(run: RunFiles) -> list[Note]:
    """Say how many cells are done, where some are not."""
    begun = run.last("comparison_started") or {}
    total = int(run.header.get("cells") or begun.get("cells") or 0)
    done = len({e["cell"] for e in run.events if e["event"] == "cell_ended"})
    if not total or done >= total:
        return []
    failed = len(_errors(run))
    also = f", {failed:,} failed" if failed else ""
    text = f"{done:,} of {total:,} cells are done{also}; means and differences can still change."
    return [Note(text)]


def _errors(run: RunFiles) -> dict[str, str]:
    """Give cell -> why it failed, of those that have not been done again since."""
    found: dict[str, str] = {}
    for event in run.events:
        if event["event"] == "cell_failed":
            found[event["cell"]] = event["error"]
        elif event["event"] == "cell_ended":
            found.pop(event["cell"], None)
    return found


def _failed(run: RunFiles) -> list[Section]:
    rows = pd.DataFrame(list(_errors(run).items()), columns=["cell", "error"])
    if rows.empty:
        return []
    caption = f"`raymat resume {run.path}` tries them again."
    return [Section("Failed cells", [Table("Cells that failed", rows, caption)])]


# --- tables --------------------------------------------------------------------------------------


def _score_table(rows: pd.DataFrame) -> Table:
    """Give means and standard deviations over the repetitions."""
    summary = summarise(rows)
    columns = ["property", "unit", "n_train", "n_test", "model", "setting", "n_repetitions"]
    shown = summary[columns].rename(columns={"n_repetitions": "repetitions"})
    for name in (*_SCORES, *_COSTS):
        if f"{name}_mean" not in summary or summary[f"{name}_mean"].isna().all():
            continue
        shown[name] = summary[f"{name}_mean"]
        if name in _SCORES and summary[f"{name}_std"].notna().any():
            shown[f"± {name}"] = summary[f"{name}_std"]
    shown["device"] = summary["device"]
    caption = (
        "Means over the repetitions on the test rows, ± their standard deviation; mae and rmse in"
        " the unit of the property. first_mae: of the first seed of a default. Times in seconds:"
        " train_time_s of the chosen model's training steps, search_time_s of all trials,"
        " featurize_time_s of making the graphs or descriptors."
    )
    return Table("Means over the repetitions", shown, caption)


def _cell_table(rows: pd.DataFrame) -> Table:
    shown = rows.dropna(axis="columns", how="all")
    return Table("Every cell", shown, "A row for each repetition, as in comparison.csv.")


def _difference_section(differences: pd.DataFrame, told: list[Note]) -> list[Section]:
    if differences.empty:
        return [Section("Paired differences", told)] if told else []
    caption = (
        "difference: of mae (or accuracy, with classes), the first minus the second, on the same"
        " test rows. All intervals are 95 %: bootstrap over the crystals; t over the repetitions;"
        " corrected: t with the variance widened for common training rows."
    )
    first = [name for name in _PAIR if name in differences]
    others = [name for name in differences if name not in first]
    shown = differences[[*first, *others]].dropna(axis="columns", how="all")
    return [Section("Paired differences", [*told, Table("All pairs", shown, caption)])]


def _remarks(run: RunFiles) -> list[Section]:
    texts = how_to_read(run)
    if not texts:
        return []
    pointer = f"The whole report with its tables in text: {run.path / REPORT}"
    return [Section("How to read this", [Note(text) for text in (*texts, pointer)])]


# --- one property --------------------------------------------------------------------------------


def _of_property(
    run: RunFiles, rows: pd.DataFrame, differences: pd.DataFrame, name: str
) -> Section:
    own = rows[rows["property"] == name]
    make = partial(_property_parts, run, own, differences, name)
    return Section(with_unit(name, own.iloc[0]["unit"]), parts_or_note(make))


def _property_parts(
    run: RunFiles, own: pd.DataFrame, differences: pd.DataFrame, name: str
) -> Iterator[Part]:
    yield from (Note(text) for text in of_property(run, name))
    summary = summarise(own)
    size = largest_size(summary)
    at_most = own[own["training_size"] == size]
    yield score_chart(at_most)
    if not differences.empty:
        mine = differences[differences["property"] == name]
        yield from (Note(line) for line in say_verdicts(mine).get(name, ()))
    yield from _pairs(at_most, differences, name)
    cost = cost_chart(summary[summary["training_size"] == size])
    if cost is not None:
        yield cost
    curve = curve_chart(summary)
    if curve is not None:
        yield curve
        yield _slope_table(own)


def _pairs(at_most: pd.DataFrame, differences: pd.DataFrame, name: str) -> list[Part]:
    """Give the differences with their intervals, or before there are any without."""
    if not differences.empty:
        sizes = differences["training_size"].astype(str)
        is_own = (differences["property"] == name) & (
            sizes == str(at_most.iloc[0]["training_size"])
        )
        if is_own.any():
            return [pair_chart(differences[is_own])]
    gain = gain_chart(at_most)
    return [] if gain is None else [gain]


def _slope_table(own: pd.DataFrame) -> Table:
    slopes = learning_curve_fit(own).drop(columns=["property", "intercept"])
    caption = (
        "Of a straight line through log10(MAE) against log10(training rows), at least three sizes;"
        " slope_low to slope_high is its 95 % interval. A slope of -0.3 halves the error with ten"
        " times the rows."
    )
    return Table("Slopes of the learning curve", slopes.dropna(axis="columns", how="all"), caption)
