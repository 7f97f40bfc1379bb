"""Which grown graphs are valid.

The rule of XGNN is a largest degree per label. Two more rules, off unless asked for, bring graphs
nearer to crystals: no node has more neighbors than atoms of its label usually have in their first
shell, and no two ions of one sign touch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raymat.explain.growing_graphs import GrowingGraphs


@dataclass(frozen=True)
class Rules:
    """What a valid graph keeps to.

    Attributes:
        max_degree: most edges of a node, per label.
        cation: whether a node of a label can be positive; None for no rule of charges.
        anion: whether it can be negative.
    """

    max_degree: tuple[int, ...]
    cation: tuple[bool, ...] | None = None
    anion: tuple[bool, ...] | None = None

    def allow(self, graphs: GrowingGraphs) -> Tensor:
        """Give (n_graphs,) whether each graph is valid."""
        limits = torch.tensor(self.max_degree, dtype=graphs.adjacency.dtype)
        limit = torch.where(graphs.has_node, limits[graphs.labels.clamp(min=0)], torch.inf)
        valid = (graphs.degrees <= limit).all(1)
        if self.cation is None or self.anion is None:
            return valid
        return valid & has_alternating_charges(
            graphs, cation=torch.tensor(self.cation), anion=torch.tensor(self.anion)
        )


def has_alternating_charges(graphs: GrowingGraphs, *, cation: Tensor, anion: Tensor) -> Tensor:
    """Say for which connected graphs every edge can join a cation and an anion.

    In a connected graph the sign of node 0 decides all others, so there are two ways to try, and
    none where a cycle has an odd number of edges. A graph of one node has no edge.

    Args:
        graphs: connected graphs.
        cation: (n_labels,) which labels can be positive.
        anion: (n_labels,) which can be negative.

    Returns:
        (n_graphs,) bool.
    """
    like = torch.zeros_like(graphs.labels, dtype=graphs.adjacency.dtype)
    like[:, 0] = 1.0  # nodes an even number of steps from node 0
    unlike = torch.zeros_like(like)  # and an odd number
    for _ in range(graphs.max_nodes):
        unlike = ((graphs.adjacency @ like[:, :, None])[..., 0] + unlike > 0).to(like.dtype)
        like = ((graphs.adjacency @ unlike[:, :, None])[..., 0] + like > 0).to(like.dtype)
    even, odd = like > 0, unlike > 0
    no_odd_cycle = ~(even & odd).any(1)
    labels = graphs.labels.clamp(min=0)
    plus, minus = cation[labels], anion[labels]
    first = ((plus | ~even) & (minus | ~odd)).all(1)
    second = ((minus | ~even) & (plus | ~odd)).all(1)
    return no_odd_cycle & (first | second | (graphs.n_nodes == 1))
