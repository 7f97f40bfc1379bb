"""What more members buy: test scores of random draws of members, and of all of them."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from raymat.reports.drawing import AMBER, GREEN, SKY, with_unit
from raymat.reports.page import charts
from raymat.reports.page.labels import colors, member_axis
from raymat.reports.page.parts import Chart, Note, Part
from raymat.reports.page.run_files import RunFiles

_SETTLED = 5  # members; with fewer the NLL of a raw spread has no useful mean
_SCORES = {
    "mae": "mean absolute error",
    "coverage_90": "coverage of the 90 % interval",
    "miscalibration_area": "miscalibration area",
    "nll": "negative log likelihood (nats)",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
_DRAWS, _ALL = "random draws of members", "the ensemble, as predicted"
_SCALED, _ALLOWED = "the ensemble, spread rescaled", "what so few members allow"
_PALETTE = {_DRAWS: SKY, _ALL: AMBER, _SCALED: GREEN, _ALLOWED: "#8a8a8a"}


def member_curve(run: RunFiles) -> Iterator[Part]:
    """Give one chart for each score of `member_curve.csv`; none before there is one.

    Raises:
        RunError: a file is damaged.
    """
    if not run.has("member_curve.csv"):
        return
    curve = run.table("member_curve.csv")
    metrics, calibration = run.json("metrics.json"), run.json("calibration.json")
    test = {"mae": (metrics.get("test") or {}).get("mae")}
    before = {**test, **(calibration.get("before") or {})}
    after = calibration.get("after") or {}
    is_class = metrics.get("task") == "classification"
    for score in _SCORES:
        if score not in curve:
            continue
        if curve[score].isna().all():
            yield Note(f"{_SCORES[score]}: not defined for these members and test rows, not drawn.")
            continue
        rows = _rows(curve, score, {_ALL: before.get(score), _SCALED: after.get(score)})
        hidden = score == "nll" and not is_class
        unit = str(metrics.get("unit", "")) if score == "mae" else ""
        yield _chart(rows, score, unit, largest=int(curve["n_members"].max()), is_wild=hidden)


def _rows(curve: pd.DataFrame, score: str, ends: dict[str, Any]) -> pd.DataFrame:
    """Give n_members, kind, value, low and high (one standard deviation of a draw away)."""
    known = curve.dropna(subset=[score])
    std = known.get(f"{score}_std", pd.Series(0.0, index=known.index)).fillna(0.0)
    drawn = pd.DataFrame(
        {
            "n_members": known["n_members"],
            "kind": _DRAWS,
            "value": known[score],
            "low": known[score] - std,
            "high": known[score] + std,
        }
    )
    largest = int(curve["n_members"].max())
    rows = [(largest, kind, value) for kind, value in ends.items() if value is not None]
    if score == "coverage_90" and "coverage_90_exchangeable" in curve:
        allowed = curve.dropna(subset=["coverage_90_exchangeable"])
        pairs = zip(allowed["n_members"], allowed["coverage_90_exchangeable"], strict=True)
        rows += [(n, _ALLOWED, value) for n, value in pairs]
    others = pd.DataFrame(rows, columns=["n_members", "kind", "value"])
    return pd.concat([drawn, others], ignore_index=True)


def _chart(rows: pd.DataFrame, score: str, unit: str, *, largest: int, is_wild: bool) -> Chart:
    label = with_unit(_SCORES[score], unit)
    shown = rows[rows["n_members"] >= _SETTLED] if is_wild else rows
    shown = rows if shown.empty else shown
    palette = {kind: color for kind, color in _PALETTE.items() if kind in set(shown["kind"])}
    x, y = member_axis("n_members", largest), alt.Y(**charts.quantity("value", label))
    looks = colors("kind", palette)
    chart = charts.base()
    is_draw, is_line = f"datum.kind === '{_DRAWS}'", f"datum.kind === '{_ALLOWED}'"
    band = chart.transform_filter(is_draw).mark_area(opacity=0.25, color=SKY)
    line = chart.transform_filter(f"{is_draw} || {is_line}").mark_line()
    points = chart.transform_filter(f"!({is_line})").mark_point(filled=True, opacity=1)
    layers = [
        band.encode(x=x, y=alt.Y(**charts.quantity("low", label)), y2="high"),
        line.encode(x=x, y=y, **looks),
        points.encode(
            x=x,
            y=y,
            size=alt.condition(is_draw, alt.value(40), alt.value(130)),
            tooltip=charts.tips(shown, "kind", "n_members", "value"),
            **looks,
        ),
    ]
    if score == "coverage_90":
        layers.append(_expected())
    drawn = alt.layer(*layers).properties(width=charts.WIDTH, height=240)
    title = f"{_SCORES[score][0].upper()}{_SCORES[score][1:]}".partition(" (")[0]
    return charts.chart(title, drawn, shown, _caption(rows, shown, score))


def _expected() -> alt.Chart:
    line = alt.Chart(alt.InlineData(values=[{"value": 0.9}]))
    rule: alt.Chart = line.mark_rule(strokeDash=[4, 4], color="gray").encode(y="value:Q")
    return rule


def _caption(rows: pd.DataFrame, shown: pd.DataFrame, score: str) -> str:
    text = "Of the test rows; the band is one standard deviation between draws of members."
    if score == "coverage_90":
        text += " A spread that can be trusted reaches 0.9 (dashed)."
    left_out = rows[~rows.index.isin(shown.index)]
    if len(left_out):
        told = ", ".join(
            f"{value:,.3g} for {n:.0f} members"
            for n, value in zip(left_out["n_members"], left_out["value"], strict=True)
        )
        text += f" Not drawn: {told}."
    return text
