"""The stability diagram of interfaces with lithium metal, from the table of a screening."""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd

from raymat.reports.drawing import GREEN, ORANGE
from raymat.reports.lithium_figures import LITHIUM_COLUMNS, POISSON, POISSON_BAND, boundary_at
from raymat.reports.page import charts
from raymat.reports.page.parts import Chart, Note, Part
from raymat.reports.page.run_files import RunFiles
from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LITHIUM_SHEAR_GPA,
    stability_boundary,
)

MOST_POINTS = 5_000
_SHARE = 0.8  # of the points, for candidates that some member calls stable
_GRID = 100  # points of a boundary
_LONG, _SHORT = "long wavelengths (stress alone)", "1 nm (stress and surface tension)"
_LABELS = {"x": "molar volume ratio v of Li⁺ (electrolyte / lithium metal)"}
_Y = "shear modulus ratio G_s / G_Li"
_INSIDE, _OUTSIDE, _DFT = "inside the training domain", "outside the training domain", "DFT moduli"
_SHAPES = {_INSIDE: "circle", _OUTSIDE: "triangle-up", _DFT: "square"}
_READ = ["rank", "material_id", "formula", "p_s_high", "shear_gpa", "molar_volume_ratio"]
_CAPTION = (
    f"An interface is stable below the lines, drawn for electrolytes of Poisson ratio {POISSON}"
    f" with bands from {POISSON_BAND[0]} to {POISSON_BAND[1]}; G_Li is {LITHIUM_SHEAR_GPA} GPa."
    " Pale points: no member calls the candidate stable at 1 nm. Others are colored by the share of"
    " the members that do."
)


def stability(run: RunFiles, file: str) -> Iterator[Part]:
    """Give the diagram; none for criteria other than that of lithium metal.

    Args:
        run: its files.
        file: the ranking.

    Raises:
        RunError: it is damaged.
    """
    names = list(run.first_rows(file, 1))
    if not set(names) >= LITHIUM_COLUMNS:
        return
    wanted = [name for name in (*_READ, "source", "in_domain") if name in names]
    table = run.table(file, columns=wanted)
    is_drawn = (table["shear_gpa"] > 0) & table["molar_volume_ratio"].notna()
    table = table[is_drawn].assign(ratio=table["shear_gpa"] / LITHIUM_SHEAR_GPA, kind=_kinds(table))
    if table.empty:
        return
    some = _some(table)
    yield _diagram(some)
    if len(some) < len(table):
        told = int((table["p_s_high"] > 0).sum())
        left = "all" if told <= _SHARE * MOST_POINTS else "the best of"
        yield Note(
            f"The points are {len(some):,} of {len(table):,} candidates: {left} {told:,} with P_s"
            " above 0 at 1 nm, the others drawn at random."
        )


def _kinds(table: pd.DataFrame) -> list[str]:
    inside = table.get("in_domain", pd.Series(None, index=table.index)).astype("boolean")
    source = table.get("source", pd.Series("", index=table.index))
    return [
        _DFT if own == "dft" else _INSIDE if is_inside else _OUTSIDE
        for own, is_inside in zip(source, inside.fillna(value=True), strict=True)
    ]


def _some(table: pd.DataFrame) -> pd.DataFrame:
    """Give so many candidates as a browser draws: those with a P_s first, others at random."""
    if len(table) <= MOST_POINTS:
        return table
    is_told = table["p_s_high"] > 0
    told = table[is_told].sort_values("rank", kind="stable").head(int(_SHARE * MOST_POINTS))
    others = table[~is_told]
    n_others = min(MOST_POINTS - len(told), len(others))
    return pd.concat([told, others.sample(n_others, random_state=0)]).sort_values(
        "rank", kind="stable"
    )


def _diagram(table: pd.DataFrame) -> Chart:
    right = 1.04 * float(table["molar_volume_ratio"].max())
    low, high = float(table["ratio"].min()), float(table["ratio"].max())
    scale = alt.Scale(type="log", domain=[min(0.3, 0.8 * low), 1.3 * high], nice=False)
    x = alt.X(
        "molar_volume_ratio:Q",
        title=_LABELS["x"],
        scale=alt.Scale(domain=[0, right], nice=False),
    )
    y = alt.Y("ratio:Q", title=_Y, scale=scale, axis=alt.Axis(format="~g", tickCount=6))
    columns = ["rank", "formula", "material_id", "p_s_high", "shear_gpa", "molar_volume_ratio"]
    shown, tips = charts.base(), charts.tips(table, *(c for c in columns if c in table), "kind")
    pale = shown.transform_filter("!(datum.p_s_high > 0)").mark_circle(
        size=10, color="#8a99a5", opacity=0.35, clip=True
    )
    others = shown.transform_filter("datum.p_s_high > 0").mark_point(
        filled=True, size=45, opacity=0.9, stroke="#808080", strokeWidth=0.5, clip=True
    )
    shapes = alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
    legend = alt.Legend(title="probability of stability P_s at 1 nm")
    share = alt.Color("p_s_high:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]), legend=legend)
    shape = alt.Shape(
        "kind:N", scale=shapes, legend=alt.Legend(title=None, labelLimit=300, columns=1)
    )
    layers = [
        pale.encode(x=x, y=y, tooltip=tips),
        *_boundaries(min(0.999, right)),
        others.encode(x=x, y=y, color=share, shape=shape, tooltip=tips),
    ]
    drawn = charts.zoomable(alt.layer(*layers).properties(width=charts.WIDTH, height=520))
    return charts.chart(
        "Stability diagram",
        drawn,
        table.drop(columns=["source", "in_domain"], errors="ignore"),
        _CAPTION,
    )


def _boundaries(right: float) -> list[alt.Chart]:
    """Give a line and a band for long wavelengths, and for 1 nm."""
    volume = np.linspace(0.0, right, _GRID)
    ratios = (POISSON, *POISSON_BAND)
    curves = {
        _LONG: [stability_boundary(volume, nu) for nu in ratios],
        _SHORT: [boundary_at(volume, nu, HIGH_WAVENUMBER) for nu in ratios],
    }
    rows = [
        {"boundary": name, "v": round(v, 5), "g": mid, "low": one, "high": other}
        for name, (middle, first, second) in curves.items()
        for v, mid, one, other in zip(
            *(values.tolist() for values in (volume, middle, first, second)), strict=True
        )
    ]
    base = alt.Chart(alt.InlineData(values=rows))
    palette = {_LONG: ORANGE, _SHORT: GREEN}
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    legend = alt.Legend(title="stable below", labelLimit=300, columns=1)
    look = alt.Stroke("boundary:N", scale=scale, legend=legend)
    bands = [
        base.transform_filter(f"datum.boundary === '{name}'")
        .mark_area(opacity=0.2, color=color, clip=True)
        .encode(x="v:Q", y="low:Q", y2="high")
        for name, color in palette.items()
    ]
    return [
        *bands,
        base.mark_line(strokeWidth=2, clip=True).encode(x="v:Q", y="g:Q", stroke=look),
    ]
