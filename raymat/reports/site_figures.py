"""Pictures of what sites and elements contribute to the value that a CGCNN predicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.composition import SYMBOLS
from raymat.features.elements import group
from raymat.reports.drawing import (
    GREY,
    NAVY,
    ORANGE,
    SCALE,
    color_bar,
    label_points,
    plain,
    save_figure,
    with_unit,
)
from raymat.reports.number_text import n_decimals, with_minus
from raymat.reports.periodic_table import draw_periodic_table
from raymat.training.planes import principal_plane, tsne_plane

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from raymat.explain.site_contributions import SiteContributions

Floats = NDArray[np.float64]

MOST_FREQUENT = 12  # elements that have a histogram, and a name in the map of sites
FEWEST_FOR_TSNE = 10
_DIVERGING = "RdYlBu_r"  # its middle is a color of its own, neither white nor grey
_BOTH_SIGNS = 0.25  # of the largest value: how far the other sign reaches at least
_RARE = 5  # crystals: means over fewer are put in brackets
_ELEMENT_TAIL = 0.02  # share of elements beyond each end of the scale of colors
_TAIL = 0.01  # share of sites beyond each end of the scale of colors
_BEYOND = 0.001  # share of sites beyond each end of the histograms
_BINS = 40
_GROUPS = 18


def save_site_figures(found: "SiteContributions", folder: Path, *, seed: int = 0) -> list[Path]:
    """Write the four figures as PNG and as SVG into a folder, and give their paths.

    Args:
        found: what is drawn.
        folder: of the files ``elements``, ``histograms``, ``site_map``, ``element_map``.
        seed: of t-SNE.

    Raises:
        DataError: a file cannot be written.
    """
    figures = {
        "elements": elements_figure(found),
        "histograms": histograms_figure(found),
        "site_map": site_map_figure(found, seed=seed),
        "element_map": element_map_figure(found, seed=seed),
    }
    return [
        file
        for name, figure in figures.items()
        for file in save_figure(figure, folder / f"{name}.png")
    ]


def elements_figure(found: "SiteContributions") -> "Figure":
    """Draw the mean contribution of every element on the periodic table."""
    from matplotlib.figure import Figure

    elements = found.elements
    means = elements["mean"].to_numpy()
    decimals = n_decimals(means)
    texts = [with_minus(f"{mean:.{decimals}f}") for mean in means]
    is_rare = elements["n_crystals"].to_numpy() < _RARE
    texts = [f"({t})" if rare else t for t, rare in zip(texts, is_rare, strict=True)]
    figure = Figure(figsize=(11.0, 5.6), layout="constrained")
    axes = figure.subplots()
    draw_periodic_table(
        axes,
        dict(zip(elements["element"], means.tolist(), strict=True)),
        _value_scale(means, tail=_ELEMENT_TAIL),
        label=with_unit("mean contribution", found.unit),
        texts=dict(zip(elements["element"], texts, strict=True)),
    )
    rare = f"; in brackets: in fewer than {_RARE} crystals" if is_rare.any() else ""
    title = f"Mean contribution of an element's sites to {found.target}: {_say_counts(found)}{rare}"
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def histograms_figure(found: "SiteContributions") -> "Figure":
    """Draw how the contributions of the most frequent elements are distributed, one panel each."""
    from matplotlib.figure import Figure

    common = _most_frequent(found)
    shown = found.sites[found.sites["element"].isin(common["element"])]
    ends = _ends(shown["contribution"].to_numpy(), tail=_BEYOND)
    edges = np.histogram_bin_edges(shown["contribution"], bins=_BINS, range=_widened(*ends))
    n_columns = min(4, len(common))
    n_rows = -(-len(common) // n_columns)
    figure = Figure(figsize=(3.0 * n_columns, 1.9 * n_rows + 0.6), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False).ravel()
    decimals = n_decimals(common["mean"].to_numpy())
    for axes, symbol in zip(panels, common["element"], strict=False):
        values = shown.loc[shown["element"] == symbol, "contribution"].to_numpy()
        _draw_histogram(axes, values, edges)
        mean = with_minus(f"{values.mean():.{decimals}f}")
        name = f"{symbol}: {len(values):,} sites, mean {mean}"
        axes.set_title(name, fontsize=9, loc="left")
    for axes in panels[len(common) :]:
        axes.remove()
    for axes in panels[max(0, len(common) - n_columns) : len(common)]:
        axes.tick_params(labelbottom=True)
    n_beyond = int(((shown["contribution"] < edges[0]) | (shown["contribution"] > edges[-1])).sum())
    beyond = f"; {n_beyond:,} sites lie beyond the ends" if n_beyond else ""
    figure.supxlabel(f"{_label(found)}{beyond}", fontsize=10)
    figure.supylabel("sites", fontsize=10)
    return figure


def site_map_figure(found: "SiteContributions", *, seed: int = 0) -> "Figure":
    """Map the vectors of the sampled sites by principal components and by t-SNE.

    Args:
        found: what is drawn.
        seed: of t-SNE.
    """
    from matplotlib.figure import Figure

    sites = found.sites.iloc[found.sampled]
    values = sites["contribution"].to_numpy()
    scale = _value_scale(values, tail=_TAIL)
    figure = Figure(figsize=(13.0, 6.2), layout="constrained")
    panels = list(figure.subplots(1, 2))
    drawn = _draw_planes(panels, found.site_vectors, seed=seed)
    for axes, places in drawn:
        style: dict[str, Any] = {"s": 9, "lw": 0.15, "edgecolor": GREY, "rasterized": True}
        axes.scatter(places[:, 0], places[:, 1], c=scale.to_rgba(values), **style)
    color_bar(panels, scale, values, label=_label(found), shrink=0.8)
    n_all = len(found.sites)
    share = f"{n_all:,}" if len(sites) == n_all else f"{len(sites):,} of {n_all:,}"
    figure.suptitle(
        f"Vectors of {share} sites after the last convolution; an element's symbol marks the site"
        " in the middle of its own",
        fontsize=11,
    )
    common = _most_frequent(found)["element"].tolist()
    for axes, places in drawn:
        _name_elements(axes, places, sites["element"].to_numpy(), common)
    return figure


def element_map_figure(found: "SiteContributions", *, seed: int = 0) -> "Figure":
    """Map the vectors of the elements met by principal components and, if not few, by t-SNE.

    Args:
        found: what is drawn.
        seed: of t-SNE.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    symbols = found.elements["element"].tolist()
    n_panels = 2 if len(symbols) >= FEWEST_FOR_TSNE else 1
    figure = Figure(figsize=(6.6 * n_panels + 0.8, 6.4), layout="constrained")
    panels = list(figure.subplots(1, n_panels, squeeze=False).ravel())
    drawn = _draw_planes(panels, found.element_vectors, seed=seed)
    scale = _group_scale()
    groups = np.array([group(SYMBOLS.index(symbol) + 1) for symbol in symbols])
    colors = np.asarray(scale.to_rgba(groups))
    colors[groups == 0] = to_rgba(GREY)
    for axes, places in drawn:
        axes.scatter(places[:, 0], places[:, 1], s=26, c=colors, lw=0.3, edgecolor="black")
    label = "group of the periodic table (grey: lanthanides and actinides)"
    numbers = range(1, _GROUPS + 1)
    color_bar(panels, scale, numbers, label=label, ticks=numbers, shrink=0.8)
    figure.suptitle(f"Vectors of {len(symbols)} elements before the first convolution", fontsize=11)
    for axes, places in drawn:
        label_points(axes, places, symbols)
    return figure


def _draw_planes(
    panels: "list[Axes]", vectors: Floats, *, seed: int
) -> "list[tuple[Axes, Floats]]":
    """Name the axes of both planes, and give those with places on them."""
    vectors = np.pad(vectors, ((0, 0), (0, max(0, 2 - vectors.shape[1]))))
    places, shares = principal_plane(vectors)
    names = [f"principal component {i} ({s:.0%} of the variance)" for i, s in enumerate(shares, 1)]
    panels[0].set(xlabel=names[0], ylabel=names[1])
    plain(panels[0])
    drawn = [(panels[0], places)]
    for axes in panels[1:]:
        axes.set(xlabel="t-SNE 1 (only neighborhoods mean something)", ylabel="t-SNE 2")
        axes.set(xticks=[], yticks=[])
        n = len(np.unique(vectors, axis=0))
        if n >= FEWEST_FOR_TSNE:
            drawn.append((axes, tsne_plane(vectors, seed)))
        else:
            text = f"no t-SNE of {n} different vectors"
            axes.text(0.5, 0.5, text, ha="center", color=GREY, transform=axes.transAxes)
    return drawn


def _draw_histogram(axes: "Axes", values: Floats, edges: Floats) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.hist(values, bins=edges.tolist(), color=NAVY)
    axes.axvline(float(values.mean()), color=ORANGE, lw=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(labelsize=8)
    plain(axes)


def _name_elements(
    axes: "Axes", places: Floats, elements: NDArray[np.object_], common: list[str]
) -> None:
    drawn = [symbol for symbol in common if (elements == symbol).any()]
    middles = [_middle(places[elements == symbol]) for symbol in drawn]
    label_points(axes, np.array(middles), drawn, font_pt=10.0)


def _most_frequent(found: "SiteContributions") -> "pd.DataFrame":
    return found.elements.nlargest(MOST_FREQUENT, "n_sites").sort_index()


def _middle(places: Floats) -> Floats:
    """Give the one of some places (n, 2) with the smallest sum of distances to the others."""
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    return np.asarray(places[gaps.sum(axis=1).argmin()])


def _value_scale(values: Floats, *, tail: float = 0.0) -> "ScalarMappable":
    """Give a scale of colors: around zero for values of both signs, else between their ends.

    Where hardly any value has one of the signs, a scale around zero would waste half its colors.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = _ends(values, tail=tail)
    most = max(-low, high)
    if min(-low, high) > _BOTH_SIGNS * most:
        return ScalarMappable(Normalize(-most, most), colormaps[_DIVERGING])
    return ScalarMappable(Normalize(*_widened(low, high)), colormaps[SCALE])


def _ends(values: Floats, *, tail: float) -> tuple[float, float]:
    """Give the values that leave out a share at each end, or none if there are few values."""
    low = np.quantile(values, tail, method="lower")
    return float(low), float(np.quantile(values, 1.0 - tail, method="higher"))


def _group_scale() -> "ScalarMappable":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm

    colors = colormaps["turbo"].resampled(_GROUPS)
    return ScalarMappable(BoundaryNorm(np.arange(0.5, _GROUPS + 1), _GROUPS), colors)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Give an interval, made around a single value if it is one."""
    margin = 0.0 if high > low else 0.5 * (abs(low) or 1.0)
    return low - margin, high + margin


def _label(found: "SiteContributions") -> str:
    return with_unit(f"contribution to {found.target}", found.unit)


def _say_counts(found: "SiteContributions") -> str:
    n_crystals = found.sites["material_id"].nunique()
    return f"{len(found.sites):,} sites of {n_crystals:,} crystals"
