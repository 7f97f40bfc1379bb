"""What many explanations have in common: labels and edges, beside how often crystals have them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from raymat.explain.explanations import Explanation, Task
from raymat.features.coarse_graphs import N_LABELS, CoarseView, LabelKind, element_labels
from raymat.features.neighbor_table import NeighborTable

Floats = NDArray[np.float64]
CRYSTALS_PER_BATCH = 2048


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often labels and edges occur.

    Attributes:
        nodes: (n_labels,) nodes of each label.
        edges: (n_labels, n_labels) edges between two labels, each counted once, in the upper
            triangle.
    """

    nodes: NDArray[np.int64]
    edges: NDArray[np.int64]

    @property
    def node_shares(self) -> Floats:
        """(n_labels,) shares of all nodes; zeros without any."""
        return self.nodes / max(int(self.nodes.sum()), 1)

    @property
    def edge_shares(self) -> Floats:
        """(n_labels, n_labels) shares of all edges, in the upper triangle."""
        return self.edges / max(int(self.edges.sum()), 1)

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(self.nodes + other.nodes, self.edges + other.edges)


def count_explanations(explanations: Iterable[Explanation], labels: LabelKind) -> LabelCounts:
    """Count labels and edges over all explanations."""
    n = N_LABELS[labels]
    nodes, edges = np.zeros(n, dtype=np.int64), np.zeros((n, n), dtype=np.int64)
    for explanation in explanations:
        for label in explanation.nodes:
            nodes[label - 1] += 1
        for a, b in explanation.edges:
            low, high = sorted((explanation.nodes[a], explanation.nodes[b]))
            edges[low - 1, high - 1] += 1
    return LabelCounts(nodes, edges)


def count_crystals(
    table: NeighborTable, rows: NDArray[np.int64], labels: LabelKind, view: CoarseView
) -> LabelCounts:
    """Count labels and edges over crystals, as the simple graphs that the classifier reads.

    They are what counting alone would say of a class.
    """
    n, own = N_LABELS[labels], element_labels(labels)
    nodes, edges = np.zeros(n, dtype=np.int64), np.zeros((n, n), dtype=np.int64)
    for start in range(0, len(rows), CRYSTALS_PER_BATCH):
        graph = view.batch(table, rows[start : start + CRYSTALS_PER_BATCH])
        found = own[graph.atomic_numbers.numpy()]
        nodes += np.bincount(found, minlength=n)
        pairs = graph.edge_index.numpy()
        once = pairs[:, pairs[0] < pairs[1]]
        low, high = np.sort(found[once], axis=0)
        edges += np.bincount(low * n + high, minlength=n * n).reshape(n, n)
    return LabelCounts(nodes, edges)


def summary_rows(task: Task, counts: LabelCounts, training: LabelCounts) -> list[dict[str, Any]]:
    """Give the rows of `summary.csv` of one class: every label, and every pair that occurs.

    `share` is of all nodes or edges of the explanations, `training_share` of those of the training
    crystals of the class (a large crystal counts for more than a small one), and `ratio` the first
    over the second; nan where crystals have none. Graphs begin with a label drawn uniformly, so the
    ratio of a label that crystals rarely have is large in either class.
    """
    head = {"labels": task.labels, "target_class": task.target_class}
    shares, known = counts.node_shares, training.node_shares
    rows = [
        _row(head, "node", (a + 1, None), int(counts.nodes[a]), float(shares[a]), float(known[a]))
        for a in range(len(counts.nodes))
    ]
    shares, known = counts.edge_shares, training.edge_shares
    pairs = np.argwhere(np.triu(counts.edges + training.edges) > 0).tolist()
    rows += [
        _row(head, "edge", (a + 1, b + 1), int(counts.edges[a, b]), float(shares[a, b]),
             float(known[a, b]))
        for a, b in pairs
    ]  # fmt: skip
    return rows


def _row(
    head: dict[str, Any],
    kind: str,
    pair: tuple[int, int | None],
    count: int,
    share: float,
    known: float,
) -> dict[str, Any]:
    ratio = share / known if known > 0 else np.nan
    values = {"kind": kind, "a": pair[0], "b": pair[1], "count": count, "share": share}
    return {**head, **values, "training_share": known, "ratio": ratio}


def summary_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Join rows to `summary.csv`."""
    return pd.DataFrame(rows).astype({"b": "Int64"})


def motif_of(explanation: Explanation) -> str:
    """Give a name that is the same for graphs that differ in the numbering of their nodes only.

    Such as ``1-17 x2, 16-17``: the edges by their labels. Graphs with the same edges by label that
    are joined in another way share it.
    """
    pairs = Counter(
        tuple(sorted((explanation.nodes[a], explanation.nodes[b]))) for a, b in explanation.edges
    )
    return ", ".join(
        f"{a}-{b}" + (f" x{n}" if n > 1 else "") for (a, b), n in sorted(pairs.items())
    )


def most_frequent(explanations: Sequence[Explanation], most: int) -> list[tuple[Explanation, int]]:
    """Give the surest explanation of each of the most frequent motifs, and how often it is met.

    Of motifs that are met as often, those with the surer explanation come first.
    """
    surest: dict[str, Explanation] = {}
    counts: Counter[str] = Counter()
    for explanation in explanations:
        name = motif_of(explanation)
        counts[name] += 1
        if name not in surest or explanation.probability > surest[name].probability:
            surest[name] = explanation
    ranked = sorted(counts, key=lambda name: (-counts[name], -surest[name].probability, name))
    return [(surest[name], counts[name]) for name in ranked[:most]]


def rank_agreement(first: LabelCounts, second: LabelCounts) -> dict[str, float | None]:
    """Give Spearman's rank correlation between two summaries: of labels and of edges.

    Pairs that neither has are left out. None where a side has nothing, or all the same.
    """
    seen = np.triu(first.edges + second.edges) > 0
    return {
        "nodes": _spearman(first.node_shares, second.node_shares),
        "edges": _spearman(first.edge_shares[seen], second.edge_shares[seen]),
    }


def _spearman(first: Floats, second: Floats) -> float | None:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
