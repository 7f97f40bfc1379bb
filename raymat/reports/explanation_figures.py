"""Pictures of explanations: which labels, which edges, and the graphs that come up most often."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import RunError
from raymat.explain.explanations import Explanation, class_word
from raymat.explain.finish import CLASSES, EXPLANATIONS, SUMMARY
from raymat.explain.summary import most_frequent
from raymat.features.coarse_graphs import N_LABELS, LabelKind
from raymat.reports.drawing import GREY, NAVY, ORANGE, SCALE, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

CLASS_COLORS = {0: ORANGE, 1: NAVY}
NONE = "no explanations"  # of a class
N_MOTIFS = 6  # of each class
_TEXT_FROM = 0.55  # of the largest share: lighter than this, and text on it must be dark
_SMALLEST_TOLD = 0.01  # share of edges that is written into its cell


@dataclass(frozen=True, eq=False)
class ExplanationResults:
    """What the figures of one labelling show.

    Attributes:
        target: property that is explained.
        labels: groups or periods.
        summary: the rows of `summary.csv` of this labelling.
        explanations: class -> explanations, of all classifiers.
        threshold: between the classes; None where the target is a class itself.
    """

    target: str
    labels: LabelKind
    summary: pd.DataFrame
    explanations: dict[int, list[Explanation]]
    threshold: float | None

    def word(self, target_class: int) -> str:
        """Give what a class is called."""
        return class_word(target_class, self.threshold)

    def nodes(self, target_class: int, column: str) -> Floats:
        """Give (n_labels,) one column of the rows of labels."""
        own = self.summary[
            (self.summary["kind"] == "node") & (self.summary["target_class"] == target_class)
        ]
        return own.sort_values("a")[column].to_numpy(dtype=np.float64)

    def edges(self, target_class: int, column: str) -> Floats:
        """Give (n_labels, n_labels) one column of the rows of edges, in the lower triangle.

        nan above the diagonal.
        """
        n = N_LABELS[self.labels]
        found = np.where(np.tri(n, dtype=bool), 0.0, np.nan)
        own = self.summary[
            (self.summary["kind"] == "edge") & (self.summary["target_class"] == target_class)
        ]
        for a, b, value in zip(own["a"], own["b"], own[column], strict=True):
            found[int(b) - 1, int(a) - 1] = value
        return found


def save_explanation_figures(run: Path, *, folder: Path | None = None) -> list[Path]:
    """Draw an explanation run, each figure as PNG and SVG.

    For every labelling ``labels-NAME``: how often each label occurs in either class, beside the
    training crystals; ``edges-NAME``: heat maps of the pairs that are joined; ``motifs-NAME``: the
    graphs that come up most often.

    Args:
        run: a finished explanation run.
        folder: where to; the run itself by default.

    Returns:
        The files; none of a labelling without any explanation.

    Raises:
        RunError: the folder is not a finished explanation run.
        DataError: a file cannot be written.
    """
    place, files = folder or run, list[Path]()
    for results in read_explanations(run):
        if not any(results.explanations.values()):
            continue
        drawn = {"labels": label_figure, "edges": edge_figure, "motifs": motif_figure}
        for name, draw in drawn.items():
            files += save_figure(draw(results), place / f"{name}-{results.labels}.png")
    return files


def read_explanations(run: Path) -> list[ExplanationResults]:
    """Read what a run found, one entry per labelling.

    Raises:
        RunError: a file is missing or damaged.
    """
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        summary = pd.read_csv(run / SUMMARY)
        lines = (run / EXPLANATIONS).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [
            ExplanationResults(
                metrics["target"],
                labels,
                summary[summary["labels"] == labels],
                {c: _of_class(rows, labels, c) for c in CLASSES},
                metrics["threshold"],
            )
            for labels in dict.fromkeys(own["labels"] for own in metrics["explanations"])
        ]
    except (OSError, ValueError, KeyError) as cause:
        raise RunError(f"{run}: not a finished explanation run, or damaged ({cause})") from cause


def _of_class(rows: list[dict[str, Any]], labels: str, target_class: int) -> list[Explanation]:
    known = Explanation.__dataclass_fields__
    return [
        Explanation.from_dict({key: value for key, value in row.items() if key in known})
        for row in rows
        if (row["labels"], row["target_class"]) == (labels, target_class)
    ]


# --- labels --------------------------------------------------------------------------------------


def label_figure(results: ExplanationResults) -> "Figure":
    """Give the share of every label among the nodes of either class, as bars side by side.

    A short line across a bar is the share among the atoms of the training crystals of its class.
    """
    from matplotlib.figure import Figure

    n = N_LABELS[results.labels]
    figure = Figure(figsize=(2.6 + 0.42 * n, 4.2), layout="constrained")
    axes = figure.subplots()
    width, places = 0.38, np.arange(1, n + 1)
    for target_class in CLASSES:
        shift = (target_class - 0.5) * width
        count = len(results.explanations[target_class])
        label = f"{results.word(target_class)}: {count or 'no'} explanations"
        shares = 100 * results.nodes(target_class, "share")
        shares = shares if count else np.full(n, np.nan)  # a bar of none would be a share of 0 %
        axes.bar(places + shift, shares, width, color=CLASS_COLORS[target_class], label=label, lw=0)
        known = 100 * results.nodes(target_class, "training_share")
        left = places + shift - 0.45 * width
        name = "_" if target_class else "training crystals"  # told once
        axes.hlines(known, left, left + 0.9 * width, color="black", lw=1.4, label=name)
    axes.set(xlabel=results.labels, ylabel="share of nodes (%)", xticks=places)
    axes.set_xlim(0.4, n + 0.6)
    axes.set_ylim(top=1.12 * axes.get_ylim()[1])
    axes.set_title(f"{results.target}: what explanations are made of", fontsize=11, loc="left")
    plain(axes)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
        fontsize=8,
    )  # fmt: skip
    return figure


# --- edges ---------------------------------------------------------------------------------------


def edge_figure(results: ExplanationResults) -> "Figure":
    """Give heat maps of the pairs of labels that are joined, one for each class, on one scale."""
    from matplotlib.figure import Figure

    n = N_LABELS[results.labels]
    size = 1.6 + 0.27 * n
    figure = Figure(figsize=(2 * size + 1.1, size + 0.5), layout="constrained")
    panels = figure.subplots(1, 2)
    shares = {c: 100 * results.edges(c, "share") for c in CLASSES}
    told = [float(np.nanmax(found)) for c, found in shares.items() if results.explanations[c]]
    most = max(told, default=0.0) or 1.0
    image = None
    for axes, target_class in zip(panels, CLASSES, strict=True):
        if results.explanations[target_class]:
            drawn = axes.imshow(shares[target_class], cmap=SCALE, vmin=0.0, vmax=most)
            _write_cells(axes, shares[target_class], most)
            image = drawn
        else:
            _draw_nothing(axes, n)
        places = np.arange(n)
        axes.set_xticks(places, places + 1, fontsize=8)
        axes.set_yticks(places, places + 1, fontsize=8)
        axes.set(xlabel=results.labels, ylabel=results.labels)
        axes.set_title(f"{results.word(target_class)}", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    if image is not None:
        figure.colorbar(image, ax=list(panels), label="share of edges (%)", shrink=0.8)
    figure.suptitle(f"{results.target}: which labels are joined", fontsize=11, x=0.01, ha="left")
    return figure


def _draw_nothing(axes: "Axes", n: int) -> None:
    """Hatch the panel of a class without explanations: cells of the scale would be shares of 0."""
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", facecolor="0.93")
    axes.patch.set(hatch="//", edgecolor="0.8")
    axes.text((n - 1) / 2, (n - 1) / 2, NONE, ha="center", va="center", color=GREY)


def _write_cells(axes: "Axes", shares: Floats, most: float) -> None:
    """Write the share, in whole percent, into every cell that has at least one."""
    for row, column in np.argwhere(np.nan_to_num(shares) >= 100 * _SMALLEST_TOLD).tolist():
        share = shares[row, column]
        color = "black" if share > _TEXT_FROM * most else "white"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=color)


# --- motifs --------------------------------------------------------------------------------------


def motif_figure(results: ExplanationResults) -> "Figure":
    """Give the graphs that come up most often in either class, the most frequent one first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.75 * N_MOTIFS + 0.6, 4.9), layout="constrained")
    panels = figure.subplots(len(CLASSES), N_MOTIFS, squeeze=False)
    for row, target_class in zip(panels, CLASSES, strict=True):
        found = results.explanations[target_class]
        ranked = most_frequent(found, N_MOTIFS)
        for axes in row:
            axes.set_axis_off()
        if not found:
            row[0].text(0.0, 0.5, NONE, transform=row[0].transAxes, va="center", color=GREY)
        for axes, (explanation, times) in zip(row, ranked, strict=False):
            _draw_graph(axes, explanation, results.labels)
            alone = f"once, p {explanation.probability:.2f}"
            often = f"{times} of {len(found)}" if times > 1 else alone
            axes.set_title(often, fontsize=8, color=GREY)
        row[0].text(
            -0.08, 0.5, results.word(target_class), transform=row[0].transAxes, fontsize=11,
            rotation=90, ha="right", va="center", color=CLASS_COLORS[target_class], weight="bold",
        )  # fmt: skip
    figure.suptitle(
        f"{results.target}: most frequent graphs of {results.labels}s (by the labels of their"
        " edges)",
        fontsize=11, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _draw_graph(axes: "Axes", explanation: Explanation, labels: LabelKind) -> None:
    from matplotlib import colormaps

    places = graph_layout(len(explanation.nodes), explanation.edges)
    for a, b in explanation.edges:
        axes.plot(*places[[a, b]].T, color=GREY, lw=1.2, zorder=1)
    palette = colormaps["turbo"]
    colors = [palette(0.08 + 0.84 * (n - 1) / (N_LABELS[labels] - 1)) for n in explanation.nodes]
    x, y = places.T
    axes.scatter(x, y, s=260, c=colors, edgecolor="white", lw=1.0, zorder=2)
    ring: dict[str, Any] = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "none"}
    ring["alpha"] = 0.75
    for label, left, bottom in zip(explanation.nodes, x, y, strict=True):
        text: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 3, "fontsize": 8}
        axes.text(left, bottom, str(label), bbox=ring, **text)
    axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
    axes.set_aspect("equal")


def graph_layout(n_nodes: int, edges: Sequence[tuple[int, int]]) -> Floats:
    """Give (n_nodes, 2) places of a graph's nodes, inside the unit circle.

    Kamada & Kawai, Inf. Process. Lett. 1989, 31, 7, as networkx computes it: distances on the plane
    follow those along edges.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n_nodes))
    graph.add_edges_from(edges)
    found = nx.kamada_kawai_layout(graph)
    places = np.array([found[node] for node in range(n_nodes)], dtype=np.float64)
    places -= places.mean(axis=0)
    return np.asarray(places / max(float(np.hypot(*places.T).max()), 1e-9))
