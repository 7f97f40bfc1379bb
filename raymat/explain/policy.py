r"""XGNN's policy: which edge to add next. Many policies side by side, each with its own weights.

Yuan, Tang, Hu & Ji, KDD 2020, and the authors' code for all sizes. One-hot labels pass a linear
layer of 8 and three graph convolutions

.. math:: X' = \mathrm{relu}(D^{-1/2} A D^{-1/2} X W)

of 16, 24 and 32 channels, where A is the adjacency with ones on its diagonal. A head of 16 scores
each node as the start of the edge; a head of 24, which sees the embedding of the start beside its
own, scores every node and one candidate per label as its end. Candidates are connected to nothing
but themselves, so their embeddings do not depend on the graph and are computed once.

Unlike the authors' code, whose cross-entropy ran over all scores though the choice was masked,
log-probabilities are those of the masked softmax from which the choice is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymat.explain.growing_graphs import GrowingGraphs

INPUT_DIM, CHANNELS, START_DIM, END_DIM = 8, (16, 24, 32), 16, 24


@dataclass(frozen=True)
class Choice:
    """Edges that policies chose; all (n_policies, n_graphs).

    Attributes:
        start, end: as `GrowingGraphs.grow` takes them.
        log_probability: of start and end together.
    """

    start: Tensor
    end: Tensor
    log_probability: Tensor


class Policies(nn.Module):
    """Policies whose weights are stacked along the first axis.

    Args:
        rngs: one per policy, from which its first weights are drawn (Glorot; biases 0), so that a
            policy does not depend on those beside it.
        n_labels: labels a node can have.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], n_labels: int) -> None:
        super().__init__()
        self.n_labels = n_labels
        self.weights = nn.ParameterDict()
        widths = [INPUT_DIM, *CHANNELS]
        out = widths[-1]
        shapes = {
            "input": (n_labels, INPUT_DIM),
            **{f"conv{i}": (widths[i], widths[i + 1]) for i in range(len(CHANNELS))},
            "start": (out, START_DIM),
            "start_out": (START_DIM, 1),
            "end": (2 * out, END_DIM),
            "end_out": (END_DIM, 1),
        }
        for name, (n_in, n_out) in shapes.items():
            bound = (6.0 / (n_in + n_out)) ** 0.5
            drawn = [rng.uniform(-bound, bound, (n_in, n_out)) for rng in rngs]
            self.weights[name] = nn.Parameter(torch.tensor(np.stack(drawn), dtype=torch.float32))
            if not name.startswith("conv"):
                self.weights[f"{name}_bias"] = nn.Parameter(torch.zeros(len(rngs), 1, n_out))

    def keep(self, rows: Tensor) -> None:
        """Leave only the policies `rows`."""
        for name, weight in self.of(rows).items():
            self.weights[name] = nn.Parameter(weight.detach())

    def of(self, rows: Tensor) -> dict[str, Tensor]:
        """Give the weights of the policies `rows`."""
        return {name: weight[rows] for name, weight in self.weights.items()}


def embed_candidates(weights: dict[str, Tensor]) -> Tensor:
    """Give (n_policies, n_labels, 32) the embeddings of single nodes, one of each label."""
    x = weights["input"] + weights["input_bias"]  # one-hot rows times W are its rows
    for i in range(len(CHANNELS)):
        x = torch.relu(x @ weights[f"conv{i}"])
    return x


def embed_nodes(weights: dict[str, Tensor], graphs: GrowingGraphs) -> Tensor:
    """Give (n_policies, n_graphs, max_nodes, 32) embeddings of nodes; anything where none is.

    `graphs` holds equally many graphs for each policy, those of the first policy first.
    """
    n_policies, n_labels, _ = weights["input"].shape
    shape = (n_policies, len(graphs) // n_policies * graphs.max_nodes)
    one_hot = F.one_hot(graphs.labels.clamp(min=0), n_labels).to(torch.float32)
    one_hot = one_hot * graphs.has_node[..., None]
    mixing = normalised_adjacency(graphs)
    x = one_hot.view(*shape, n_labels) @ weights["input"] + weights["input_bias"]
    for i in range(len(CHANNELS)):
        products = (x @ weights[f"conv{i}"]).view(len(graphs), graphs.max_nodes, -1)
        x = torch.relu(mixing @ products).view(*shape, -1)
    return x.view(n_policies, -1, graphs.max_nodes, x.shape[-1])


def normalised_adjacency(graphs: GrowingGraphs) -> Tensor:
    """Give (n_graphs, max_nodes, max_nodes) D^-1/2 (A + 1) D^-1/2."""
    scale = (graphs.degrees + 1.0).rsqrt()
    with_loops = graphs.adjacency + torch.eye(graphs.max_nodes)
    return scale[:, :, None] * with_loops * scale[:, None, :]


def choose(
    weights: dict[str, Tensor], candidates: Tensor, graphs: GrowingGraphs, draws: Tensor
) -> Choice:
    """Let every policy choose an edge for each of its graphs.

    Args:
        weights: of the policies.
        candidates: as `embed_candidates` gives them.
        graphs: equally many for each policy, those of the first policy first.
        draws: (n_policies, n_graphs, 2) uniform random numbers: for the start and for the end.
    """
    nodes = embed_nodes(weights, graphs)
    has_node = graphs.has_node.view(nodes.shape[:3])
    hidden = F.relu6(_times(nodes, weights["start"]) + weights["start_bias"][:, None])
    scores = _scores(hidden, weights["start_out"], weights["start_out_bias"])
    start, start_log = draw(scores.masked_fill(~has_node, -torch.inf), draws[..., 0])
    at_start = torch.gather(nodes, 2, start[..., None, None].expand(-1, -1, 1, nodes.shape[-1]))
    own, beside = weights["end"].chunk(2, dim=1)
    from_start = _times(at_start, beside) + weights["end_bias"][:, None]
    ends = torch.cat(
        [
            _scores(F.relu6(part + from_start), weights["end_out"], weights["end_out_bias"])
            for part in (_times(nodes, own), (candidates @ own)[:, None])
        ],
        dim=2,
    )
    is_possible = has_node.scatter(2, start[..., None], False)
    is_possible = F.pad(is_possible, (0, candidates.shape[1]), value=True)
    end, end_log = draw(ends.masked_fill(~is_possible, -torch.inf), draws[..., 1])
    return Choice(start, end, start_log + end_log)


def draw(scores: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from the softmax of scores by inverting its cumulative sum.

    Args:
        scores: (..., n); -inf for what must not be drawn.
        draws: (...,) uniform random numbers in [0, 1).

    Returns:
        (...,) the index drawn, and the logarithm of its probability.
    """
    log_probabilities = torch.log_softmax(scores, dim=-1)
    cumulative = log_probabilities.detach().exp().cumsum(-1)
    # Of the last sum, which rounding may leave beside 1: no draw lies behind it.
    reached = draws[..., None] * cumulative[..., -1:] >= cumulative
    index = reached.sum(-1).clamp(max=scores.shape[-1] - 1)
    return index, torch.gather(log_probabilities, -1, index[..., None])[..., 0]


def _times(nodes: Tensor, weight: Tensor) -> Tensor:
    """(n_policies, n_graphs, n, f) times each policy's (f, g)."""
    shape = nodes.shape
    return (nodes.reshape(shape[0], -1, shape[3]) @ weight).view(*shape[:3], -1)


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _times(hidden, weight)[..., 0] + bias
