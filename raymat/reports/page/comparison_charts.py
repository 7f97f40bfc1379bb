"""Charts of one property of a comparison: scores, and their differences."""

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from raymat.reports.comparison_pairs import FEWEST_REPETITIONS, say_told_apart
from raymat.reports.drawing import with_unit
from raymat.reports.page import charts
from raymat.reports.page.parts import Chart

_SETTINGS = {"default": "#e69f00", "tuned": "#0072b2"}
_LINE = 19  # pixels of a bar
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


def score_chart(rows: pd.DataFrame) -> Chart:
    """Draw the mean score of every model and setting, its spread, and the single repetitions.

    Args:
        rows: of one property and training size, a row for each repetition.
    """
    metric = metric_of(rows)
    table = rows[["model", "setting", "repetition", "n_train", "n_test", metric.name]]
    models, settings = models_of(rows), settings_of(rows)
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
    models = models_of(table)
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
        told_apart=[say_told_apart(value) for value in differences["told_apart"]],
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
    answers = {"yes": "#0072b2", "no": "#999999", "not estimated": "#d9d9d9"}
    met = [answer for answer in answers if answer in set(rows["told_apart"])]
    scale = alt.Scale(domain=met, range=[answers[answer] for answer in met])
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
        " their common training rows). Told apart: both leave out zero; not estimated below"
        f" {FEWEST_REPETITIONS} repetitions."
    )
    return charts.chart("Differences", drawn, rows, caption)


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


def models_of(rows: pd.DataFrame) -> list[str]:
    """Give the models in the order in which they come."""
    return [str(name) for name in dict.fromkeys(rows["model"])]


def settings_of(rows: pd.DataFrame) -> list[str]:
    """Give the settings that occur, the default first."""
    met = set(rows["setting"])
    return [name for name in _SETTINGS if name in met]


def _setting_color(settings: list[str]) -> alt.Color:
    scale = alt.Scale(domain=settings, range=[_SETTINGS[name] for name in settings])
    return alt.Color("setting:N", title=None, scale=scale)
