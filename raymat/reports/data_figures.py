"""A picture of a data set: the target's distribution, and its elements on the periodic table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raymat.data.composition import SYMBOLS
from raymat.data.describe import Description
from raymat.errors import RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # Z at the end of each period
_F_BLOCK = {6: range(57, 71), 7: range(89, 103)}
_F_ROW_SHIFT = 2.4  # rows between the f block and the period it belongs to
_BINS = 50
_BLUE, _RED, _GREY, _EMPTY = "#33638d", "#c8553d", "#4a4a4a", "#f1f1f1"


def save_description_figure(description: Description, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        RunError: the file cannot be written.
    """
    figure = description_figure(description)
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as cause:
        problem = cause.strerror or str(cause)
        raise RunError(f"{path}: cannot be written ({problem}); choose another --out") from cause


def description_figure(description: Description) -> "Figure":
    """Draw a histogram (of the target, or else of the atoms per cell) above the elements."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, height_ratios=[1, 1.5])
    source = description.source
    rejected = f", {source.n_rejected:,} rejected" if source.n_rejected else ""
    figure.suptitle(f"{source.name}: {source.n_used:,} crystals{rejected}", fontsize=13)
    _draw_histogram(top, description)
    _draw_elements(figure, bottom, description.elements)
    return figure


def table_position(atomic_number: int) -> tuple[float, float]:
    """Give (column, row) of an element in the 18-column table, both from 1; f blocks below."""
    period = next(p for p, end in enumerate(_NOBLE) if atomic_number <= end)
    if atomic_number in _F_BLOCK.get(period, ()):
        return 3.0 + atomic_number - _F_BLOCK[period].start, period + _F_ROW_SHIFT
    from_start = atomic_number - _NOBLE[period - 1]
    if from_start <= (1 if period == 1 else 2):
        return float(from_start), float(period)
    return float(18 - (_NOBLE[period] - atomic_number)), float(period)


def _draw_histogram(axes: "Axes", description: Description) -> None:
    target = description.target
    if target is None:
        values, label = description.n_sites.astype(np.float64), "atoms per cell"
    else:
        unit = f" ({target.property.unit})" if target.property.unit else ""
        values, label = target.values, target.property.name + unit
    axes.hist(
        values,
        bins=min(_BINS, max(5, len(values) // 4)),
        color=_BLUE,
        edgecolor="white",
        linewidth=0.4,
    )
    for value, name, style in (
        (float(np.mean(values)), "mean", "-"),
        (float(np.median(values)), "median", "--"),
    ):
        axes.axvline(value, color=_RED, linewidth=1.4, linestyle=style, label=f"{name} {value:.4g}")
    axes.set(xlabel=label, ylabel="crystals")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _draw_elements(figure: "Figure", axes: "Axes", counts: dict[str, int]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    scale = ScalarMappable(LogNorm(1, max(10, *counts.values(), 1)), colormaps["viridis_r"])
    for z, symbol in enumerate(SYMBOLS, start=1):
        _draw_element(axes, z, symbol, counts.get(symbol, 0), scale)
    axes.set(xlim=(0.4, 18.6), ylim=(10.1, 0.4), aspect="equal")
    axes.axis("off")
    bar = figure.colorbar(scale, ax=axes, shrink=0.6, pad=0.01)
    bar.set_label("crystals with the element")
    bar.outline.set_visible(False)


def _draw_element(axes: "Axes", z: int, symbol: str, count: int, scale: Any) -> None:
    from matplotlib.patches import Rectangle

    column, row = table_position(z)
    face = scale.to_rgba(count) if count else _EMPTY
    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=face))
    is_dark = bool(count) and float(np.dot(face[:3], (0.299, 0.587, 0.114))) < 0.55
    color = "white" if is_dark else _GREY if count else "#b5b5b5"
    centered: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
    axes.text(column, row - (0.12 if count else 0.0), symbol, fontsize=9, weight="bold", **centered)
    if count:
        axes.text(column, row + 0.27, _short_count(count), fontsize=6, **centered)


def _short_count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
