"""Crystals as simple graphs of groups or periods: what an explanation can be compared with.

A generated explanation knows of an atom only its group or period, has no distances and at most a
few neighbors. A crystal is brought to the same form: its nearest neighbors as an undirected graph
without loops and without double edges. Which of several like atoms at one distance are among the
nearest is decided by index, and an atom's own images drop out, so the form depends on how a crystal
is written.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.features.elements import group, period
from raymat.features.graph import CrystalGraph
from raymat.features.graph_view import GraphView
from raymat.features.neighbor_table import NeighborConfig, NeighborTable

LabelKind = Literal["group", "period"]
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)
N_LABELS: dict[LabelKind, int] = {"group": 18, "period": 7}
N_ELEMENTS = 118
F_BLOCK_GROUP = 3  # what keeps the groups at 18


def label_of(z: int, kind: LabelKind) -> int:
    """Give an element's group (3 for the f elements) or period, minus 1."""
    number = (group(z) or F_BLOCK_GROUP) if kind == "group" else period(z)
    return number - 1


def element_labels(kind: LabelKind) -> NDArray[np.int64]:
    """Give (119,) the label of every element by its atomic number; -1 for number 0."""
    labels = [label_of(z, kind) for z in range(1, N_ELEMENTS + 1)]
    return np.array([-1, *labels], dtype=np.int64)


@dataclass(frozen=True)
class CoarseView:
    """The nearest neighbors of every atom as a simple graph.

    Attributes:
        max_neighbors: places per atom before loops and double edges are dropped; after making
            the graph undirected an atom may have more.
        cutoff: Å.
    """

    max_neighbors: int = 4
    cutoff: float = 8.0

    @property
    def table_config(self) -> NeighborConfig:
        """The smallest table that serves it."""
        return NeighborConfig(cutoff=self.cutoff, max_neighbors=self.max_neighbors)

    def batch(self, table: NeighborTable, rows: NDArray[np.int64]) -> CrystalGraph:
        """Join the crystals `rows` of a table into one simple graph.

        Raises:
            ValueError: the table does not reach as far as the view.
        """
        return simplify(GraphView(self.cutoff, self.max_neighbors).batch(table, rows))

    def unknown_elements(self, crystals: CrystalSet) -> dict[int, tuple[int, ...]]:
        """Give no row: every element has a group and a period."""
        del crystals
        return {}

    def unusable(self, crystals: CrystalSet, table: NeighborTable) -> dict[int, str]:
        """Give no row: an atom without neighbors stands alone."""
        del crystals, table
        return {}

    def doubtful(self, crystals: CrystalSet, table: NeighborTable) -> dict[int, str]:
        """Give no row; see `unusable`."""
        del crystals, table
        return {}


def simplify(graph: CrystalGraph) -> CrystalGraph:
    """Drop edges of an atom to its own images, join double edges, and give every edge both ways.

    Distances are dropped, too: an edge that stands for several has none.
    """
    senders, receivers = graph.edge_index.numpy()
    differ = senders != receivers
    senders, receivers = senders[differ], receivers[differ]
    n = graph.n_atoms
    both = np.unique(np.concatenate([receivers * n + senders, senders * n + receivers]))
    edge_index = torch.from_numpy(np.stack([both % max(n, 1), both // max(n, 1)]))
    return replace(graph, edge_index=edge_index, distances=torch.zeros(len(both)), degree=None)
