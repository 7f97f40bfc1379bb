"""Pictures of a screening: who passes, how surely, and who comes first."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import RunError, did_you_mean
from raymat.reports.drawing import (
    AMBER,
    GREY,
    NAVY,
    SKY,
    legend,
    log_sizes,
    plain,
    save_figure,
    statement,
)
from raymat.reports.lithium_figures import LITHIUM_COLUMNS, lithium_histograms, stability_diagram
from raymat.reports.screening_results import (
    FLAT_CURVE,
    TOP,
    ScreeningResults,
    all_are_tied,
    curve_is_flat,
    nothing_passes,
    read_results,
    say_ranking,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

MOST_DRAWN = 200_000  # candidates
_NAMES = {
    "p_s_low": r"$P_\mathrm{s}$ at k = 10⁸ m⁻¹",
    "p_s_high": r"$P_\mathrm{s}$ at k = 2π/nm",
}
_CURVES = ("deviation", "largest")
_COLORS, _MARKERS = (NAVY, AMBER, SKY), ("o", "D", "^")


def save_screening_figures(
    run: Path, *, folder: Path | None = None, highlighted: Sequence[str] = ()
) -> list[Path]:
    """Draw a screening run, each figure as PNG and SVG.

    ``top``: the first candidates with their pass probabilities. ``probability_curve``: how far
    those of fewer members lie from these. With the columns of the lithium-metal criterion also
    ``stability_diagram`` and ``histograms``; otherwise ``passes``, the histogram of every pass
    probability.

    Args:
        run: a finished screening run.
        folder: where to; the run itself by default.
        highlighted: material_ids that the stability diagram points out.

    Returns:
        The files; none where no candidate was left to rank.

    Raises:
        RunError: the folder is not a finished screening run, or a highlighted candidate is not
            in its table.
        DataError: a file cannot be written.
    """
    results = read_results(run, most=MOST_DRAWN, keep=highlighted)
    if results.table.empty:
        return []
    figures = {"top": top_figure(results)} if results.passes else {}
    if set(results.table) >= LITHIUM_COLUMNS:
        rows = _rows_of(highlighted, results)
        figures["stability_diagram"] = stability_diagram(results, rows)
        figures["histograms"] = lithium_histograms(results)
    elif results.passes:
        figures["passes"] = passes_figure(results)
    if len(results.curve) and results.passes:
        figures["probability_curve"] = probability_curve_figure(results)
    place = folder or run
    return [p for name, f in figures.items() for p in save_figure(f, place / f"{name}.png")]


def passes_figure(results: ScreeningResults) -> "Figure":
    """Give the histogram of every pass probability over the candidates."""
    from matplotlib.figure import Figure

    n = len(results.passes)
    figure = Figure(figsize=(4.6 * n, 3.8), layout="constrained")
    figure.suptitle(results.title, fontsize=11, x=0.01, ha="left")
    for axes, name in zip(figure.subplots(1, n, squeeze=False)[0], results.passes, strict=True):
        share = results.numbers(name)
        share = share[np.isfinite(share)]
        axes.hist(share, bins=np.linspace(0, 1, 21), color=NAVY, edgecolor="white", lw=0.4)
        title = f"{int((share > 0.5).sum()):,} above 0.5, {int((share == 0).sum()):,} at 0"
        axes.set(xlim=(0, 1), yscale="log", xlabel=f"{name} (share of members)", title=title)
        axes.set_ylim(bottom=0.7)
        axes.set_ylabel("candidates")
        plain(axes)
    return figure


def top_figure(results: ScreeningResults, n: int = TOP) -> "Figure":
    """Give the first `n` candidates: pass probabilities with 95 % Wilson intervals.

    Beside them, where the table has it, the critical wavelength with its standard deviation. What
    is the same for all candidates is said instead of drawn.
    """
    from matplotlib.figure import Figure

    first, notes = results.first(n), say_ranking(results.metrics)
    has_wavelength = {"lambda_crit_nm", "lambda_crit_nm_std"} <= set(first.table)
    has_passes = not nothing_passes(results.metrics)
    n_panels = int(has_passes) + has_wavelength
    if not n_panels or all_are_tied(results.metrics):
        return statement(results.title, notes)
    figure = Figure(figsize=(2.6 + 3.8 * n_panels, 1.5 + 0.3 * len(first.table)))
    figure.set_layout_engine("constrained")
    title = "\n".join([results.title, *notes])
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    panels = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    if has_wavelength:
        _draw_wavelengths(panels[0], first)
    if has_passes:
        _draw_probabilities(panels[-1], first)
    panels[0].set_yticks(range(len(first.table)), first.labels)
    panels[0].set_ylim(len(first.table) - 0.4, -0.6)
    for axes in panels:
        plain(axes)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(color="0.92", lw=0.6)
        axes.set_axisbelow(True)
    return figure


def probability_curve_figure(results: ScreeningResults) -> "Figure":
    """Give the probabilities against the number of members.

    Left their mean over the candidates, with its standard deviation between draws of members.
    Right how far a candidate's lies from that of all members: the line is the mean over candidates
    and draws, the dashes the candidate that is farthest off in the mean of the draws.
    """
    from matplotlib.figure import Figure

    if curve_is_flat(results.curve, results.passes):
        return statement("What more members change in the probabilities", [FLAT_CURVE])
    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    figure.suptitle("What more members change in the probabilities", fontsize=11, x=0.01, ha="left")
    left, right = figure.subplots(1, 2)
    for k, name in enumerate(results.passes):
        style: dict[str, Any] = {"color": _COLORS[k % 3], "marker": _MARKERS[k % 3], "ms": 4}
        _draw_mean(left, results.curve, name, style)
        _draw_deviation(right, results.curve, name, style)
    left.set_ylabel("mean share over the candidates")
    right.set_ylabel("deviation from the share of all members")
    size = results.curve["n_members"]
    for axes in (left, right):
        log_sizes(axes, int(size.iloc[-1]))
        axes.set_xlim(0.9 * size.iloc[0], 1.1 * size.iloc[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("members")
        plain(axes)
        legend(axes)
    return figure


def _draw_mean(axes: "Axes", curve: pd.DataFrame, name: str, style: dict[str, Any]) -> None:
    size, mean, std = (
        curve[column].to_numpy(np.float64)
        for column in ("n_members", f"{name}_mean", f"{name}_mean_std")
    )
    axes.fill_between(size, mean - std, mean + std, color=style["color"], alpha=0.15, lw=0)
    axes.plot(size, mean, lw=1.4, label=f"{_NAMES.get(name, name)}, ± std of a draw", **style)


def _draw_deviation(axes: "Axes", curve: pd.DataFrame, name: str, style: dict[str, Any]) -> None:
    size = curve["n_members"]
    mean, largest = (curve[f"{name}_{end}"] for end in _CURVES)
    axes.plot(size, mean, lw=1.4, label=f"{_NAMES.get(name, name)}: mean", **style)
    axes.plot(size, largest, lw=1.0, ls="--", mfc="white", label="largest of a candidate", **style)


def _draw_wavelengths(axes: "Axes", first: ScreeningResults) -> None:
    """Draw mean and deviation; a wavelength without bound stands as text at the edge."""
    mean, std = first.numbers("lambda_crit_nm"), first.numbers("lambda_crit_nm_std")
    y = np.arange(len(mean))
    shown = np.isfinite(mean)
    bars = np.nan_to_num(std[shown])
    axes.errorbar(
        mean[shown], y[shown], xerr=[np.minimum(bars, mean[shown]), bars], fmt="o", ms=5,
        color=NAVY, elinewidth=1.0, capsize=2.5,
    )  # fmt: skip
    for place in y[np.isposinf(mean)]:
        axes.annotate(
            "∞: stable at every wavelength →", (1.0, place), xycoords=("axes fraction", "data"),
            ha="right", va="center", fontsize=8, color=GREY,
        )  # fmt: skip
    axes.set_xlim(left=0)
    if not shown.any():
        axes.set_xticks([])
    axes.set_xlabel("critical wavelength (nm), ± std of the members")


def _draw_probabilities(axes: "Axes", first: ScreeningResults) -> None:
    n = len(first.passes)
    for k, name in enumerate(first.passes):
        share, low, high = (first.numbers(f"{name}{end}") for end in ("", "_lo", "_hi"))
        # Not below 0 by rounding; without an interval, as of DFT values, no whisker.
        reach = [np.nan_to_num(np.maximum(end, 0.0)) for end in (share - low, high - share)]
        shift = 0.22 * (k - (n - 1) / 2)
        axes.errorbar(
            share, np.arange(len(share)) + shift, xerr=reach, fmt=_MARKERS[k % 3], ms=5,
            color=_COLORS[k % 3], elinewidth=1.0, capsize=2.5,
            label=_NAMES.get(name, name),
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), xlabel="share of members that pass, 95 % interval")
    if n > 1:
        legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=n, columnspacing=1.0)


def _rows_of(ids: Sequence[str], results: ScreeningResults) -> list[int]:
    """Give where highlighted candidates stand in the table."""
    places = {str(name): row for row, name in enumerate(results.table["material_id"])}
    for wanted in ids:
        if wanted not in places:
            raise RunError(
                f"'{wanted}' is not ranked by this screening (excluded candidates stand in"
                f" excluded.csv){did_you_mean(wanted, places) if len(places) < 1000 else ''}"
            )
    return [places[wanted] for wanted in ids]
