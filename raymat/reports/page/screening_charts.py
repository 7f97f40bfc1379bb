"""Charts of a screening by any criterion: the best, how all spread, what more members change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.reports.drawing import AMBER, GREEN, ORANGE, SKY
from raymat.reports.page import charts
from raymat.reports.page.labels import colors, column_label, member_axis
from raymat.reports.page.parts import Chart, Note, Part
from raymat.reports.page.run_files import RunFiles
from raymat.reports.screening_results import FLAT_CURVE, TOP, curve_is_flat

Floats = NDArray[np.float64]

_COLORS = (SKY, AMBER, GREEN, "#cc79a7", "#8a8a8a")
_BINS = 50
_TAIL = 0.002  # share of the candidates at each end that a histogram may leave out
# Above these ratios of the ends, without the tails and with them, bins are those of a logarithm.
_WIDE, _WIDE_WITH_TAILS = 30.0, 100.0
_END = "_deviation"
_FEW = 20  # candidates in the fullest bin, below which counts need no logarithm
# What a value is compared with, and the word for it.
_MARKS = {
    "chi_low": (0.0, "stable, below 0"),
    "chi_high": (0.0, "stable, below 0"),
    "lambda_crit_nm": (1.0, "the line is at 1 nm"),
}


def passes_of(names: Sequence[str]) -> list[str]:
    """Give the pass probabilities: the columns that have an interval."""
    return [name for name in names if f"{name}_lo" in names and f"{name}_hi" in names]


# --- the best ------------------------------------------------------------------------------------


def best_candidates(table: pd.DataFrame) -> Iterator[Part]:
    """Draw the pass probabilities of the first candidates; nothing without a probability."""
    first = table.head(TOP)
    passes = passes_of([str(name) for name in first])
    if not passes:
        return
    told = {name: column_label(name) for name in passes}
    rows = pd.concat(
        [
            _ends(first, name, f"{name}_lo", f"{name}_hi").assign(probability=label)
            for name, label in told.items()
        ],
        ignore_index=True,
    )
    palette = dict(zip(told.values(), _COLORS * len(told), strict=False))
    title = "share of the members that pass, with its 95 % interval"
    scale = alt.Scale(domain=[0, 1])
    drawn = _intervals(rows, title, scale, offset="probability", **colors("probability", palette))
    caption = f"The first {len(first)} of the ranking. DFT values have no interval."
    yield charts.chart("Best candidates", drawn, rows, caption)


def best_values(table: pd.DataFrame, column: str | None) -> Iterator[Part]:
    """Draw what the first candidates are ranked by, where that is a mean of the members."""
    if column is None or f"{column}_std" not in table:
        return
    first = table.head(TOP)
    mean, std = first[column], first[f"{column}_std"].fillna(0.0)
    is_size = bool((table[column].dropna() >= 0).all())
    low = (mean - std).clip(lower=0.0) if is_size else mean - std
    ends = first.assign(**{f"{column}_lo": low, f"{column}_hi": mean + std})
    rows = _ends(ends, column, f"{column}_lo", f"{column}_hi")
    is_finite = np.isfinite(rows["value"].astype(float))
    unbounded = rows.loc[~is_finite, "candidate"].tolist()
    rows = rows[is_finite].reset_index(drop=True)
    if rows.empty:
        return
    label = column_label(column)
    drawn = _intervals(rows, f"{label}, ± standard deviation of the members", alt.Scale(zero=True))
    caption = f"The first {len(first)} of the ranking."
    if unbounded:
        caption += f" Without bound, or not known, and not drawn: {', '.join(unbounded)}."
    yield charts.chart(f"Best candidates: {label.partition(' (')[0]}", drawn, rows, caption)


def _ends(table: pd.DataFrame, value: str, low: str, high: str) -> pd.DataFrame:
    """Give candidate (formula and id), value, low and high; both ends the value if unknown."""
    formula = table.get("formula", pd.Series("", index=table.index)).fillna("").astype(str)
    names = [f"{f} {i}".strip() for f, i in zip(formula, table["material_id"], strict=True)]
    found = pd.DataFrame({"candidate": names, "value": table[value].to_numpy()})
    for name, column in (("low", low), ("high", high)):
        found[name] = table[column].fillna(table[value]).to_numpy()
    return found


def _intervals(
    rows: pd.DataFrame, title: str, scale: alt.Scale, *, offset: str = "", **looks: alt.Color
) -> alt.TopLevelMixin:
    n = rows["candidate"].nunique()
    shift = {"yOffset": alt.YOffset(f"{offset}:N")} if offset else {}
    y = alt.Y("candidate:N", sort=None, title=None)
    shown = charts.base()
    bars = shown.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", title=title, scale=scale), x2="high", y=y, **shift, **looks
    )
    columns = ["candidate", *([offset] if offset else []), "value", "low", "high"]
    points = shown.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("value:Q", title=title), y=y, tooltip=charts.tips(rows, *columns), **shift, **looks
    )
    return alt.layer(bars, points).properties(width=charts.WIDTH, height=charts.ROW_HEIGHT * n)


# --- all of them ---------------------------------------------------------------------------------


def distributions(
    table: pd.DataFrame, passes: Sequence[str], values: Sequence[str], units: Mapping[str, str]
) -> Iterator[Part]:
    """Draw how many candidates have which probability, and which mean of every value.

    Args:
        table: all ranked candidates.
        passes: columns of probabilities.
        values: columns of means over the members.
        units: column -> unit.
    """
    for name in passes:
        share = table[name].dropna().to_numpy(np.float64)
        if len(share):
            text = f"Candidates above 0.5: {(share > 0.5).sum():,}; at 0: {(share == 0).sum():,}."
            yield _histogram(name, np.linspace(0.0, 1.0, 21), share, units, text)
    for name in values:
        all_of_it = table[name].to_numpy(np.float64)
        finite = all_of_it[np.isfinite(all_of_it)]
        if len(finite):
            edges = _edges(finite, *_MARKS.get(name, (None, ""))[:1])
            yield _histogram(name, edges, finite, units, _say_values(name, all_of_it, edges))


def _edges(values: Floats, mark: float | None) -> Floats:
    """Give the edges of the bins, one of them at `mark`; a few outliers are left out."""
    low, high = (float(v) for v in np.quantile(values, [_TAIL, 1 - _TAIL]))
    if _spans_decades(values, low, high):
        ends = float(values[values > 0].min()), float(values.max())
        return np.geomspace(0.999 * ends[0], 1.001 * ends[1], _BINS + 1)
    low, high = (float(values.min()), high) if mark == 0 else (low, high)
    if mark is not None:
        low, high = min(low, mark), max(high, mark)
    width = (high - low) / _BINS or 1.0
    start = mark if mark is not None else low
    return start + width * np.arange(
        np.floor((low - start) / width), np.ceil((high - start) / width) + 1
    )


def _spans_decades(values: Floats, low: float, high: float) -> bool:
    """Say whether a logarithm shows values best; `low` and `high` are their ends without tails."""
    if low <= 0:
        return False
    smallest = float(values[values > 0].min())
    return high > _WIDE * low or float(values.max()) > _WIDE_WITH_TAILS * smallest


def _say_values(name: str, values: Floats, edges: Floats) -> str:
    finite = values[np.isfinite(values)]
    told = [f"Median {np.median(finite):.4g}"]
    mark, meaning = _MARKS.get(name, (None, ""))
    if mark == 0:
        told.append(f"{meaning}: {int((finite < 0).sum()):,} of {len(values):,} candidates")
    elif meaning:
        told.append(meaning)
    beyond = int(((finite < edges[0]) | (finite > edges[-1])).sum())
    if beyond:
        told.append(f"{beyond:,} lie outside the frame")
    unbounded = int(np.isinf(values).sum())
    if unbounded:
        told.append(f"{unbounded:,} without bound are not drawn")
    return f"{'; '.join(told)}."


def _histogram(
    name: str, edges: Floats, values: Floats, units: Mapping[str, str], caption: str
) -> Chart:
    counts, _ = np.histogram(values, edges)
    rows = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "candidates": counts})
    is_log = len(edges) > 2 and edges[0] > 0 and not np.isclose(*np.diff(edges)[[0, -1]])
    scale = alt.Scale(type="log", nice=False) if is_log else alt.Scale(zero=False, nice=False)
    axis = alt.Axis(format="~g") if is_log else alt.Axis()
    label = column_label(name, units)
    bars = (
        charts.base()
        .mark_rect()
        .encode(
            x=alt.X("from:Q", title=label, scale=scale, axis=axis),
            x2="to",
            y=alt.Y("candidates:Q", title="candidates", **_counts(int(counts.max()))),
            y2=alt.datum(0),
            tooltip=charts.tips(rows, "from", "to", "candidates"),
        )
    )
    layers: list[alt.Chart] = [bars]
    mark = _MARKS.get(name, (None, ""))[0]
    if mark is not None and edges[0] <= mark <= edges[-1]:
        line = alt.Chart(alt.InlineData(values=[{"at": mark}]))
        layers.append(line.mark_rule(color=ORANGE, strokeWidth=1.5).encode(x="at:Q"))
    drawn = alt.layer(*layers).properties(width=charts.WIDTH, height=220)
    title = f"{label[0].upper()}{label[1:]}".partition(" (")[0]
    return charts.chart(title, drawn, rows, caption)


def _counts(most: int) -> dict[str, Any]:
    """Give scale and axis of counts: a logarithm that begins at 0, if they differ by decades."""
    if most <= _FEW:
        return {"axis": alt.Axis(tickMinStep=1, format=",d")}
    ticks = [0, *(10**k for k in range(len(str(most))))]
    axis = alt.Axis(values=ticks, format=",d")
    return {"scale": alt.Scale(type="symlog", domain=[0, 1.1 * most], nice=False), "axis": axis}


# --- fewer members -------------------------------------------------------------------------------


def member_numbers(run: RunFiles) -> Iterator[Part]:
    """Draw the probabilities of fewer members, and how far they lie from those of all.

    Raises:
        RunError: the file is damaged.
    """
    curve = run.table("probability_curve.csv")
    passes = [c.removesuffix(_END) for c in map(str, curve) if c.endswith(_END)]
    if curve.empty or not passes:
        return
    if curve_is_flat(curve, passes):
        yield Note(FLAT_CURVE)
        return
    labels = {name: column_label(name) for name in passes}
    palette = dict(zip(labels.values(), _COLORS * len(labels), strict=False))
    rows = pd.concat([_of_pass(curve, name).assign(probability=labels[name]) for name in passes])
    x = member_axis("n_members", int(curve["n_members"].max()))
    shown, looks = charts.base(), colors("probability", palette)
    y = alt.Y("mean:Q", title="mean share over the candidates")
    band = shown.mark_area(opacity=0.2).encode(
        x=x, y=alt.Y("low:Q", title="mean share over the candidates"), y2="high", **looks
    )
    tips = charts.tips(rows, "probability", "n_members", "mean", "low", "high")
    line = shown.mark_line(point=True).encode(x=x, y=y, tooltip=tips, **looks)
    drawn = alt.layer(band, line).properties(width=charts.WIDTH, height=240)
    caption = "The band is one standard deviation between random draws of so many members."
    yield charts.chart("Mean probability", drawn, rows, caption)
    yield _deviations(curve, labels, palette)


def _of_pass(curve: pd.DataFrame, name: str) -> pd.DataFrame:
    mean, std = curve[f"{name}_mean"], curve[f"{name}_mean_std"].fillna(0.0)
    return pd.DataFrame(
        {
            "n_members": curve["n_members"],
            "mean": mean,
            "low": (mean - std).clip(lower=0.0),
            "high": (mean + std).clip(upper=1.0),
        }
    )


def _deviations(
    curve: pd.DataFrame, labels: Mapping[str, str], palette: Mapping[str, str]
) -> Chart:
    kinds = {"deviation": "mean over the candidates", "largest": "candidate that is farthest off"}
    tables = [
        pd.DataFrame(
            {
                "n_members": curve["n_members"],
                "probability": label,
                "of": kind,
                "deviation": curve[f"{name}_{ending}"],
            }
        )
        for name, label in labels.items()
        for ending, kind in kinds.items()
    ]
    rows = pd.concat(tables, ignore_index=True)
    dash = alt.Scale(domain=list(kinds.values()), range=[[1, 0], [5, 4]])
    drawn = (
        charts.base()
        .mark_line(point=True)
        .encode(
            x=member_axis("n_members", int(curve["n_members"].max())),
            y=alt.Y("deviation:Q", title="deviation from the share of all members"),
            strokeDash=alt.StrokeDash(
                "of:N", scale=dash, legend=alt.Legend(title=None, labelLimit=300)
            ),
            tooltip=charts.tips(rows, "probability", "of", "n_members", "deviation"),
            **colors("probability", palette),
        )
    )
    caption = "How far the share of so few members lies from that of all, mean of random draws."
    drawn = drawn.properties(width=charts.WIDTH, height=240)
    return charts.chart("Deviation with fewer members", drawn, rows, caption)
