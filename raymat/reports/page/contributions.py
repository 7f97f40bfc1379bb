"""The page of contributions: how those of an element spread, and what its neighbors change."""

import json
from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.reports.drawing import ORANGE, with_unit
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.parts import Chart, Note, Part, Section, Table
from raymat.reports.page.pictures import picture
from raymat.reports.page.run_files import RunFiles

REPLACED = frozenset({"histograms", "elements"})
MOST_FREQUENT = 12  # elements that have a histogram
MOST_PAIRED = 20  # elements of the chart of pairs
FEWEST_SITES = 5  # of a pair in the chart
_ELEMENT = ["element", "n_sites", "n_crystals", "mean", "std", "min", "max"]
_PAIR = ["element", "neighbor", "n_sites", "mean"]
_BINS = 60
_TAIL = 0.001  # share of the sites beyond each end of the histograms
_FULL = 0.9  # of its row that the fullest bin of an element fills
_ROW, _CELL = 38, 22  # pixels
_BOTH_SIGNS = 0.25  # of the largest value: how far the other sign reaches at least
_DIVISION = (
    "Contributions are the model's own division of a value that was fitted as a mean over the"
    " crystal: another seed may divide it otherwise."
)


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of contributions."""
    if not run.has("elements.csv"):
        return [Section("Elements", [Note("There are no contributions yet.")])]
    made = [Section("Elements", parts_or_note(lambda: _elements(run)))]
    if run.has("pairs.csv"):
        made.append(Section("Nearest neighbors", parts_or_note(lambda: _pairs(run))))
    return made


def _element_table(run: RunFiles) -> pd.DataFrame:
    return run.table("elements.csv", columns=_ELEMENT)


def _label(run: RunFiles) -> str:
    return with_unit(f"contribution to {run.header.get('target')}", str(run.header.get("unit", "")))


# --- elements ------------------------------------------------------------------------------------


def _elements(run: RunFiles) -> Iterator[Part]:
    yield Note(_DIVISION)
    table = run.path / "elements.svg"
    if table.is_file():
        yield picture(run, table, "Periodic table")
    elements = _element_table(run).sort_values("mean", ascending=False)
    if run.has("contributions.parquet"):
        sites = run.table("contributions.parquet", columns=["element", "contribution"])
        yield from parts_or_note(lambda: [_histograms(sites, elements, _label(run))])
    caption = (
        f"mean, std, min and max of the {_label(run)} of its sites, the highest mean first. Means"
        " over few crystals say little."
    )
    yield Table("All elements", elements, caption)


def _histograms(sites: pd.DataFrame, elements: pd.DataFrame, label: str) -> Chart:
    """Draw one histogram for each of the most frequent elements, one above the other."""
    common = elements.nlargest(MOST_FREQUENT, "n_sites").sort_values("mean", ascending=False)
    symbols = common["element"].tolist()
    values = {s: sites.loc[sites["element"] == s, "contribution"].to_numpy() for s in symbols}
    edges = _edges(np.concatenate(list(values.values())))
    rows = pd.concat(
        [_bars(values[symbol], edges, place).assign(element=symbol)
         for place, symbol in enumerate(symbols)],
        ignore_index=True,
    )  # fmt: skip
    drawn = _ridges(rows, common["mean"].tolist(), symbols, label)
    n_beyond = sum(int(((v < edges[0]) | (v > edges[-1])).sum()) for v in values.values())
    beyond = f" Sites outside the frame: {n_beyond:,}." if n_beyond else ""
    caption = (
        f"The {len(symbols)} elements with the most sites, the highest mean at the top; every"
        f" histogram fills its row. The lines are the means.{beyond}"
    )
    columns = ["element", "from", "to", "sites", "base", "top"]
    return charts.chart("Most frequent elements", drawn, rows[columns], caption)


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low = float(np.quantile(values, _TAIL, method="lower"))
    high = float(np.quantile(values, 1.0 - _TAIL, method="higher"))
    margin = 0.0 if high > low else 0.5 * (abs(low) or 1.0)
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _bars(values: NDArray[np.float64], edges: NDArray[np.float64], place: int) -> pd.DataFrame:
    """Give the bars of an element, which stand on the lower end of its row (rows go downward)."""
    counts, _ = np.histogram(values, edges)
    height = _FULL * counts / max(1, counts.max())
    bars = {"from": edges[:-1], "to": edges[1:], "sites": counts, "base": place + 1.0}
    return pd.DataFrame({**bars, "top": place + 1.0 - height})[counts > 0]


def _ridges(
    rows: pd.DataFrame, means: Sequence[float], symbols: Sequence[str], label: str
) -> alt.TopLevelMixin:
    n = len(symbols)
    axis = alt.Axis(
        values=[place + 0.5 for place in range(n)],
        labelExpr=f"{json.dumps(list(symbols))}[floor(datum.value)]",
        grid=False,
        ticks=False,
        domain=False,
        tickCount=n,  # else the page's own takes every second one
        labelFontSize=12,
    )
    scale = alt.Scale(domain=[0, n], reverse=True, nice=False)
    bars = charts.base().mark_rect().encode(
        x=alt.X(**charts.quantity("from", label, nice=False)),
        x2="to",
        y=alt.Y("base:Q", title=None, scale=scale, axis=axis),
        y2="top",
        tooltip=charts.tips(rows, "element", "from", "to", "sites"),
    )  # fmt: skip
    ends = [
        {"mean": mean, "base": row + 1.0, "top": row + 1.0 - _FULL}
        for row, mean in enumerate(means)
    ]
    lines = alt.Chart(alt.InlineData(values=ends))
    drawn = lines.mark_rule(color=ORANGE, size=2).encode(x="mean:Q", y="base:Q", y2="top")
    return alt.layer(bars, drawn).properties(width=charts.WIDTH, height=_ROW * n)


# --- pairs ---------------------------------------------------------------------------------------


def _pairs(run: RunFiles) -> Iterator[Part]:
    pairs = run.table("pairs.csv", columns=_PAIR).sort_values("mean", ascending=False)
    elements = _element_table(run)
    common = elements.nlargest(MOST_PAIRED, "n_sites")
    symbols = common.sort_values("mean", ascending=False)["element"].tolist()
    shown = pairs[pairs["element"].isin(symbols) & pairs["neighbor"].isin(symbols)]
    shown = shown[shown["n_sites"] >= FEWEST_SITES]
    if len(shown):
        overall = dict(zip(elements["element"], elements["mean"], strict=True))
        yield _heat_map(shown, symbols, overall, _label(run))
    caption = (
        "mean: of the sites of element with at least one neighbor within 1.05 times their shortest"
        " distance; a site counts once for every element among its nearest neighbors."
    )
    yield Table("All pairs", pairs, caption)


def _heat_map(
    pairs: pd.DataFrame, symbols: Sequence[str], overall: Mapping[str, float], label: str
) -> Chart:
    """Draw the mean contribution of an element's sites beside each kind of neighbor."""
    rows = pairs.assign(of_element=pairs["element"].map(overall))
    cells = (
        charts.base()
        .mark_rect()
        .encode(
            x=alt.X("neighbor:N", title="nearest neighbor", sort=list(symbols),
                    axis=alt.Axis(labelAngle=0)),
            y=alt.Y("element:N", title="element", sort=list(symbols)),
            color=alt.Color("mean:Q", title=f"mean {label}", scale=_colors(rows["mean"]),
                            legend=alt.Legend(gradientLength=220)),
            tooltip=[
                *charts.tips(rows, "element", "neighbor", "n_sites", "mean"),
                alt.Tooltip("of_element:Q", title="mean of the element", format=".4g"),
            ],
        )
        .properties(width=charts.WIDTH, height=_CELL * rows["element"].nunique())
    )  # fmt: skip
    caption = (
        f"The {len(symbols)} elements with the most sites, in the order of their means. Pairs of"
        f" fewer than {FEWEST_SITES} sites are left out."
    )
    return charts.chart("What the nearest neighbors change", cells, rows, caption)


def _colors(values: "pd.Series[float]") -> alt.Scale:
    """Give a scale of colors: around zero for values of both signs, else between their ends."""
    low, high = float(values.min()), float(values.max())
    most = max(-low, high)
    if min(-low, high) > _BOTH_SIGNS * most:
        return alt.Scale(scheme="redyellowblue", reverse=True, domain=[-most, most])
    return alt.Scale(scheme="viridis", domain=[low, high])
