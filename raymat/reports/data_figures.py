"""A picture of a data set: the target's distribution, and its elements on the periodic table."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raymat.data.describe import Description
from raymat.data.writers import atomic_file
from raymat.reports.intervals import intervals
from raymat.reports.periodic_table import draw_periodic_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED = "#33638d", "#c8553d"


def save_description_figure(description: Description, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        DataError: the file cannot be written.
    """
    figure = description_figure(description)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


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
    _draw_elements(bottom, description.elements)
    return figure


def element_figure(description: Description) -> "Figure":
    """Draw the elements alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    _draw_elements(figure.subplots(), description.elements)
    return figure


def _draw_histogram(axes: "Axes", description: Description) -> None:
    target = description.target
    if target is None:
        values, label = description.n_sites.astype(np.float64), "atoms per cell"
    else:
        unit = f" ({target.property.unit})" if target.property.unit else ""
        values, label = target.values, target.property.name + unit
    edges = intervals(values)
    shown = np.clip(values, edges[0], edges[-1])  # those far out are in the outermost bars
    axes.hist(shown, bins=edges.tolist(), color=_BLUE, edgecolor="white", linewidth=0.4)
    for value, name, style in (
        (float(np.mean(values)), "mean", "-"),
        (float(np.median(values)), "median", "--"),
    ):
        axes.axvline(value, color=_RED, linewidth=1.4, linestyle=style, label=f"{name} {value:.4g}")
    axes.set(xlabel=label, ylabel="crystals")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _draw_elements(axes: "Axes", counts: dict[str, int]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    scale = ScalarMappable(LogNorm(1, max(10, *counts.values(), 1)), colormaps["viridis_r"])
    label = "crystals with the element"
    texts = {symbol: _short_count(count) for symbol, count in counts.items()}
    draw_periodic_table(axes, counts, scale, label=label, texts=texts)


def _short_count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
