"""What became of the chosen model: its scores beside those of others, and its errors."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raymat.reports.drawing import with_unit
from raymat.reports.number_text import signed, signed_interval
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.parts import Note, Part, Section, Table
from raymat.reports.page.run_files import RunFiles
from raymat.training.metrics import FEW_ROWS, FEWEST_ROWS
from raymat.training.verdict import verdict_lines

MOST_ROWS = 5_000  # of a parity plot
_NAMES = {
    "test": "chosen",
    "default": "default",
    "mean": "mean of the training rows",
    "composition": "baseline of the composition alone",
}
_SCORES = ("mae", "rmse", "r2", "auc", "accuracy", "n")


def sections(run: RunFiles) -> list[Section]:
    """Give the sections on test scores; none before there are any.

    Raises:
        RunError: a file is damaged.
    """
    metrics = run.json("metrics.json")
    if not metrics.get("test"):
        return []
    rows = _scores(metrics)
    parts: list[Part] = [Table("Test scores", rows, _caption(metrics))]
    if "mae_low" in rows:
        parts.append(_intervals(rows, metrics))
    parts += _difference(metrics)
    if metrics.get("task") != "classification" and run.has("predictions.parquet"):
        parts += parts_or_note(lambda: _errors(run, metrics))
    return [Section("Accuracy", parts)]


def _scores(metrics: dict[str, Any]) -> pd.DataFrame:
    """Give one row for each thing that was scored on the test rows."""
    baselines = metrics.get("baselines") or {}
    own = {"test": metrics["test"], "default": metrics.get("default"), **baselines}
    names = {**_NAMES, "test": "ensemble"} if "members" in metrics else _NAMES
    rows = []
    for key, scores in own.items():
        if not scores:
            continue
        scores = scores.get("test", scores)
        low, high = scores.get("mae_ci95") or (None, None)
        kept = {name: scores[name] for name in _SCORES if scores.get(name) is not None}
        rows.append({"model": names.get(key, key), **kept, "mae_low": low, "mae_high": high})
    rows[1:1] = _average_member(metrics.get("members") or {})
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _average_member(members: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the row of what one member of an ensemble reaches, if it is an ensemble."""
    means = {name: members.get(f"test_{name}_mean") for name in ("mae", "auc")}
    known = {name: mean for name, mean in means.items() if mean is not None}
    return [{"model": "average member of the ensemble", **known}] if known else []


def _caption(metrics: dict[str, Any]) -> str:
    unit = metrics.get("unit", "")
    of = f"{metrics.get('target', 'the target')}{f' in {unit}' if unit else ''}"
    text = f"Of {of}, on rows that neither training nor selection saw."
    n = metrics["test"].get("n", FEW_ROWS)
    if n < FEWEST_ROWS:
        return f"{text} Intervals are not estimated: {n} test rows; they need {FEWEST_ROWS}."
    few = f" Of so few rows ({n}) it tells little." if n < FEW_ROWS else ""
    return (
        f"{text} mae_low and mae_high are the 95 % interval of the mean absolute error (bootstrap"
        f" over the test crystals).{few}"
    )


def _difference(metrics: dict[str, Any]) -> Iterator[Part]:
    if metrics.get("verdict"):
        model = "The ensemble" if "members" in metrics else "The chosen model"
        yield from (Note(line) for line in verdict_lines(metrics["verdict"], model=model))
        return
    found = metrics.get("difference") or {}
    if found.get("mae_ci95"):
        ends, unit = signed_interval(*found["mae_ci95"]), metrics.get("unit", "")
        yield Note(
            f"Chosen minus default, of the same test crystals: {signed(found['mae'])} {unit}"
            f" (95 % interval {ends})."
        )


def _intervals(rows: pd.DataFrame, metrics: dict[str, Any]) -> Part:
    unit = metrics.get("unit", "")
    label = with_unit("test MAE", unit)
    shown = charts.base()
    y = alt.Y("model:N", sort=None, title=None)
    bars = shown.mark_rule(size=2).encode(
        y=y, x=alt.X(**charts.quantity("mae_low", label)), x2="mae_high"
    )
    points = shown.mark_point(filled=True, size=80).encode(
        y=y, x=alt.X(**charts.quantity("mae", label)), tooltip=charts.tips(rows, "model", "mae")
    )
    table = rows[["model", "mae", "mae_low", "mae_high"]].dropna()
    drawn = (bars + points).properties(width=charts.WIDTH, height=34 * len(table))
    caption = "Bars are the 95 % intervals. They are of one set of test rows, so models whose bars"
    return charts.chart(
        f"Against {'the default and ' if metrics.get('default') else ''}the baselines",
        drawn,
        table,
        f"{caption} overlap may still differ clearly row by row.",
    )


def _errors(run: RunFiles, metrics: dict[str, Any]) -> Iterator[Part]:
    column, *spread = ["mean", "std"] if "members" in metrics else ["prediction"]
    wanted = ["material_id", "part", "target", column, *spread]  # members' own are many
    table = run.table("predictions.parquet", columns=wanted)
    test = table[table["part"] == "test"].rename(columns={column: "prediction"})
    test = test.replace([np.inf, -np.inf], np.nan).dropna(subset=["target", "prediction"])
    label = with_unit(metrics.get("target", "target"), metrics.get("unit", ""))
    shown = test if len(test) <= MOST_ROWS else test.sample(MOST_ROWS, random_state=0)
    if test.empty:
        return
    yield charts.parity(shown, label, color=spread[0] if spread else None)
    yield charts.errors(test, label)
    if len(shown) < len(test):
        yield Note(
            f"The points are {len(shown):,} of {len(test):,} test crystals, drawn at random."
        )
