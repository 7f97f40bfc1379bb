"""Pictures of an ensemble: can its spread be trusted, and what did more members buy?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.ensembles.calibration import (
    N_BINS,
    calibration_curve,
    gaussian_bounds,
    has_spread,
    miscalibration_area,
)
from raymat.ensembles.recalibration import StdScaling, read_recalibration
from raymat.reports.drawing import (
    AMBER,
    GREEN,
    NAVY,
    PALE,
    PINK,
    SCALE,
    legend,
    plain,
    save_figure,
    with_unit,
)
from raymat.reports.ensemble_results import EnsembleResults, read_results
from raymat.reports.member_curve_figure import member_curve_figure
from raymat.screening.probability import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "std_scaling": ("std", {"color": NAVY, "linestyle": "-"}),
    "isotonic": ("isotonic", {"color": GREEN, "linestyle": "--"}),
    "split_conformal": ("split conformal", {"color": PINK, "linestyle": ":"}),
}
_BIN_ROWS, _MOST_BINS = 20, 10  # of the binned spread
_TOP_SHARE = 0.98  # of the rows by spread; colors and axes leave out what is beyond


def save_ensemble_figures(run: Path, *, folder: Path | None = None) -> list[Path]:
    """Draw ``calibration`` and ``member_curve`` of an ensemble run, each as PNG and SVG.

    Args:
        run: a finished ensemble run.
        folder: where to; the run itself by default.

    Raises:
        RunError: the folder is not a finished ensemble run.
        DataError: a file cannot be written.
    """
    results, place = read_results(run), folder or run
    return [
        *save_figure(calibration_figure(results), place / "calibration.png"),
        *save_figure(member_curve_figure(results), place / "member_curve.png"),
    ]


def calibration_figure(results: EnsembleResults) -> "Figure":
    """Give calibration curve, error against spread and parity; for classes their reliability."""
    from matplotlib.figure import Figure

    is_number = results.task == "regression"
    figure = Figure(figsize=(13.2, 4.5) if is_number else (5.2, 6.0), layout="constrained")
    figure.suptitle(results.title, fontsize=11, x=0.01, ha="left")
    if is_number:
        left, middle, right = figure.subplots(1, 3)
        spread = _spread_of(results)
        _draw_calibration(left, spread)
        _draw_error_against_spread(middle, spread)
        _draw_parity(right, spread)
    else:
        _draw_reliability(figure, results)
    return figure


# --- numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spread:
    """Test rows, (n_rows,) each, and how their spread was recalibrated."""

    results: EnsembleResults
    target: Floats
    mean: Floats
    std: Floats
    factor: float  # of the spread after scaling; 1 for one that could not be recalibrated

    @property
    def scaled(self) -> Floats:
        return self.factor * self.std

    @property
    def errors(self) -> Floats:
        return np.abs(self.target - self.mean)


def _spread_of(results: EnsembleResults) -> _Spread:
    rows = results.test[has_spread(results.test["std"].to_numpy(np.float64))]
    target, mean, std = (rows[c].to_numpy(np.float64) for c in ("target", "mean", "std"))
    scaling = results.calibration["methods"].get(StdScaling.kind)
    factor = 1.0 if scaling is None else float(scaling["fitted"]["factor"])
    return _Spread(results, target, mean, std, factor)


def _draw_calibration(axes: "Axes", spread: _Spread) -> None:
    rows = (spread.target, spread.mean, spread.std)
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=1)
    expected, observed = calibration_curve(*rows, bounds=gaussian_bounds)
    name = f"as predicted: {miscalibration_area(expected, observed):.3f}"
    axes.fill_between(expected, expected, observed, color=AMBER, alpha=0.18, lw=0)
    axes.plot(expected, observed, color=AMBER, lw=2.0, label=name)
    where = "calibration.json"
    for kind, stored in spread.results.calibration["methods"].items():
        fitted = read_recalibration(stored["fitted"], where=where)
        expected, observed = calibration_curve(*rows, bounds=fitted.bounds)
        title, style = _METHODS[kind]
        title = f"{title} × {spread.factor:.2f}" if kind == StdScaling.kind else title
        area = miscalibration_area(expected, observed)
        axes.plot(expected, observed, lw=1.6, label=f"{title}: {area:.3f}", **style)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="Calibration")
    axes.set(xlabel="expected share in the interval", ylabel="observed share in the interval")
    plain(axes)
    legend(axes, title="miscalibration area", loc="upper left", alignment="left")


def _draw_error_against_spread(axes: "Axes", spread: _Spread) -> None:
    unit, errors = spread.results.unit, spread.errors
    scaled = f"std × {spread.factor:.2f}"
    dots: dict[str, Any] = {
        "s": 5,
        "color": PALE,
        "lw": 0,
        "rasterized": True,
        "label": f"a crystal, {scaled}",
    }
    axes.scatter(spread.scaled, errors, **dots)
    for std, color, marker, name in (
        (spread.std, AMBER, "s", "RMSE of a bin, std as predicted"),
        (spread.scaled, NAVY, "o", f"RMSE of a bin, {scaled}"),
    ):
        axes.plot(*binned_spread(std, errors), color=color, marker=marker, ms=5, lw=1.2, label=name)
    low, high = np.quantile(np.concatenate([spread.std, spread.scaled]), [0.001, 0.999])
    axes.plot([low, high], [low, high], color="0.6", lw=1, zorder=1)
    floor = float(np.quantile(errors, 0.03)) or low / 100
    axes.set(xscale="log", yscale="log", xlim=(low / 1.1, high * 1.1))
    axes.set_ylim(min(floor, low), 6 * max(float(errors.max()), high))
    rank = spread.results.calibration["before"]["spearman"]
    known = "" if rank is None else f": rank correlation {rank:.2f}"
    axes.set(xlabel=with_unit("std", unit), ylabel=with_unit("absolute error", unit))
    axes.set_title(f"Error against spread{known}")
    _plain_logarithms(axes)
    plain(axes)
    legend(axes, loc="upper left")


def binned_spread(std: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Give root mean square std and root mean square error in bins of equally many rows.

    Levi et al., Sensors 2022, 22, 5540: a calibrated spread has both the same in every bin.

    Args:
        std: (n_rows,).
        errors: (n_rows,).

    Returns:
        (n_bins,) each, by increasing std.
    """
    n_bins = int(np.clip(len(std) // _BIN_ROWS, 1, _MOST_BINS))
    bins = np.array_split(np.argsort(std, kind="stable"), n_bins)
    rms = [np.array([np.sqrt(np.square(v[b]).mean()) for b in bins]) for v in (std, errors)]
    return rms[0], rms[1]


def _draw_parity(axes: "Axes", spread: _Spread) -> None:
    results = spread.results
    order = np.argsort(spread.scaled)  # the least certain on top
    values = np.concatenate([spread.target, spread.mean])
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, color="0.6", lw=1, zorder=1)
    dots = axes.scatter(
        spread.target[order], spread.mean[order], c=spread.scaled[order], s=8, lw=0, cmap=SCALE,
        vmax=float(np.quantile(spread.scaled, _TOP_SHARE)), rasterized=True,
    )  # fmt: skip
    label = with_unit(f"std × {spread.factor:.2f}", results.unit)
    axes.figure.colorbar(dots, ax=axes, label=label, extend="max", shrink=0.85)
    axes.set(
        xlabel=with_unit(results.target, results.unit),
        ylabel=with_unit("mean of the members", results.unit),
        title=f"Parity: MAE {spread.errors.mean():.3g}{_say_r2(results.metrics['test']['r2'])}",
        aspect="equal",
    )
    plain(axes)


def _plain_logarithms(axes: "Axes") -> None:
    """Tick round values in plain numbers: a logarithm over less than a decade has few powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


# --- classes -------------------------------------------------------------------------------------


def _say_r2(value: float | None) -> str:
    return "" if value is None else f", R² {value:.3f}"


def _draw_reliability(figure: "Figure", results: EnsembleResults) -> None:
    top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    target, mean = (results.test[name].to_numpy(np.float64) for name in ("target", "mean"))
    bins = np.minimum((mean * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS).astype(np.float64)
    used = np.flatnonzero(counts)
    predicted, passed = (
        np.bincount(bins, v, N_BINS)[used].astype(np.float64) for v in (mean, target)
    )
    share = passed / counts[used]
    low, high = wilson_interval(passed, counts[used])
    scores = results.calibration["before"]
    top.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=1)
    top.errorbar(
        predicted / counts[used], share, yerr=[share - low, high - share], color=NAVY, marker="o",
        ms=5, lw=1.4, elinewidth=0.9, capsize=2.5, label="share in a bin, 95 % interval",
    )  # fmt: skip
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share of class 1")
    title = f"ECE {scores['ece']:.3f}, Brier {scores['brier']:.3f}, NLL {scores['nll']:.3f}"
    legend(top, title=title, loc="upper left", alignment="left")
    bottom.hist(mean, bins=np.linspace(0, 1, N_BINS + 1), color=PALE, edgecolor="white")
    bottom.set(xlabel="predicted probability of class 1", ylabel="test crystals")
    plain(top)
    plain(bottom)
