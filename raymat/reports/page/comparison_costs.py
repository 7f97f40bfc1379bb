"""Charts of one property of a comparison: what models cost, and what more rows bring."""

import altair as alt
import numpy as np
import pandas as pd

from raymat.reports.page import charts
from raymat.reports.page.comparison_charts import metric_of, models_of, settings_of
from raymat.reports.page.parts import Chart

# Okabe & Ito's colors that are readable on a light and on a dark page.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
_EDGE = 1.15  # room beside the outermost points of a logarithm, as a factor


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
    settings = settings_of(table)
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
        color=_model_color(models_of(table)),
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
    color, settings = _model_color(models_of(table)), settings_of(table)
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
