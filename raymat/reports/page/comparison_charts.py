"""Charts of one property of a comparison: scores, differences, costs and learning curves."""

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raymat.reports.page import charts
from raymat.reports.page.parts import Chart

# Okabe & Ito's colors that are readable on a light and on a dark page.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
_SETTINGS = {"default": "#e69f00", "tuned": "#0072b2"}
_LINE = 19  # pixels of a bar
_EDGE = 1.15  # room beside the outermost points of a logarithm, as a factor
_PAIR = ["comparison", "pair", "difference", "bootstrap_low", "bootstrap_high", "corrected_low",
         "corrected_high", "n_repetitions", "told_apart"]  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """What a property is judged by.

    Attributes:
        name: column of the rows.
        label: for an axis, with unit.
        is_error: whether less is better.
    """

    name: str
    label: str
    is_error: bool = True


def metric_of(rows: pd.DataFrame) -> Metric:
    """Give the metric of the rows of one property."""
    first = rows.iloc[0]
    if first["task"] == "classification":
        return Metric("auc", "test ROC AUC", is_error=False)
    return Metric("mae", with_unit("test MAE", first["unit"]))


def with_unit(name: str, unit: str) -> str:
    """Give ``name (unit)``, or the name of a pure number."""
    return f"{name} ({unit})" if unit else name


def score_chart(rows: pd.DataFrame) -> Chart:
    """Draw the mean score of every model and setting, its spread, and the single repetitions.

    Args:
        rows: of one property and training size, a row for each repetition.
    """
    metric = metric_of(rows)
    table = rows[["model", "setting", "repetition", "n_train", "n_test", metric.name]]
    models, settings = _models(rows), _settings(rows)
    shown = charts.base()
    y = alt.Y("model:N", title=None, sort=models)
    offset = alt.YOffset("setting:N", sort=settings)
    mean = shown.transform_aggregate(
        mean=f"mean({metric.name})",
        std=f"stdev({metric.name})",
        repetitions=f"count({metric.name})",
        groupby=["model", "setting"],
    )
    bars = mean.mark_bar().encode(
        y=y,
        yOffset=offset,
        x=alt.X("mean:Q", title=metric.label),
        color=_setting_color(settings),
        tooltip=[
            *("model:N", "setting:N"),
            alt.Tooltip("mean:Q", format=".4g"),
            alt.Tooltip("std:Q", title="standard deviation", format=".3g"),
            "repetitions:Q",
        ],
    )
    spread = (
        mean.transform_filter("datum.repetitions > 1")
        .transform_calculate(low="datum.mean - datum.std", high="datum.mean + datum.std")
        .mark_rule(size=2, color="gray")
        .encode(y=y, yOffset=offset, x="low:Q", x2="high:Q")
    )
    points = shown.mark_point(
        filled=True, fill="white", stroke="#222222", strokeWidth=1, size=26, opacity=1
    ).encode(
        y=y, yOffset=offset, x=f"{metric.name}:Q",
        tooltip=charts.tips(table, "model", "setting", "repetition", metric.name),
    )  # fmt: skip
    height = 2 * _LINE + _LINE * len(models) * len(settings)
    drawn = (bars + spread + points).properties(width=charts.WIDTH, height=height)
    caption = (
        f"{_sizes(rows)} Bars are means over the repetitions, lines the standard deviation, points"
        f" the repetitions. {'Shorter' if metric.is_error else 'Longer'} is better."
    )
    return charts.chart("Test scores", drawn, table, caption)


def gain_chart(rows: pd.DataFrame) -> Chart | None:
    """Draw tuned minus default of every model and repetition; None where neither has both.

    Args:
        rows: of one property and training size, a row for each repetition.
    """
    metric = metric_of(rows)
    pairs = rows.pivot_table(index=["model", "repetition"], columns="setting", values=metric.name)
    if not {"default", "tuned"} <= set(pairs):
        return None
    table = pairs.assign(difference=pairs["tuned"] - pairs["default"]).dropna().reset_index()
    if table.empty:
        return None
    models = _models(table)
    points = charts.base().mark_point(filled=True, size=70).encode(
        y=alt.Y("model:N", title=None, sort=models),
        x=alt.X("difference:Q", title=f"tuned − default: {metric.label}"),
        tooltip=charts.tips(table, *table.columns),
    )  # fmt: skip
    drawn = (_zero() + points).properties(width=charts.WIDTH, height=_LINE * (len(models) + 2))
    side = "Left" if metric.is_error else "Right"
    caption = (
        f"A point for each repetition, on the same test rows. {side} of the line tuning helped."
    )
    return charts.chart("What tuning gained", drawn, table, caption)


def pair_rows(differences: pd.DataFrame) -> pd.DataFrame:
    """Give each pair of one property and training size once, with a short name."""
    rows = differences.assign(
        pair=[_say_pair(row) for row in differences.to_dict("records")],
        told_apart=["yes" if is_apart else "no" for is_apart in differences["told_apart"]],
    )
    ends = ["model", "setting", "other_model", "other_setting"]
    same = [
        frozenset([(own, how), (other, its)])
        for own, how, other, its in rows[ends].itertuples(index=False, name=None)
    ]
    return rows.loc[~pd.Series(same, index=rows.index).duplicated(), _PAIR].reset_index(drop=True)


def pair_chart(differences: pd.DataFrame) -> Chart:
    """Draw the differences of pairs with their intervals.

    Args:
        differences: rows of `differences.csv` of one property and training size.
    """
    rows = pair_rows(differences)
    is_error = differences.iloc[0]["metric"] == "mae"
    unit = differences.iloc[0]["unit"]
    label = with_unit("test MAE", unit if isinstance(unit, str) else "") if is_error else "accuracy"
    shown = charts.base()
    y = alt.Y("pair:N", title=None, sort=list(rows["pair"]))
    scale = alt.Scale(domain=["yes", "no"], range=["#0072b2", "#999999"])
    legend = alt.Legend(symbolOpacity=1, symbolType="circle")
    color = alt.Color("told_apart:N", title="told apart", scale=scale, legend=legend)
    x = alt.X("difference:Q", title=f"difference in {label}")
    thick = shown.mark_rule(size=6, opacity=0.45).encode(
        y=y, x="bootstrap_low:Q", x2="bootstrap_high:Q", color=color
    )
    thin = (
        shown.transform_filter("isValid(datum.corrected_low)")
        .mark_rule(size=1.5)
        .encode(y=y, x="corrected_low:Q", x2="corrected_high:Q", color=color)
    )
    tips = charts.tips(
        rows, *(name for name in _PAIR if name not in ("n_repetitions", "told_apart"))
    )
    points = shown.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, x=x, color=color, tooltip=tips
    )
    height = _LINE * (len(rows) + 2)
    drawn = (_zero() + thick + thin + points).properties(width=charts.WIDTH, height=height)
    left = "first is better" if is_error else "second is better"
    caption = (
        f"First minus second on the same test rows; left of the line the {left}. Thick: 95 %"
        " interval over the test crystals (bootstrap); thin: over the repetitions (t, corrected for"
        " their common training rows). Told apart: both leave out zero."
    )
    return charts.chart("Differences", drawn, rows, caption)


def cost_chart(summary: pd.DataFrame) -> Chart | None:
    """Draw the score against the training time of the chosen model; None without any time.

    Args:
        summary: as `summarise` gives it, of one property and training size.
    """
    metric = metric_of(summary)
    names = {
        f"{metric.name}_mean": metric.name,
        f"{metric.name}_std": "std",
        "train_time_s_mean": "train_time_s",
        "n_parameters_mean": "n_parameters",
    }
    table = summary.rename(columns=names)[["model", "setting", *names.values()]]
    table = table[(table["train_time_s"] > 0) & np.isfinite(table["train_time_s"])]
    if table.empty:
        return None
    settings = _settings(table)
    shapes = alt.Scale(domain=settings, range=["triangle-up", "circle"][-len(settings) :])
    legend = None if len(settings) < 2 else alt.Undefined
    drawn = charts.base().mark_point(filled=True, size=110, opacity=0.9).encode(
        x=alt.X(
            "train_time_s:Q",
            title="training time of the chosen model (s)",
            scale=alt.Scale(type="log", nice=False, domain=_ends(table["train_time_s"])),
            axis=alt.Axis(values=_ticks(*_ends(table["train_time_s"])), format="~g"),
        ),
        y=alt.Y(**charts.quantity(metric.name, metric.label)),
        color=_model_color(_models(table)),
        shape=alt.Shape("setting:N", title=None, scale=shapes, legend=legend),
        tooltip=charts.tips(table, *table.columns),
    )  # fmt: skip
    corner = "lower" if metric.is_error else "upper"
    caption = (
        f"Means over the repetitions; the {corner} left corner is the best. Seconds of the training"
        " steps alone, measured while other trainings shared the machine, without the search."
    )
    return charts.chart("Training time and score", charts.zoomable(drawn), table, caption)


def curve_chart(summary: pd.DataFrame) -> Chart | None:
    """Draw test MAE against training rows, both as logarithms; None of fewer than two sizes.

    Args:
        summary: as `summarise` gives it, of one property and all training sizes.
    """
    metric = metric_of(summary)
    table = summary.rename(columns={"mae_mean": "mae", "mae_std": "std"})
    is_drawn = (table["mae"] > 0) & np.isfinite(table["mae"])
    table = table.loc[is_drawn, ["model", "setting", "n_train", "mae", "std"]]
    sizes = sorted(set(table["n_train"]))
    if len(sizes) < 2 or not metric.is_error:
        return None
    std = table["std"].fillna(0.0)
    table = table.assign(low=np.maximum(table["mae"] - std, 0.1 * table["mae"]))
    table = table.assign(high=table["mae"] + std)
    y_ends = _ends(pd.concat([table["low"], table["high"]]))
    shown = charts.base()
    x = alt.X(
        "n_train:Q",
        title="training crystals",
        scale=alt.Scale(type="log", nice=False, domain=_ends(table["n_train"])),
        axis=alt.Axis(values=sizes, format=",", labelOverlap=True),
    )
    y_scale = alt.Scale(type="log", nice=False, domain=y_ends)
    y_axis = alt.Axis(values=_ticks(*y_ends), format="~g")
    y = alt.Y("mae:Q", title=metric.label, scale=y_scale, axis=y_axis)
    color, settings = _model_color(_models(table)), _settings(table)
    dash = alt.StrokeDash(
        "setting:N",
        title=None,
        scale=alt.Scale(domain=settings, range=[[5, 4], [1, 0]][-len(settings) :]),
        legend=None if len(settings) < 2 else alt.Undefined,
    )
    lines = shown.mark_line(size=2).encode(x=x, y=y, color=color, strokeDash=dash)
    bars = shown.mark_rule().encode(
        x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=color, detail="setting:N"
    )
    points = shown.mark_point(filled=True, size=50, opacity=1).encode(
        x=x,
        y=y,
        color=color,
        tooltip=charts.tips(table, "model", "setting", "n_train", "mae", "std"),
    )
    drawn = (lines + bars + points).properties(width=charts.WIDTH, height=380)
    caption = "Means over the repetitions, with their standard deviation; both axes are logarithms."
    return charts.chart("Learning curve", drawn, table, caption)


def _say_pair(row: Any) -> str:
    if row["model"] == row["other_model"]:
        return f"{row['model']}: {row['setting']} − {row['other_setting']}"
    if row["setting"] == row["other_setting"]:
        return f"{row['model']} − {row['other_model']}, {row['setting']}"
    first = f"{row['model']}, {row['setting']}"
    return f"{first} − {row['other_model']}, {row['other_setting']}"


def _sizes(rows: pd.DataFrame) -> str:
    n = int(rows["repetition"].nunique())
    times = f"{n} repetitions" if n > 1 else "1 repetition"
    n_train, n_test = (round(float(rows[name].mean())) for name in ("n_train", "n_test"))
    return f"{n_train:,} training and {n_test:,} test crystals, {times}."


def _zero() -> alt.Chart:
    data = alt.InlineData(values=[{"zero": 0}])
    line: alt.Chart = alt.Chart(data).mark_rule(strokeDash=[4, 4], color="gray").encode(x="zero:Q")
    return line


def _models(rows: pd.DataFrame) -> list[str]:
    return [str(name) for name in dict.fromkeys(rows["model"])]


def _settings(rows: pd.DataFrame) -> list[str]:
    met = set(rows["setting"])
    return [name for name in _SETTINGS if name in met]


def _setting_color(settings: list[str]) -> alt.Color:
    scale = alt.Scale(domain=settings, range=[_SETTINGS[name] for name in settings])
    return alt.Color("setting:N", title=None, scale=scale)


def _model_color(models: list[str]) -> alt.Color:
    colors = [_COLORS[number % len(_COLORS)] for number in range(len(models))]
    return alt.Color("model:N", title=None, scale=alt.Scale(domain=models, range=colors))


def _ends(values: "pd.Series[float]") -> list[float]:
    return [float(values.min()) / _EDGE, float(values.max()) * _EDGE]


def _ticks(low: float, high: float) -> list[float]:
    """Give round values on a logarithmic axis, more of them where it spans less than a decade."""
    steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0] if high < 10 * low else [1.0, 2.0, 5.0]
    steps = steps if high < 1e4 * low else [1.0]
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found = [float(f"{step * 10.0**decade:.3g}") for decade in decades for step in steps]
    return [value for value in found if low <= value <= high]
