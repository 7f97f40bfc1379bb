"""The page of a search: leaderboard, curves, what the search preferred, and the winner's errors."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raymat.properties import Task
from raymat.reports.drawing import score_labels
from raymat.reports.intervals import score_frame
from raymat.reports.number_text import number
from raymat.reports.page import charts
from raymat.reports.page.importance import importances
from raymat.reports.page.parts import Chart, Note, Part, Section, Table
from raymat.reports.page.run_files import RunFiles
from raymat.training.metrics import higher_is_better
from raymat.tuning.study import Study

MOST_CURVES = 200  # trials whose curves are drawn: the best, and others at equal distances
_STATUS = {
    "complete": "#0072b2",
    "stopped": "#e69f00",
    "failed": "#d55e00",
    "running": "#009e73",
}
_COST_COLUMNS = ["trial_id", "status", "best_epoch", "epochs", "time_s", "n_parameters"]


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of a search.

    Raises:
        RunError: its log cannot be read.
    """
    study = Study.from_events(run.events, task_of(run))
    if not study.trials:
        return [Section("Trials", [Note("No trial has begun yet.")])]
    trials, curves = study.trial_table(), study.curve_table()
    label = score_label(run, study)
    return [
        Section("Trials", [_leaderboard(trials, study), *_failures(trials)]),
        Section("Search", _search_parts(study, trials, curves, label)),
        Section("Time and hardware", [_hardware(trials)]),
    ]


def task_of(run: RunFiles) -> Task:
    """Give what the run learns."""
    return "classification" if run.header.get("task") == "classification" else "regression"


def score_label(run: RunFiles, study: Study) -> str:
    """Give the name of the validation score with its unit."""
    return score_labels(run.header.get("unit", ""))[study.score_name]


def _leaderboard(trials: pd.DataFrame, study: Study) -> Table:
    """All trials, the best first, with the values that differ between them."""
    score = study.score_name
    searched = sorted({key for trial in study.trials.values() for key in trial.values})
    columns = [c for c in (f"config.{key}" for key in searched) if c in trials]
    order = trials[score].rank(ascending=study.task == "regression", na_option="bottom")
    rows = trials.assign(order=order).sort_values(["order", "trial_id"])
    shown = rows[["trial_id", "status", score, *_COST_COLUMNS[2:], *columns]]
    shown = shown.rename(columns={c: c.removeprefix("config.") for c in columns})
    caption = (
        f"{score} is that of the best epoch. Trial 0000 has the default configuration. Stopped"
        " trials were ended early; their score is that of fewer epochs."
    )
    return Table("Leaderboard", shown, caption)


def _failures(trials: pd.DataFrame) -> list[Part]:
    failed = trials[trials["status"] == "failed"]
    if failed.empty:
        return []
    return [Table("Failed trials", failed[["trial_id", "error"]].reset_index(drop=True))]


def _search_parts(
    study: Study, trials: pd.DataFrame, curves: pd.DataFrame, label: str
) -> list[Part]:
    if curves.empty:
        return [Note("No trial has finished an epoch yet.")]
    parts: list[Part] = [
        _curves(curves, trials, study, label),
        _progress(trials, study, label),
    ]
    places = _places(study)
    if not places.empty:
        parts.append(_parallel(places, label, study.task))
    return [*parts, *_importance(study)]


def _curves(curves: pd.DataFrame, trials: pd.DataFrame, study: Study, label: str) -> Chart:
    score = study.score_name
    status = trials.set_index("trial_id")["status"]
    kept = _drawn_trials(trials, study)
    rows = curves.loc[curves["trial_id"].isin(kept), ["trial_id", "epoch", score, "train_loss"]]
    rows = rows.assign(status=rows["trial_id"].map(status))
    best = f"{study.best_trial().number:04d}" if any(trials["status"] != "failed") else ""
    rows = rows.assign(is_best=rows["trial_id"] == best)
    scale, outside = _frame(rows[score], study.task, "epoch")
    drawn = (
        charts.base()
        .mark_line(point=bool(rows["epoch"].max() == 1))
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y(**charts.quantity(score, label, **scale)),
            detail="trial_id:N",
            color=_status_color(),
            size=alt.condition("datum.is_best", alt.value(3), alt.value(0.8)),
            opacity=alt.condition("datum.is_best", alt.value(1.0), alt.value(0.45)),
            tooltip=charts.tips(rows, "trial_id", "epoch", score, "status"),
        )
    )
    left_out = len(trials) - len(kept)
    of_all = f" {left_out:,} other trials are in the leaderboard only." if left_out > 0 else ""
    caption = f"One line for each trial; the best is thick.{of_all}{outside}"
    return charts.chart("Learning curves", charts.zoomable(drawn), rows, caption)


def _drawn_trials(trials: pd.DataFrame, study: Study) -> set[str]:
    """Give the trials whose curves are drawn: the better half the best, the rest spread out."""
    if len(trials) <= MOST_CURVES:
        return set(trials["trial_id"])
    ascending = study.task == "regression"
    ordered = trials.sort_values(study.score_name, ascending=ascending)["trial_id"].tolist()
    half = MOST_CURVES // 2
    spread = np.linspace(half, len(ordered) - 1, half).astype(int)
    return {*ordered[:half], *(ordered[place] for place in spread), "0000"}


def _progress(trials: pd.DataFrame, study: Study, label: str) -> Chart:
    score = study.score_name
    rows = trials[["trial_id", "status", score]].assign(trial=trials["trial_id"].astype(int))
    running = rows[score].cummax() if higher_is_better(study.task) else rows[score].cummin()
    rows = rows.assign(best_so_far=running.ffill())
    shown = charts.base()
    scale, outside = _frame(rows[score], study.task, "trial")
    points = shown.mark_circle(size=36, clip=True).encode(
        x=alt.X("trial:Q", title="trial"),
        y=alt.Y(**charts.quantity(score, label, **scale)),
        color=_status_color(),
        tooltip=charts.tips(rows, "trial_id", "status", score),
    )
    line = shown.mark_line(interpolate="step-after", color="gray", clip=True).encode(
        x="trial:Q", y=alt.Y(**charts.quantity("best_so_far", label, **scale))
    )
    drawn = (line + points).properties(width=charts.WIDTH, height=charts.HEIGHT)
    return charts.chart(
        "Course of the search",
        charts.zoomable(drawn),
        rows,
        f"The line is the best score up to each trial.{outside}",
    )


def _places(study: Study) -> pd.DataFrame:
    """Where the values of every trial lie between the lowest and the highest that were tried."""
    usable = [t for t in study.trials.values() if t.status != "failed" and t.epochs]
    keys = sorted({key for trial in usable for key in trial.values})
    rows = []
    for key in keys:
        values = [trial.config.get(key) for trial in usable]
        place = _place_of(values)
        for trial, value, at in zip(usable, values, place, strict=True):
            best = trial.best(study.task)
            score = best.val_score if best else np.nan
            rows.append((f"{trial.number:04d}", key, at, _say(value), score))
    table = pd.DataFrame(rows, columns=["trial_id", "parameter", "place", "value", "score"])
    return table if len(keys) > 1 and len(usable) > 1 else table.iloc[:0]


def _place_of(values: list[Any]) -> list[float]:
    """Give numbers from 0 to 1: by size (logarithms, if numbers span decades), or by rank."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        names = sorted({_say(value) for value in values})
        return [names.index(_say(value)) / max(len(names) - 1, 1) for value in values]
    array = np.asarray(values, dtype=float)
    if array.min() > 0 and array.max() / array.min() > 50:
        array = np.log10(array)
    span = float(np.ptp(array)) or 1.0
    return [float(place) for place in (array - array.min()) / span]


def _say(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _parallel(places: pd.DataFrame, label: str, task: Task) -> Chart:
    x = alt.X("parameter:N", title=None, axis=alt.Axis(labelAngle=-20))
    y = alt.Y("place:Q", title="lowest to highest value tried", axis=alt.Axis(labels=False))
    scale, _ = _frame(places["score"], task, "trial")  # a diverged trial would take all colors
    scheme = alt.Scale(
        scheme="viridis", reverse=not higher_is_better(task), domain=scale["domain"], clamp=True
    )
    shown = charts.base()
    lines = shown.mark_line(opacity=0.5).encode(
        x=x, y=y, detail="trial_id:N", color=alt.Color("score:Q", title=label, scale=scheme),
        tooltip=charts.tips(places, "trial_id", "parameter", "value", "score"),
    )  # fmt: skip
    ends = (
        shown.transform_filter("datum.place == 0 || datum.place == 1")
        .transform_aggregate(n="count()", groupby=["parameter", "place", "value"])
        .mark_text(align="left", dx=6, fontSize=11)
        .encode(x=x, y=y, text="value:N")
    )
    drawn = (lines + ends).properties(width=charts.WIDTH, height=charts.HEIGHT)
    caption = "One line for each trial that finished an epoch; lighter lines have better scores."
    return charts.chart("Values that were tried", drawn, places, caption)


def _importance(study: Study) -> list[Part]:
    found = importances(study)
    if found.empty:
        return []
    drawn = (
        charts.base()
        .mark_bar()
        .encode(
            x=alt.X("importance:Q", title="share of the differences between good and other trials"),
            y=alt.Y("parameter:N", sort="-x", title=None),
            tooltip=charts.tips(found, "parameter", "importance"),
        )
        .properties(height=22 * len(found))
    )
    caption = (
        "PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna computes it from the trials that"
        " finished an epoch. A value that was hardly varied cannot be important here."
    )
    return [charts.chart("Importance of the parameters", drawn, found, caption)]


def _hardware(trials: pd.DataFrame) -> Table:
    known = trials.dropna(subset=["host"])
    groups = known.groupby(["host", "device"], as_index=False)
    rows = groups.agg(
        trials=("trial_id", "count"), epochs=("epochs", "sum"), hours=("time_s", "sum")
    )
    rows["hours"] = rows["hours"] / 3600.0
    caption = "hours of training and validation, added up over the trials of a host"
    if "gpu_memory_gb" in known and known["gpu_memory_gb"].notna().any():
        rows["gpu_memory_gb"] = groups["gpu_memory_gb"].max()["gpu_memory_gb"]
        caption += "; gpu_memory_gb: the most that one of them has held"
    return Table("Training", rows, caption)


def _status_color() -> alt.Color:
    scale = alt.Scale(domain=list(_STATUS), range=list(_STATUS.values()))
    return alt.Color("status:N", title=None, scale=scale)


def _frame(scores: "pd.Series[float]", task: Task, what: str) -> tuple[dict[str, Any], str]:
    """Give the scale that shows the best scores, and a sentence on those outside of it."""
    is_higher_better = higher_is_better(task)
    frame = score_frame(scores, is_higher_better=is_higher_better)
    remark = frame.remark(what, is_higher_better=is_higher_better)
    scale = {"domain": [frame.low, frame.high], "nice": False}
    return scale, f" {remark}: zoom out." if remark else ""
