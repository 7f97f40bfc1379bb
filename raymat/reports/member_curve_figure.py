"""The picture of scores against the number of members."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from raymat.reports.drawing import AMBER, GREEN, GREY, NAVY, legend, log_sizes, plain, with_unit
from raymat.reports.ensemble_results import EnsembleResults
from raymat.reports.number_text import number, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SETTLED = 5  # members; with fewer the NLL of a raw spread has no useful mean


@dataclass(frozen=True)
class _Panel:
    score: str
    label: str
    has_unit: bool = False


_PANELS = {
    "regression": (
        _Panel("mae", "MAE", has_unit=True),
        _Panel("nll", "NLL (nats)"),
        _Panel("miscalibration_area", "miscalibration area"),
        _Panel("coverage_90", "coverage of the 90 % interval"),
    ),
    "classification": (
        _Panel("nll", "NLL (nats)"),
        _Panel("brier", "Brier score"),
        _Panel("ece", "expected calibration error"),
    ),
}


def member_curve_figure(results: EnsembleResults) -> "Figure":
    """Draw test scores of random draws of members, and mark single member and ensemble.

    The ensemble's mark counts the members by their weights, the curve counts them all the same.
    """
    from matplotlib.figure import Figure

    panels = _PANELS[results.task]
    shape = (2, 2) if len(panels) == 4 else (1, len(panels))
    figure = Figure(figsize=(4.8 * shape[1], 3.4 * shape[0] + 0.4), layout="constrained")
    figure.suptitle(f"{results.title}: before recalibration", fontsize=11, x=0.01, ha="left")
    for axes, panel in zip(figure.subplots(*shape).flat, panels, strict=True):
        _draw(axes, panel, results)
        if axes.has_data():
            plain(axes)
            legend(axes, loc="best")
    return figure


def _draw(axes: "Axes", panel: _Panel, results: EnsembleResults) -> None:
    curve = results.curve[["n_members", panel.score, f"{panel.score}_std"]]
    curve = curve.dropna(subset=panel.score)
    if curve.empty:
        axes.set_axis_off()
        text = f"{panel.label}: not defined for these members and test rows"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    size, value, deviation = (np.nan_to_num(curve[c].to_numpy(np.float64)) for c in curve)
    largest = int(results.curve["n_members"].max())
    log_sizes(axes, largest)
    is_wild = (panel.score == "nll") & (results.task == "regression") & (size < _SETTLED)
    deviation = np.where(is_wild, 0.0, deviation)
    axes.fill_between(size, value - deviation, value + deviation, color=NAVY, alpha=0.15, lw=0)
    axes.plot(size, value, color=NAVY, marker="o", ms=4, lw=1.4, label="draws, ± std of a draw")
    if panel.score == "coverage_90":
        _draw_expected_coverage(axes, results.curve)
    single = _single_member(panel, results)
    if single is not None:
        name = f"average member: {number(single)}"
        axes.axhline(single, color=GREY, lw=1.0, linestyle="--", label=name)
    _mark_ensemble(axes, panel, results, largest, single)
    axes.set(xlabel="members", ylabel=with_unit(panel.label, _unit(panel, results)))
    axes.set_xlim(0.9, 1.25 * largest)
    if panel.score == "nll" and results.task == "regression":
        _leave_out_few(axes, curve)


def _unit(panel: _Panel, results: EnsembleResults) -> str:
    return results.unit if panel.has_unit else ""


def _single_member(panel: _Panel, results: EnsembleResults) -> float | None:
    """Give the mean over all members where it is known, else over those drawn."""
    if panel.score == "mae":
        return float(results.metrics["members"]["test_mae_mean"])
    alone = results.curve.loc[results.curve["n_members"] == 1, panel.score].dropna()
    return float(alone.iloc[0]) if len(alone) else None


def _mark_ensemble(
    axes: "Axes", panel: _Panel, results: EnsembleResults, largest: int, single: float | None
) -> None:
    scores = {"mae": results.metrics["test"].get("mae"), **results.calibration["before"]}
    value = scores[panel.score]
    if value is None:
        return
    change = f" ({100 * (value / single - 1):+.1f} %)".replace("-", "−") if single else ""
    name = f"ensemble: {number(value)}{change}"
    axes.plot(largest, value, "*", ms=13, color=AMBER, mec="black", mew=0.6, label=name)
    after = (results.calibration.get("after") or {}).get(panel.score)
    if after is not None:
        name = f"after std scaling: {number(after)}"
        axes.plot(largest, after, "D", ms=6, color=GREEN, mec="black", mew=0.6, label=name)


def _draw_expected_coverage(axes: "Axes", curve: pd.DataFrame) -> None:
    rows = curve.dropna(subset="coverage_90_exchangeable")
    axes.axhline(0.9, color="0.6", lw=1.0)
    axes.plot(
        rows["n_members"], rows["coverage_90_exchangeable"], color=GREY, lw=1.2, linestyle=":",
        label="what so few members allow",
    )  # fmt: skip


def _leave_out_few(axes: "Axes", curve: pd.DataFrame) -> None:
    """Zoom to where the score has settled, and say what lies above."""
    settled = curve[curve["n_members"] >= _SETTLED]
    if settled.empty:
        return
    ends = [np.asarray(line.get_ydata(), dtype=np.float64)[-1] for line in axes.lines]
    low, high = min(settled["nll"].min(), *ends), max(settled["nll"].max(), *ends)
    top = high + 0.75 * (high - low or 1.0)
    axes.set_ylim(low - 0.1 * (high - low or 1.0), top)
    above = curve[curve["nll"] > top]
    if len(above):
        pairs = zip(above["nll"], above["n_members"], strict=True)
        text = ", ".join(f"{short(nll)} for {n:.0f}" for nll, n in pairs)
        axes.set_title(f"above the frame: {text} members", fontsize=8, color=GREY)
