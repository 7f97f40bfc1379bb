"""Graphs while they are grown: many at a time, as tensors of one size.

XGNN's state (Yuan et al., KDD 2020): a simple undirected graph with labelled nodes. Every step adds
one edge, to a node that is there or to a new one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NO_NODE = -1


@dataclass(frozen=True)
class GrowingGraphs:
    """Graphs side by side; nodes are numbered in the order in which they were added.

    Attributes:
        labels: (n_graphs, max_nodes) int64 from 0; `NO_NODE` where there is none.
        n_nodes: (n_graphs,) int64.
        adjacency: (n_graphs, max_nodes, max_nodes) float, 1 for an edge; symmetric, zero diagonal.
    """

    labels: Tensor
    n_nodes: Tensor
    adjacency: Tensor

    @staticmethod
    def start(labels: Tensor, max_nodes: int) -> "GrowingGraphs":
        """Give graphs of one node each, with (n_graphs,) labels."""
        n = len(labels)
        nodes = torch.full((n, max_nodes), NO_NODE)
        nodes[:, 0] = labels
        adjacency = torch.zeros(n, max_nodes, max_nodes)
        return GrowingGraphs(nodes, torch.ones(n, dtype=torch.int64), adjacency)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def max_nodes(self) -> int:
        """Most nodes that a graph may have."""
        return self.labels.shape[1]

    @property
    def has_node(self) -> Tensor:
        """(n_graphs, max_nodes) bool."""
        return self.labels != NO_NODE

    @property
    def degrees(self) -> Tensor:
        """(n_graphs, max_nodes) edges of each node."""
        return self.adjacency.sum(2)

    def take(self, rows: Tensor) -> "GrowingGraphs":
        """Give the graphs `rows`, in this order."""
        return GrowingGraphs(self.labels[rows], self.n_nodes[rows], self.adjacency[rows])

    def repeat(self, times: int) -> "GrowingGraphs":
        """Give every graph `times` times, copies side by side."""
        return GrowingGraphs(
            self.labels.repeat_interleave(times, 0),
            self.n_nodes.repeat_interleave(times, 0),
            self.adjacency.repeat_interleave(times, 0),
        )

    def where(self, condition: Tensor, other: "GrowingGraphs") -> "GrowingGraphs":
        """Give these graphs where (n_graphs,) `condition` holds, else those of `other`."""
        return GrowingGraphs(
            torch.where(condition[:, None], self.labels, other.labels),
            torch.where(condition, self.n_nodes, other.n_nodes),
            torch.where(condition[:, None, None], self.adjacency, other.adjacency),
        )

    def put(self, rows: Tensor, others: "GrowingGraphs") -> "GrowingGraphs":
        """Give these graphs with `others` in the places `rows`."""
        return GrowingGraphs(
            self.labels.index_copy(0, rows, others.labels),
            self.n_nodes.index_copy(0, rows, others.n_nodes),
            self.adjacency.index_copy(0, rows, others.adjacency),
        )

    def grow(self, start: Tensor, end: Tensor) -> "tuple[GrowingGraphs, Tensor]":
        """Add one edge to each graph.

        Args:
            start: (n_graphs,) the node that the edge begins at.
            end: (n_graphs,) the node that it ends at, or ``max_nodes + label`` for a new node.

        Returns:
            The graphs, unchanged where the step fails, and (n_graphs,) where it succeeds: it fails
            if the edge is there or the graph has `max_nodes` nodes.
        """
        rows, is_new = torch.arange(len(self)), end >= self.max_nodes
        place = torch.where(is_new, self.n_nodes, end)  # of the end node
        inside = place < self.max_nodes
        place = place.clamp(max=self.max_nodes - 1)
        succeeds = inside & (is_new | (self.adjacency[rows, start, place] == 0))
        labels, adjacency = self.labels.clone(), self.adjacency.clone()
        added = succeeds & is_new
        labels[rows[added], place[added]] = end[added] - self.max_nodes
        ok, s, e = rows[succeeds], start[succeeds], place[succeeds]
        adjacency[ok, s, e] = 1.0
        adjacency[ok, e, s] = 1.0
        return GrowingGraphs(labels, self.n_nodes + added, adjacency), succeeds


def most_edges(max_nodes: int, max_degree: int) -> int:
    """Give the most edges of a simple graph whose nodes have at most `max_degree` each."""
    return min(max_nodes * (max_nodes - 1), max_nodes * max_degree) // 2
