"""Charts in Vega-Lite: what all of them share, and the kinds that several pages draw."""

import json
import textwrap
from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from raymat.reports.page.parts import Chart

WIDTH, HEIGHT = "container", 300
ROW_HEIGHT = 26  # of a bar with a name beside it
_NAME_WIDTH, _LINE_HEIGHT = 34, 13  # characters and pixels of a line of a long name
_FEW = 300  # points of a scatter plot that may be large
MOST_POINTS = 20_000  # of one chart; a browser draws more only slowly


def chart(title: str, drawn: alt.TopLevelMixin, rows: pd.DataFrame, caption: str = "") -> Chart:
    """Make a part of a page from an Altair chart that was drawn without data.

    Args:
        title: over it.
        drawn: marks that read the columns of `rows`.
        rows: the numbers.
        caption: under it.
    """
    with alt.data_transformers.enable("default", max_rows=None):
        spec = drawn.to_dict(validate=False)  # a test of every chart, in a browser, is the check
    spec.pop("config", None)  # the page has its own, one for light and one for dark
    if any(param.get("bind") == "scales" for param in spec.get("params", ())):
        _clip(spec)  # else marks would wander out of the frame
    return Chart(title, spec, rows, caption)


def zoomable(drawn: alt.Chart | alt.LayerChart | alt.FacetChart) -> alt.TopLevelMixin:
    """Let the reader drag a chart, and enlarge it; the wheel alone still scrolls the page."""
    wheel = "wheel![event.ctrlKey || event.metaKey]"  # a pinch of a touchpad says ctrlKey, too
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom=wheel)
    zoomed: alt.TopLevelMixin = drawn.add_params(zoom)
    return zoomed


def _clip(spec: dict[str, Any]) -> None:
    for layer in spec.get("layer", [spec]):
        mark = layer["mark"]
        layer["mark"] = {**({"type": mark} if isinstance(mark, str) else mark), "clip": True}


def base() -> alt.Chart:
    """Give a chart that reads the rows that its part carries."""
    return alt.Chart(alt.NamedData(name="rows")).properties(width=WIDTH, height=HEIGHT)


def quantity(column: str, title: str, **options: Any) -> dict[str, Any]:
    """Give the channel of a number whose axis need not begin at zero."""
    scale = alt.Scale(zero=False, **options)
    return {"field": column, "type": "quantitative", "title": title, "scale": scale}


def names(column: str, values: Iterable[str]) -> tuple[alt.Y, int]:
    """Give the channel of long names, each in as many lines as it needs, and a row's height.

    Args:
        column: that holds them.
        values: all of them, from the top.
    """
    lines = {value: textwrap.wrap(value, _NAME_WIDTH) or [value] for value in values}
    axis = alt.Axis(labelExpr=f"{json.dumps(lines)}[datum.label]", labelLimit=0)
    height = max(ROW_HEIGHT, _LINE_HEIGHT * max(map(len, lines.values()), default=1) + 6)
    return alt.Y(f"{column}:N", sort=list(lines), title=None, axis=axis), height


def tips(rows: pd.DataFrame, *columns: str) -> list[alt.Tooltip]:
    """Give what is shown when the pointer rests on a mark."""
    numeric = {name: pd.api.types.is_numeric_dtype(rows[name]) for name in columns}
    return [
        alt.Tooltip(field=name, type="quantitative", format=".4g")
        if is_number
        else alt.Tooltip(field=name, type="nominal")
        for name, is_number in numeric.items()
    ]


def parity(
    rows: pd.DataFrame, label: str, id_column: str = "material_id", *, color: str | None = None
) -> Chart:
    """Draw predictions against targets, with the diagonal.

    Args:
        rows: columns target, prediction and `id_column`.
        label: name and unit of the target.
        id_column: named when the pointer rests on a point.
        color: column of a spread, in the unit of the target, that colors the points.
    """
    ends = [
        float(min(rows["target"].min(), rows["prediction"].min())),
        float(max(rows["target"].max(), rows["prediction"].max())),
    ]
    room = 0.02 * (ends[1] - ends[0])
    frame = [ends[0] - room, ends[1] + room]
    shown, shown_columns = base(), [id_column, "target", "prediction", *([color] if color else [])]
    size, opacity = (24, 0.5) if len(rows) > _FEW else (60, 0.8)
    points = shown.mark_circle(size=size, opacity=opacity).encode(
        x=alt.X(**quantity("target", label, domain=frame, nice=False)),
        y=alt.Y(**quantity("prediction", f"predicted {label}", domain=frame, nice=False)),
        tooltip=tips(rows, *shown_columns),
    )
    if color:
        outlined = points.mark_circle(
            size=size, opacity=max(opacity, 0.7), stroke="#808080", strokeWidth=0.3
        )
        points = outlined.encode(color=_spread_color(rows, color, label))
        rows = rows.sort_values(color)  # the least certain on top
    line = alt.Chart(alt.InlineData(values=[{"end": end} for end in ends]))
    diagonal = line.mark_line(strokeDash=[4, 4], color="gray", opacity=1).encode(
        x=alt.X(**quantity("end", label)), y=alt.Y(**quantity("end", f"predicted {label}"))
    )
    return chart(
        "Predictions of the test rows",
        zoomable((diagonal + points).properties(width=WIDTH, height=420)),
        rows[shown_columns],
        "Every point is a crystal that neither training nor selection saw; the line is a perfect"
        " prediction.",
    )


def _spread_color(rows: pd.DataFrame, column: str, label: str) -> alt.Color:
    top = float(rows[column].quantile(0.98))  # a few rows would take the colors of all others
    scale = alt.Scale(scheme="viridis", domain=[0.0, top or 1.0], clamp=True)
    return alt.Color(f"{column}:Q", title=f"spread of the members, {label}", scale=scale)


def errors(rows: pd.DataFrame, label: str) -> Chart:
    """Draw the distribution of prediction minus target."""
    table = pd.DataFrame({"error": rows["prediction"] - rows["target"]})
    n_bins = min(80, max(10, len(table) // 4))
    drawn = (
        base()
        .mark_bar()
        .encode(
            x=alt.X("error:Q", bin=alt.Bin(maxbins=n_bins), title=f"error of {label}"),
            y=alt.Y("count()", title="crystals", axis=alt.Axis(tickMinStep=1)),
        )
    )
    return chart("Errors of the test rows", drawn, table, "Prediction minus target.")
