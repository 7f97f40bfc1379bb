"""Pictures of a comparison: bars of scores and costs, and learning curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.writers import atomic_file
from raymat.errors import RunError, did_you_mean
from raymat.reports.comparison_statistics import (
    checked_rows,
    largest_size,
    learning_curve_fit,
    records,
    summarise,
)
from raymat.reports.number_text import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
# Light with hatches and dark without: told apart in grey, too.
_STYLES: dict[str, dict[str, Any]] = {
    "default": {"facecolor": "#f3c98b", "hatch": "////", "edgecolor": "#9a6410"},
    "tuned": {"facecolor": "#5b8db3", "edgecolor": "#16425b"},
}
# Okabe & Ito's colors, safe for color-blind readers, darkest first; each with its own marker.
_COLORS = ("#16425b", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5a5a5a")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = {"default": "--", "tuned": "-"}
_BAR, _GREY = 0.38, "#4a4a4a"
_WORST_R2 = -1.0  # a bar below is cut off; its number still says how bad it is


@dataclass(frozen=True)
class _Panel:
    metric: str
    title: str
    log: bool = False
    is_share: bool = False  # 1 is the best there is


_COSTS = (
    _Panel("train_time_s", "training time (s)", log=True),
    _Panel("n_parameters", "parameters", log=True),
)
_PANELS = {
    "regression": (
        _Panel("mae", "MAE"),
        _Panel("rmse", "RMSE"),
        _Panel("r2", "R²", is_share=True),
        *_COSTS,
    ),
    "classification": (
        _Panel("auc", "ROC AUC", is_share=True),
        _Panel("accuracy_0", "accuracy of class 0", is_share=True),
        _Panel("accuracy_1", "accuracy of class 1", is_share=True),
        *_COSTS,
    ),
}


def save_bar_figure(rows: pd.DataFrame, prop: str, path: Path) -> None:
    """Draw MAE, RMSE, R2, training time and parameters of every model at its most training rows.

    Bars are means over the repetitions, whiskers the sample standard deviation, points the single
    repetitions. With classes: ROC AUC and the accuracy of each class.

    Args:
        rows: as for `summarise`.
        prop: name of the property.
        path: a PNG or SVG file.

    Raises:
        RunError: there are no rows of the property, or the file is neither PNG nor SVG.
        DataError: the file cannot be written.
    """
    _save(bar_figure(rows, prop), path)


def save_learning_curves(rows: pd.DataFrame, prop: str, path: Path) -> None:
    """Draw test MAE against training rows, both as logarithms, and the fitted slopes.

    Args:
        rows: as for `summarise`.
        prop: name of the property.
        path: a PNG or SVG file.

    Raises:
        RunError: there are no rows of the property with at least two training sizes, or the file
            is neither PNG nor SVG.
        DataError: the file cannot be written.
    """
    _save(learning_curve_figure(rows, prop), path)


def bar_figure(rows: pd.DataFrame, prop: str) -> "Figure":
    """Give the figure that `save_bar_figure` saves."""
    from matplotlib.figure import Figure

    own = _of_property(rows, prop)
    summary = summarise(own)
    size_shown = largest_size(summary)
    summary = summary[summary["training_size"] == size_shown]
    own = own[own["training_size"] == size_shown]
    first = summary.iloc[0]
    panels = [p for p in _PANELS[first["task"]] if f"{p.metric}_mean" in summary]
    models = list(dict.fromkeys(summary["model"]))
    n_lines = len(models)
    figure = Figure(figsize=(3.0 * len(panels) + 1.2, 1.7 + 0.62 * n_lines), layout="constrained")
    title = f"{prop}: {first['n_train']:,} training and {_test_text(summary)}"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, place in zip(panels, axes, strict=True):
        _draw_panel(place, panel, summary, own)
    axes[0].set_yticks(range(n_lines), models)
    axes[0].set_ylim(n_lines - 0.45, -0.55)
    figure.align_xlabels(axes)
    _bar_legend(figure, summary)
    return figure


def learning_curve_figure(rows: pd.DataFrame, prop: str) -> "Figure":
    """Give the figure that `save_learning_curves` saves."""
    from matplotlib.figure import Figure

    own = _of_property(rows, prop)
    summary, slopes = summarise(own), learning_curve_fit(own)
    if not (slopes["n_sizes"] > 1).any():
        raise RunError(f"{prop}: a learning curve needs several training sizes of a number")
    figure = Figure(figsize=(9.2, 4.8), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(summary["model"]))
    for curve in records(slopes):
        is_own = (summary["model"] == curve["model"]) & (summary["setting"] == curve["setting"])
        style = _curve_style(models.index(curve["model"]), curve["setting"])
        _draw_curve(axes, summary[is_own].sort_values("n_train"), curve, style)
    _log_ticks(axes, summary)
    axes.set(xlabel="training crystals", ylabel=_with_unit("test MAE", summary.iloc[0]["unit"]))
    axes.set_title(f"{prop}: {_test_text(summary)}", fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    title = "slope (95 % interval)" if slopes["slope"].notna().any() else None
    figure.legend(loc="outside right upper", frameon=False, title=title, fontsize=9)
    return figure


def _of_property(rows: pd.DataFrame, prop: str) -> pd.DataFrame:
    own = rows[rows["property"] == prop]
    if own.empty:
        hint = did_you_mean(prop, rows["property"].unique())
        raise RunError(f"there are no results of the property '{prop}'{hint}")
    return checked_rows(own)


def _save(figure: "Figure", path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise RunError(f"{path}: cannot draw a '{path.suffix}' file; name a .png or .svg file")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def _test_text(summary: pd.DataFrame) -> str:
    n = int(summary["n_repetitions"].max())
    times = f"{n} repetitions" if n > 1 else "1 repetition"
    return f"{summary.iloc[0]['n_test']:,} test crystals, {times}"


# --- bars ----------------------------------------------------------------------------------------


def _draw_panel(axes: "Axes", panel: _Panel, summary: pd.DataFrame, rows: pd.DataFrame) -> None:
    settings = [setting for setting in _STYLES if setting in set(summary["setting"])]
    models = list(dict.fromkeys(summary["model"]))
    _limit(axes, panel, rows[panel.metric].to_numpy(dtype=np.float64))
    for row in records(summary):
        shift = (settings.index(row["setting"]) - (len(settings) - 1) / 2) * _BAR
        y = models.index(row["model"]) + shift
        is_cell = (rows["model"] == row["model"]) & (rows["setting"] == row["setting"])
        values = rows.loc[is_cell, panel.metric].to_numpy(dtype=np.float64)
        end = _draw_bar(axes, panel, row, y, values[np.isfinite(values)])
        _label(axes, short(row[f"{panel.metric}_mean"]), end, y)
    unit = summary.iloc[0]["unit"] if panel.metric in ("mae", "rmse") else ""
    axes.set_xlabel(_with_unit(panel.title, unit))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_axisbelow(True)


def _limit(axes: "Axes", panel: _Panel, values: Floats) -> None:
    """Leave room for the numbers behind the bars; a logarithm begins below the smallest value."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    values = values[np.isfinite(values) & (values > 0 if panel.log else True)]
    if len(values) == 0:
        return
    low, high = float(values.min()), float(values.max())
    if panel.log:
        left = 10.0 ** np.floor(np.log10(low * 0.8))
        axes.set_xscale("log")
        axes.set_xlim(left, high * (high / left) ** 0.35)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
        return
    left, right = min(0.0, max(low, _WORST_R2) * 1.1), max(high, 0.0)
    axes.set_xlim(left, right + 0.38 * (right - left or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    if panel.is_share:
        axes.set_xticks(np.arange(0.0 if left == 0 else -1.0, 1.01, 0.25 if left == 0 else 0.5))


def _draw_bar(axes: "Axes", panel: _Panel, row: dict[str, Any], y: float, values: Floats) -> float:
    """Draw bar, whisker and points of one cell; give where the longest ends."""
    mean, std = row[f"{panel.metric}_mean"], row[f"{panel.metric}_std"]
    left = axes.get_xlim()[0] if panel.log else 0.0
    if not np.isfinite(mean) or (panel.log and mean <= 0):
        return float(left)
    axes.barh(y, mean - left, left=left, height=_BAR * 0.92, lw=0.6, **_STYLES[row["setting"]])
    if len(values) < 2:
        return float(max(left, mean))
    down = min(std, mean - left) if panel.log else std
    whisker, points = y + 0.22 * _BAR, np.full(len(values), y - 0.18 * _BAR)
    axes.errorbar(mean, whisker, xerr=[[down], [std]], color="black", lw=1.0, capsize=2.0)
    axes.scatter(values, points, s=11, color="white", edgecolor="black", lw=0.6, zorder=3)
    return max(left, float(mean + std), float(values.max()))


def _label(axes: "Axes", text: str, x: float, y: float) -> None:
    axes.annotate(
        text, (x, y), (5, 0), textcoords="offset points", va="center", fontsize=8, color=_GREY
    )


def _bar_legend(figure: "Figure", summary: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = [setting for setting in _STYLES if setting in set(summary["setting"])]
    handles: list[Any] = [Patch(label=name, lw=0.6, **_STYLES[name]) for name in shown]
    if summary["n_repetitions"].max() > 1:
        point = Line2D([], [], label="one repetition", marker="o", markersize=4, linestyle="none")
        point.set(markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.6)
        handles.append(point)
        handles.append(Line2D([], [], label="± standard deviation", color="black", lw=1.0))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


# --- learning curves -----------------------------------------------------------------------------


def _curve_style(number: int, setting: str) -> dict[str, Any]:
    color = _COLORS[number % len(_COLORS)]
    face = color if setting == "tuned" else "white"
    return {
        "color": color,
        "marker": _MARKERS[number % len(_MARKERS)],
        "markerfacecolor": face,
        "linestyle": _LINES[setting],
    }


def _draw_curve(
    axes: "Axes", points: pd.DataFrame, curve: dict[str, Any], style: dict[str, Any]
) -> None:
    """Draw means with whiskers, and the fitted line or, without one, a line from point to point."""
    sizes = points["n_train"].to_numpy(dtype=np.float64)
    mean = points["mae_mean"].to_numpy(dtype=np.float64)
    std = np.nan_to_num(points["mae_std"].to_numpy(dtype=np.float64))
    down = np.minimum(std, 0.9 * mean)  # a logarithm has no place for zero
    has_fit = np.isfinite(curve["slope"])
    marks = {**style, "linestyle": "none"} if has_fit else style
    axes.errorbar(sizes, mean, yerr=[down, std], ms=6, lw=1.4, elinewidth=0.9, capsize=2.5, **marks)
    if has_fit:
        line = 10.0 ** curve["intercept"] * sizes ** curve["slope"]
        axes.plot(sizes, line, color=style["color"], linestyle=style["linestyle"], lw=1.4)
    axes.plot([], [], ms=6, lw=1.4, label=_curve_label(curve), **style)


def _curve_label(curve: dict[str, Any]) -> str:
    name = f"{curve['model']}, {curve['setting']}"
    if not np.isfinite(curve["slope"]):
        return name
    return f"{name}: {curve['slope']:.3f} ({curve['slope_low']:.3f} to {curve['slope_high']:.3f})"


def _log_ticks(axes: "Axes", summary: pd.DataFrame) -> None:
    """Tick the sizes themselves, and round values of the error in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted(set(summary["n_train"]))
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high < 10 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=100))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="0.92", lw=0.6)


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
