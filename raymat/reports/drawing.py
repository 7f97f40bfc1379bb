"""What figures share: colors, plain axes, labels that stay apart, and the files they become."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymat.data.writers import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# Okabe & Ito's colors, safe for color-blind readers, with a darker blue.
NAVY, ORANGE, GREEN, PINK = "#16425b", "#d55e00", "#009e73", "#cc79a7"
SKY, AMBER, GREY, PALE = "#56b4e9", "#e69f00", "#5a5a5a", "#c3cbd1"
SCALE = "viridis"  # of values shown as color
DPI = 150
_ROUND_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write a figure as PNG and as SVG, the same bytes for the same figure.

    Args:
        figure: what to write.
        path: of both; its ending is replaced.

    Raises:
        DataError: a file cannot be written.
    """
    from matplotlib import rc_context

    files = [path.with_suffix(ending) for ending in (".png", ".svg")]
    for file in files:
        kind = file.suffix.removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else None
        with atomic_file(file) as temporary, rc_context({"svg.hashsalt": "raymat"}):
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=metadata)
    return files


def statement(title: str, sentences: Iterable[str]) -> "Figure":
    """Return a figure that only says why there is nothing to draw."""
    from matplotlib.figure import Figure

    lines = list(sentences)
    figure = Figure(figsize=(7.6, 1.1 + 0.3 * len(lines)))
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    figure.text(0.02, 0.5, "\n".join(lines), va="center", wrap=True, color=GREY)
    return figure


def plain(axes: "Axes") -> None:
    """Draw only the left and the bottom line of the frame."""
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: "Axes", **options: Any) -> None:
    """Add a small legend without a frame, top right unless told otherwise."""
    usual = {"loc": "upper right", "frameon": False, "fontsize": 8, "title_fontsize": 8}
    axes.legend(**{**usual, **options})


def score_labels(unit: str) -> dict[str, str]:
    """Return the label of each validation score by its column."""
    return {
        "val_mae": with_unit("validation MAE", unit),
        "val_auc": "validation AUC",
        "val_nll": "validation NLL (nats)",
    }


def with_unit(name: str, unit: str) -> str:
    """Give ``name (unit)``, or the name of a pure number."""
    return f"{name} ({unit})" if unit else name


def color_bar(
    panels: "Sequence[Axes]",
    scale: "ScalarMappable",
    values: ArrayLike,
    *,
    label: str,
    **options: Any,
) -> None:
    """Add a color bar beside some axes, pointed at the ends beyond which there are values.

    Args:
        panels: axes of one figure.
        scale: number -> color.
        values: that are drawn.
        label: of the bar, with the unit.
        options: of matplotlib's color bar.
    """
    figure = panels[0].get_figure(root=True)
    assert figure is not None
    (low, high), given = scale.get_clim(), np.asarray(values)
    is_below, is_above = bool((given < low).any()), bool((given > high).any())
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    extend = ends.get((is_below, is_above), "both")
    bar = figure.colorbar(scale, ax=list(panels), extend=extend, pad=0.01, **options)
    bar.set_label(label)
    bar.outline.set_visible(False)


def log_sizes(axes: "Axes", largest: int) -> None:
    """Make x a logarithm of whole numbers from 1, ticked at round ones and the largest."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    ticks = [*(n for n in _ROUND_SIZES if 1.4 * n < largest), largest]
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def number_points(axes: "Axes", points: Floats, labels: Iterable[str]) -> None:
    """Number points beside them, and tell in a list right of the axes which is which.

    Call it when the limits and scales of the axes are final.

    Args:
        axes: where the points are.
        points: (n, 2) in data units.
        labels: what each is called.
    """
    from matplotlib.lines import Line2D
    from matplotlib.offsetbox import AnchoredText

    places = _label_places(axes, points, distance_pt=14.0)
    ring: dict[str, Any] = {
        "s": 26,
        "facecolor": "none",
        "edgecolor": "black",
        "lw": 1.0,
        "zorder": 5,
    }
    axes.scatter(points[:, 0], points[:, 1], **ring)
    names = []
    for number, (point, place, label) in enumerate(zip(points, places, labels, strict=True), 1):
        axes.add_line(Line2D(*np.column_stack([point, place]), color="black", lw=0.6, zorder=5))
        box = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 0.6}
        style: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center", "zorder": 6}
        axes.text(place[0], place[1], str(number), bbox=box, **style)
        names.append(f"{number:\u2007>2}  {label}")
    listed = AnchoredText(
        "\n".join(names), "upper left", prop={"size": 8}, frameon=False,
        bbox_to_anchor=(1.0, 1.0), bbox_transform=axes.transAxes, borderpad=0.2,
    )  # fmt: skip
    axes.add_artist(listed)


def label_points(
    axes: "Axes", points: Floats, labels: Iterable[str], *, font_pt: float = 7.0
) -> None:
    """Write a word of a few characters beside each point, with a thin line from one to the other.

    Call it when the limits and scales of the axes are final.

    Args:
        axes: where the points are.
        points: (n, 2) in data units.
        labels: what each is called.
        font_pt: their size.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="white")]
    style: dict[str, Any] = {"fontsize": font_pt, "ha": "center", "va": "center", "zorder": 6}
    places = _label_places(axes, points, distance_pt=1.6 * font_pt)
    for point, place, label in zip(points, places, labels, strict=True):
        axes.add_line(Line2D(*np.column_stack([point, place]), color=GREY, lw=0.4, zorder=1.5))
        axes.text(place[0], place[1], label, path_effects=halo, **style)


def _label_places(axes: "Axes", points: Floats, *, distance_pt: float) -> Floats:
    """Give a place (n, 2) for a label near each point (n, 2), in data units."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels = np.asarray(axes.transData.transform(points), dtype=np.float64)
    apart = _apart(pixels, distance_pt * figure.dpi / 72.0)
    return np.asarray(axes.transData.inverted().transform(apart), dtype=np.float64)


def _apart(pixels: Floats, distance: float) -> Floats:
    """Give a place near each point that is `distance` pixels from all others, points included."""
    places = pixels + distance * np.array([0.7, 0.7])
    for _ in range(200):
        others = np.concatenate([places, pixels])
        gaps = places[:, None] - others[None]
        lengths = np.hypot(gaps[..., 0], gaps[..., 1])
        np.fill_diagonal(lengths, np.inf)
        # A fixed direction for places that coincide, another for each.
        turns = np.arange(len(places))[:, None] * 2.4
        own = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
        directions = np.where(
            lengths[..., None] > 0, gaps / np.maximum(lengths, 1e-9)[..., None], own
        )
        push = np.clip(distance - lengths, 0.0, None)[..., None] * directions
        if not push.any():
            break
        places = places + 0.5 * push.sum(axis=1)
    return places
