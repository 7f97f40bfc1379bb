r"""The classifier that an explanation is grown for: CGCNN on groups or periods.

XGNN (Yuan, Tang, Hu & Ji, KDD 2020) asks a classifier about graphs that a policy grows. CGCNN reads
92 numbers of each element and distances; a grown graph has neither. So a second CGCNN is trained to
tell the same two classes from what a grown graph has: one-hot labels (18 groups or 7 periods), one
constant edge vector, and the simple graph of the nearest neighbors (`features.coarse_graphs`).
Explanations are as good as it agrees with the full model.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raymat.config import Config
from raymat.features.coarse_graphs import N_LABELS, CoarseView, LabelKind, element_labels
from raymat.features.graph import CrystalGraph, mean_over_crystals
from raymat.models._layers import Head
from raymat.models._spec import CrystalModel, ModelSpec, Output
from raymat.models.cgcnn import GatedConv

EDGE_DIM = 1  # one constant: all edges are alike


class CoarseConfig(Config):
    """Sizes of the coarse classifier; defaults are those of CGCNN."""

    labels: LabelKind
    max_neighbors: int = Field(4, ge=1, le=12)
    cutoff: float = Field(8.0, gt=0.5, le=15.0)  # Å
    atom_dim: int = Field(64, ge=1, le=1024)
    n_conv: int = Field(3, ge=1, le=12)
    hidden_dim: int = Field(128, ge=1, le=2048)
    n_hidden: int = Field(1, ge=1, le=12)


class CoarseCGCNN(CrystalModel[CrystalGraph]):
    """CGCNN (Eq. 5, mean over atoms) of labels instead of elements, without distances.

    Batch norm keeps its running statistics when graphs are scored, so that the score of a graph
    does not depend on those beside it.
    """

    label_of: Tensor  # (119,) by atomic number

    def __init__(self, config: CoarseConfig, output: Output) -> None:
        super().__init__()
        self.config = config
        self.n_labels = N_LABELS[config.labels]
        labels = torch.from_numpy(element_labels(config.labels))
        self.register_buffer("label_of", labels, persistent=False)
        self.embedding = nn.Linear(self.n_labels, config.atom_dim)
        self.convs = nn.ModuleList(
            GatedConv(config.atom_dim, EDGE_DIM) for _ in range(config.n_conv)
        )
        self.head = Head(
            config.atom_dim, config.hidden_dim, config.n_hidden, output=output, dropout=None
        )

    def latent(self, graph: CrystalGraph) -> Tensor:
        """Give the pooled vectors (n_crystals, atom_dim) of crystals."""
        return self.pool_labels(self.label_of[graph.atomic_numbers], graph)

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from pooled vectors; see `CrystalModel.forward`."""
        prediction: Tensor = self.head(crystals)
        return prediction

    def pool_labels(self, labels: Tensor, graph: CrystalGraph) -> Tensor:
        """Give the pooled vectors (n_graphs, atom_dim) of graphs with (n_nodes,) labels."""
        weight = self.embedding.weight
        atoms = self.embedding(F.one_hot(labels, self.n_labels).to(weight.dtype))
        edges = weight.new_ones(graph.edge_index.shape[1], EDGE_DIM)
        for conv in self.convs:
            atoms = conv(atoms, edges, graph)
        return F.softplus(mean_over_crystals(atoms, graph))


def _view(config: CoarseConfig) -> CoarseView:
    return CoarseView(config.max_neighbors, config.cutoff)


# Not in raymat/models: without distances it cannot be what a model of crystals promises to be, such
# as the same for a supercell.
COARSE = ModelSpec(config=CoarseConfig, build=CoarseCGCNN, reads=_view)
