"""Score grown graphs with the coarse classifier: many in one batch, none twice."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymat.explain.coarse_classifier import CoarseCGCNN
from raymat.explain.growing_graphs import NO_NODE, GrowingGraphs
from raymat.features.graph import CrystalGraph

DECIMALS = 6  # of a probability; more digits would change with the batch that a graph is in
MOST_REMEMBERED = 2_000_000
_BITS_PER_LABEL = 5  # 18 groups and none; 10 nodes fit into 64 bits


class CoarseScorer:
    """Gives the probability of a class; remembers graphs, which policies propose again and again.

    Args:
        classifier: in evaluation mode.
        target_class: 0 or 1.
    """

    def __init__(self, classifier: CoarseCGCNN, target_class: int) -> None:
        self.classifier, self.target_class = classifier, target_class
        self._known: dict[tuple[int, int], float] = {}
        self.n_asked = 0

    @property
    def n_scored(self) -> int:
        """Graphs that the classifier has seen since memory was last emptied."""
        return len(self._known)

    def __call__(self, graphs: GrowingGraphs) -> Tensor:
        """Give (n_graphs,) probabilities in float64, rounded to `DECIMALS`."""
        keys = graph_keys(graphs)
        self.n_asked += len(keys)
        if len(self._known) + len(keys) > MOST_REMEMBERED:
            self._known.clear()
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            scored = score_graphs(self.classifier, graphs.take(torch.tensor(list(new.values()))))
            self._known.update(zip(new, scored[:, self.target_class].tolist(), strict=True))
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float64)


@torch.inference_mode()
def score_graphs(classifier: CoarseCGCNN, graphs: GrowingGraphs) -> NDArray[np.float64]:
    """Give (n_graphs, 2) probabilities of class 0 and 1, rounded to `DECIMALS`."""
    graph, labels = join_graphs(graphs)
    out = classifier.from_latent(classifier.pool_labels(labels, graph))
    return np.round(out.double().exp().numpy(), DECIMALS)


def join_graphs(graphs: GrowingGraphs) -> tuple[CrystalGraph, Tensor]:
    """Join grown graphs to one batch; give it and the (n_nodes,) labels of its nodes."""
    has_node = graphs.has_node
    number = has_node.flatten().cumsum(0).view(has_node.shape) - 1  # of each node in the batch
    where, receiver, sender = torch.nonzero(graphs.adjacency, as_tuple=True)
    index = torch.arange(len(graphs))[:, None].expand_as(has_node)[has_node]
    labels = graphs.labels[has_node]
    batch = CrystalGraph(
        atomic_numbers=torch.zeros_like(labels),  # unknown
        edge_index=torch.stack([number[where, sender], number[where, receiver]]),
        distances=torch.zeros(len(where)),
        crystal_index=index,
        n_sites=graphs.n_nodes.to(torch.float32),
        degree=None,
    )
    return batch, labels


def graph_keys(graphs: GrowingGraphs) -> list[tuple[int, int]]:
    """Give a key of each graph: equal where labels and edges are, node by node."""
    n = graphs.max_nodes
    nodes = ((graphs.labels - NO_NODE) << _BITS_PER_LABEL * torch.arange(n)).sum(1)
    upper = torch.triu_indices(n, n, offset=1)
    joined = graphs.adjacency[:, upper[0], upper[1]].to(torch.int64)
    edges = (joined << torch.arange(upper.shape[1])).sum(1)
    return list(zip(nodes.tolist(), edges.tolist(), strict=True))
