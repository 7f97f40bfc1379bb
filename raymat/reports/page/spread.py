"""Can the spread of the members be trusted? Before and after it was recalibrated."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.ensembles import SHARED_ERRORS
from raymat.ensembles.calibration import (
    COVERAGE_LEVELS,
    N_BINS,
    Bounds,
    calibration_curve,
    gaussian_bounds,
    has_spread,
)
from raymat.ensembles.recalibration import read_recalibration
from raymat.reports.drawing import AMBER, GREEN, PINK, SKY, with_unit
from raymat.reports.ensemble_figures import binned_spread
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.labels import colors
from raymat.reports.page.parts import Chart, Note, Part, Table
from raymat.reports.page.run_files import RunFiles
from raymat.screening.probability import wilson_interval
from raymat.training.metrics import FEW_ROWS

Floats = NDArray[np.float64]

MOST_ROWS = 4_000  # of the errors that are drawn one by one
_BEFORE = "as predicted"
_METHODS = {
    "std_scaling": "std scaling",
    "isotonic": "isotonic",
    "split_conformal": "split conformal",
}
_PALETTE = {
    _BEFORE: AMBER,
    "std scaling": SKY,
    "isotonic": GREEN,
    "split conformal": PINK,
}
_CRYSTAL, _POINT = "a test crystal", "#8a99a5"
_TIPS = ("material_id", "std", "error")
_BINS = (
    "Bins of equally many test rows by their spread: root mean square error against root mean"
    " square spread. On the diagonal the spread is as large as the errors are. A crystal stands at"
    " its recalibrated spread; the smallest errors lie below the frame."
)
_RELIABILITY = (
    "Bins of equal width; bars are 95 % Wilson intervals. On the diagonal the probabilities can be"
    " taken at their word."
)
_CURVE = (
    "The share of test rows whose target lies in the central interval of each level. Below the"
    " diagonal the spread is too narrow, above it too wide."
)


def spread(run: RunFiles) -> Iterator[Part]:
    """Give scores and charts of the spread; none before it was calibrated.

    Raises:
        RunError: a file is damaged.
    """
    calibration = run.json("calibration.json")
    if not calibration.get("before"):
        return
    yield Note(SHARED_ERRORS)
    yield _scores(calibration)
    n_scored = (calibration.get("scored_on") or {}).get("n", FEW_ROWS)
    if n_scored < FEW_ROWS:
        yield Note(f"Scores of {n_scored:,} test rows say little of others.", is_warning=True)
    if calibration.get("remark"):
        yield Note(f"On the recalibration: {calibration['remark']}.")
    if not run.has("predictions.parquet"):
        return
    is_class = "brier" in calibration["before"]
    rows = _test_rows(run, ["target", "mean"] if is_class else ["target", "mean", "std"])
    if is_class:
        yield from _reliability(rows)
    else:
        rows = rows[has_spread(rows["std"].to_numpy(np.float64))].reset_index(drop=True)
        if len(rows):
            yield from parts_or_note(lambda: [_calibration(rows, calibration)])
            yield from _errors_by_spread(rows, calibration)


def _test_rows(run: RunFiles, columns: list[str]) -> pd.DataFrame:
    wanted = ["material_id", "part", "target", "mean", "std"]  # the same rows as the parity plot's
    table = run.table("predictions.parquet", columns=wanted)
    return table[table["part"] == "test"].dropna(subset=columns)


# --- scores --------------------------------------------------------------------------------------


def _scores(calibration: dict[str, Any]) -> Table:
    """Give one row before recalibration, one for each way of it, and what would be perfect."""
    own = [{"spread": _BEFORE, **calibration["before"]}]
    for kind, stored in (calibration.get("methods") or {}).items():
        factor = stored["fitted"].get("factor")
        name = _METHODS.get(kind, kind)
        own.append({"spread": f"{name} × {factor:.3g}" if factor else name, **stored["scores"]})
    if "coverage_90" in calibration["before"]:
        levels = {f"coverage_{100 * level:.0f}": level for level in COVERAGE_LEVELS}
        own.append({"spread": "perfect", "miscalibration_area": 0.0, **levels})
    return Table("Scores of the spread", pd.DataFrame(own), _caption(calibration))


def _caption(calibration: dict[str, Any]) -> str:
    scored, fitted = calibration.get("scored_on") or {}, calibration.get("fitted_on") or {}
    rows = f"Of {scored.get('n', 0):,} {scored.get('part', 'test')} rows"
    if "brier" in calibration["before"]:
        return f"{rows}: log loss (nats), Brier score, expected calibration error; small is good."
    unit = calibration.get("unit", "")
    unscored = scored.get("without_spread") or 0
    without = f" {unscored:,} rows on which all members agree are left out." if unscored else ""
    return (
        f"{rows}; recalibrated on {fitted.get('n', 0):,} {fitted.get('part', 'validation')} rows."
        f"{without} nll: negative log likelihood (nats). coverage: share of the rows inside the"
        f" interval of that percentage. sharpness: root mean square spread{_in(unit)}; small is"
        " useful only if the coverage holds. spearman: rank correlation of error and spread."
    )


def _in(unit: str) -> str:
    return f" in {unit}" if unit else ""


# --- numbers -------------------------------------------------------------------------------------


def _calibration(rows: pd.DataFrame, calibration: dict[str, Any]) -> Chart:
    values = [rows[name].to_numpy(np.float64) for name in ("target", "mean", "std")]
    bounds: dict[str, Bounds] = {_BEFORE: gaussian_bounds}
    for kind, stored in (calibration.get("methods") or {}).items():
        found = read_recalibration(stored["fitted"], where="calibration.json")
        bounds[_METHODS.get(kind, kind)] = found.bounds
    tables = []
    for name, bound in bounds.items():
        expected, observed = calibration_curve(*values, bounds=bound)
        told = pd.DataFrame({"spread": name, "expected": expected, "observed": observed})
        tables.append(told)
    table = pd.concat(tables, ignore_index=True)
    axis = alt.Axis(format="%", tickCount=5)
    x = alt.X("expected:Q", title="expected share in the interval", axis=axis)
    y = alt.Y("observed:Q", title="observed share in the interval", axis=axis)
    palette = {name: _PALETTE.get(name, _POINT) for name in bounds}
    tip = [alt.Tooltip("spread:N")]
    tip += [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("expected", "observed")]
    curves = charts.base().mark_line(strokeWidth=2).encode(x=x, y=y, **colors("spread", palette))
    dots = charts.base().mark_point(size=60, opacity=0).encode(x=x, y=y, tooltip=tip)
    drawn = alt.layer(_diagonal("expected", "observed", [0.0, 1.0]), curves, dots)
    drawn = drawn.properties(width=charts.WIDTH, height=380)
    return charts.chart("Calibration curve", drawn, table, _CURVE)


def _diagonal(x: str, y: str, ends: list[float]) -> alt.Chart:
    line = alt.Chart(alt.InlineData(values=[{x: end, y: end} for end in ends]))
    drawn: alt.Chart = line.mark_line(strokeDash=[4, 4], color="gray").encode(
        x=alt.X(f"{x}:Q"), y=alt.Y(f"{y}:Q")
    )
    return drawn


def _errors_by_spread(rows: pd.DataFrame, calibration: dict[str, Any]) -> Iterator[Part]:
    """Draw absolute errors, and the RMSE of bins of equally many rows, against the spread."""
    scaling = (calibration.get("methods") or {}).get("std_scaling") or {"fitted": {}}
    factor = float(scaling["fitted"].get("factor", 1.0))
    std = rows["std"].to_numpy(np.float64)
    errors = (rows["target"] - rows["mean"]).abs().to_numpy(np.float64)
    points = rows[["material_id"]].assign(kind=_CRYSTAL, std=factor * std, error=errors)
    some = points.sample(min(len(points), MOST_ROWS), random_state=0)
    kinds = {"RMSE of a bin, std as predicted": (1.0, AMBER)}
    if factor != 1.0:
        kinds[f"RMSE of a bin, std × {factor:.3g}"] = (factor, SKY)
    tables = [some]
    for kind, (by, _) in kinds.items():
        found_std, found_error = binned_spread(by * std, errors)
        tables.append(pd.DataFrame({"kind": kind, "std": found_std, "error": found_error}))
    table = pd.concat(tables, ignore_index=True)
    palette = {kind: color for kind, (_, color) in kinds.items()}
    yield _spread_chart(table, {**palette, _CRYSTAL: _POINT}, str(calibration.get("unit", "")))
    if len(some) < len(points):
        yield Note(f"The points are {len(some):,} of {len(points):,} test rows, drawn at random.")


def _spread_chart(table: pd.DataFrame, palette: dict[str, str], unit: str) -> Chart:
    points = table[table["kind"] == _CRYSTAL]
    low, high = (float(v) for v in np.quantile(table["std"], [0.001, 0.999]))
    floor = float(np.quantile(points["error"], 0.02)) or low / 100
    ends = [0.9 * low, 1.1 * high]
    reach = [min(floor, low), 1.3 * float(max(table["error"].max(), high))]
    axis = alt.Axis(format="~g", tickCount=6)
    x: dict[str, Any] = {
        "title": with_unit("spread (standard deviation) of the members", unit),
        "axis": axis,
    }
    y: dict[str, Any] = {"title": with_unit("absolute error of the mean", unit), "axis": axis}
    x["scale"] = alt.Scale(type="log", domain=ends, nice=False)
    y["scale"] = alt.Scale(type="log", domain=reach, nice=False)
    is_point, shown = f"datum.kind === '{_CRYSTAL}'", charts.base()
    place = {"x": alt.X("std:Q", **x), "y": alt.Y("error:Q", **y)}
    looks = colors("kind", palette)
    crystals = shown.transform_filter(is_point).mark_circle(size=14, opacity=0.35, clip=True)
    lines = shown.transform_filter(f"!({is_point})").mark_line(
        strokeWidth=2, point=alt.OverlayMarkDef(size=60)
    )
    layers = [
        crystals.encode(**place, **looks, tooltip=charts.tips(points, *_TIPS)),
        _diagonal("std", "error", ends),
        lines.encode(**place, **looks, tooltip=charts.tips(table, "kind", "std", "error")),
    ]
    drawn = charts.zoomable(alt.layer(*layers).properties(width=charts.WIDTH, height=380))
    return charts.chart("Error against spread", drawn, table, _BINS)


# --- classes -------------------------------------------------------------------------------------


def _reliability(rows: pd.DataFrame) -> Iterator[Part]:
    """Draw the share of class 1 in bins of the predicted probability, and how full they are."""
    target, mean = (rows[name].to_numpy(np.float64) for name in ("target", "mean"))
    bins = np.minimum((mean * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS).astype(np.float64)
    used = np.flatnonzero(counts)
    if not len(used):
        return
    predicted, passed = (np.bincount(bins, v, N_BINS)[used] for v in (mean, target))
    low, high = wilson_interval(passed.astype(np.float64), counts[used])
    table = pd.DataFrame(
        {
            "predicted": predicted / counts[used],
            "observed": passed / counts[used],
            "low": low,
            "high": high,
            "crystals": counts[used].astype(int),
        }
    )
    shown, scale = charts.base(), alt.Scale(domain=[0, 1])
    x = alt.X("predicted:Q", title="predicted probability of class 1", scale=scale)
    label = "observed share of class 1"
    bars = shown.mark_rule().encode(x=x, y=alt.Y("low:Q", title=label, scale=scale), y2="high")
    line = shown.mark_line(point=alt.OverlayMarkDef(size=60)).encode(
        x=x, y=alt.Y("observed:Q", title=label), tooltip=charts.tips(table, *table.columns)
    )
    drawn = alt.layer(_diagonal("predicted", "observed", [0.0, 1.0]), bars, line)
    drawn = drawn.properties(width=charts.WIDTH, height=380)
    yield charts.chart("Reliability", drawn, table, _RELIABILITY)
    yield Table("Bins of the probability", table)
