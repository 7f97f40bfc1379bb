r"""CGCNN: crystal graph convolutional neural networks.

Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301, and the authors' code `txie-93/cgcnn`, which
is followed where the two differ. Atoms are embedded, updated by `n_conv` convolutions over their
nearest neighbors, and averaged over the crystal:

.. math:: y = \mathrm{head}\Bigl(\frac{1}{N} \sum_i v_i^{(R)}\Bigr)
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raymat.config import Config
from raymat.features.elements import element_features
from raymat.features.graph import (
    CrystalGraph,
    add_receivers,
    gather_senders,
    mean_over_crystals,
    sum_over_neighbors,
)
from raymat.features.graph_view import GraphView, Pad
from raymat.features.radial import GaussianBasis
from raymat.models._layers import Head, as_output, n_outputs
from raymat.models._spec import CrystalModel, ModelSpec, Output

LEARNED_DIM = 64  # length of a learned element vector: Xie's thesis, ch. 3
N_ELEMENTS = 101  # Z = 0 (unused) to 100
ElementKind = Literal["properties_2", "properties_3", "properties_9", "learned"]


class CGCNNConfig(Config):
    """Sizes and choices of CGCNN; defaults are those of the authors' code."""

    convolution: Literal["eq4", "eq5"] = "eq5"
    atom_dim: int = Field(64, ge=1, le=1024)
    n_conv: int = Field(3, ge=1, le=12)
    hidden_dim: int = Field(128, ge=1, le=2048)
    n_hidden: int = Field(1, ge=1, le=12)
    readout: Literal["mean", "linear", "layers"] = "mean"
    element_features: ElementKind = "properties_9"
    cutoff: float = Field(8.0, gt=0.5, le=15.0)  # Å
    max_neighbors: int = Field(12, ge=1, le=64)
    pad: Pad = "mask"
    gaussian_step: float = Field(0.2, ge=0.02, le=2.0)  # Å
    dropout: float | None = Field(None, ge=0.0, le=0.9)  # None: 0.5 for classes, else 0

    @model_validator(mode="after")
    def _linear_readout_has_no_head(self) -> "CGCNNConfig":
        if self.readout == "linear" and self.dropout:
            raise ValueError("readout 'linear' has no hidden layer, so dropout would do nothing")
        return self


class ElementVectors(nn.Module):
    """What a model knows of an element: fixed one-hot property blocks, or a learned vector."""

    table: Tensor  # (101, dim), row Z

    def __init__(self, kind: ElementKind) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(N_ELEMENTS, LEARNED_DIM))
        else:
            fixed = torch.tensor(element_features(kind))
            self.register_buffer("table", fixed, persistent=False)
        self.dim = self.table.shape[1]

    def forward(self, atomic_numbers: Tensor) -> Tensor:
        """Give (n_atoms, dim) for (n_atoms,) atomic numbers."""
        return F.embedding(atomic_numbers, self.table)


class GatedConv(nn.Module):
    r"""CGCNN's gated convolution.

    .. math:: v_i' = g\Bigl(v_i + \sum_{j} \sigma(z_{ij} W_f + b_f) \odot g(z_{ij} W_s + b_s)\Bigr),
              \quad z_{ij} = v_i \oplus v_j \oplus u_{ij}

    Eq. 5 of the paper. As in the authors' code, and unlike the equation, batch norm acts on the
    products and on the sum over j, and the softplus g on the result. The first two parts of
    :math:`z W` depend on one atom each, so they are computed per atom and not per edge. The two
    halves of W are multiplied apart, which spares joining their gradients.
    """

    def __init__(self, atom_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.fc_full = nn.Linear(2 * atom_dim + edge_dim, 2 * atom_dim)
        self.bn1 = nn.BatchNorm1d(2 * atom_dim)
        self.bn2 = nn.BatchNorm1d(atom_dim)
        self.atom_dim = atom_dim

    def forward(
        self,
        atoms: Tensor,  # (n_atoms, atom_dim)
        edges: Tensor,  # (n_edges, edge_dim)
        graph: CrystalGraph,
    ) -> Tensor:  # (n_atoms, atom_dim)
        """Update every atom from its neighbors."""
        n = self.atom_dim
        gate = self._products(atoms, edges, graph, half=slice(n))
        core = self._products(atoms, edges, graph, half=slice(n, 2 * n))
        messages = torch.sigmoid(gate) * F.softplus(core)
        return F.softplus(atoms + self.bn2(sum_over_neighbors(messages, graph)))

    def _products(
        self, atoms: Tensor, edges: Tensor, graph: CrystalGraph, *, half: slice
    ) -> Tensor:  # (n_edges, atom_dim)
        """Give z W + b after batch norm, for half of its columns."""
        weight, bias, n = self.fc_full.weight[half], self.fc_full.bias[half], self.atom_dim
        from_center = F.linear(atoms, weight[:, :n], bias)
        from_neighbor = F.linear(atoms, weight[:, n : 2 * n])
        products = gather_senders(from_neighbor, graph).addmm_(edges, weight[:, 2 * n :].t())
        return _batch_norm(self.bn1, add_receivers(products, from_center, graph), half)


class SumConv(nn.Module):
    r"""CGCNN's first convolution.

    .. math:: v_i' = g\Bigl(\bigl(\sum_{j} v_j \oplus u_{ij}\bigr) W_c + v_i W_s + b\Bigr)

    Eq. 4 of the paper, which does not name g: softplus here, as everywhere else in CGCNN.
    """

    def __init__(self, atom_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.neighbors = nn.Linear(atom_dim + edge_dim, atom_dim, bias=False)
        self.center = nn.Linear(atom_dim, atom_dim)

    def forward(
        self,
        atoms: Tensor,  # (n_atoms, atom_dim)
        edges: Tensor,  # (n_edges, edge_dim)
        graph: CrystalGraph,
    ) -> Tensor:  # (n_atoms, atom_dim)
        """Update every atom from its neighbors."""
        shells = torch.cat(
            [
                sum_over_neighbors(gather_senders(atoms, graph), graph),
                sum_over_neighbors(edges, graph),
            ],
            dim=1,
        )
        return F.softplus(self.neighbors(shells) + self.center(atoms))


class LayerReadout(nn.Module):
    r"""Pooling over all layers, which gave Eq. 4 its best accuracy.

    .. math:: \frac{1}{N} \sum_{t=0}^{R} \sum_i \mathrm{softmax}(v_i^{(t)} W_t + b_t)

    Eqs. S12-S13 of the paper's supplement; the softmax runs over the components.
    """

    def __init__(self, atom_dim: int, n_conv: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(atom_dim, atom_dim) for _ in range(n_conv + 1))

    def forward(self, layers: list[Tensor], graph: CrystalGraph) -> Tensor:
        """Pool n_conv + 1 layers of (n_atoms, atom_dim) to (n_crystals, atom_dim)."""
        mapped = [torch.softmax(m(v), dim=1) for m, v in zip(self.maps, layers, strict=True)]
        return mean_over_crystals(torch.stack(mapped).sum(0), graph)


class CGCNN(CrystalModel[CrystalGraph]):
    """CGCNN with either convolution and any of its readouts.

    `readout` "mean" is the authors' code: mean over atoms, then `n_hidden` hidden layers.
    "layers" pools every layer (`LayerReadout`) before the same hidden layers. "linear" maps each
    atom to its own contribution, whose mean is the crystal's value (see `site_contributions`).
    """

    def __init__(self, config: CGCNNConfig, output: Output) -> None:
        super().__init__()
        self.config, self.predicts = config, output
        self.radial = GaussianBasis(config.cutoff, config.gaussian_step)
        self.elements = ElementVectors(config.element_features)
        self.embedding = nn.Linear(self.elements.dim, config.atom_dim)
        conv = GatedConv if config.convolution == "eq5" else SumConv
        self.convs = nn.ModuleList(
            conv(config.atom_dim, self.radial.n_centers) for _ in range(config.n_conv)
        )
        if config.readout == "layers":
            self.pool = LayerReadout(config.atom_dim, config.n_conv)
        if config.readout == "linear":
            self.site = nn.Linear(config.atom_dim, n_outputs(output))
        else:
            self.head = Head(
                config.atom_dim,
                config.hidden_dim,
                config.n_hidden,
                output=output,
                dropout=config.dropout,
            )

    def latent(self, graph: CrystalGraph) -> Tensor:
        """Give the pooled vectors (n_crystals, atom_dim)."""
        layers = self.atom_vectors(graph)
        if self.config.readout == "layers":
            pooled: Tensor = self.pool(layers, graph)
            return pooled
        mean = mean_over_crystals(layers[-1], graph)
        return mean if self.config.readout == "linear" else F.softplus(mean)

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from pooled vectors; see `CrystalModel.forward`."""
        if self.config.readout == "linear":  # of the mean atom, which is the mean over the atoms
            return as_output(self.site(crystals), self.predicts)
        prediction: Tensor = self.head(crystals)
        return prediction

    def atom_vectors(self, graph: CrystalGraph) -> list[Tensor]:
        """Give the atom vectors (n_atoms, atom_dim) before and after each convolution."""
        edges = self.radial(graph.distances)
        layers = [self.embedding(self.elements(graph.atomic_numbers))]
        for conv in self.convs:
            layers.append(conv(layers[-1], edges, graph))
        return layers

    def site_contributions(self, graph: CrystalGraph) -> Tensor:
        """Give (n_atoms,) contributions whose mean over a crystal is its (scaled) value.

        Raises:
            ValueError: the readout is not "linear", or the model is a classifier.
        """
        if self.config.readout != "linear" or self.predicts == "classification":
            raise ValueError("site contributions need model.readout 'linear' and a number to fit")
        contributions: Tensor = self.site(self.atom_vectors(graph)[-1])
        return contributions[:, 0]


def _batch_norm(norm: nn.BatchNorm1d, values: Tensor, columns: slice) -> Tensor:
    """Apply some columns of a batch norm: the same numbers as all at once, then cut."""
    return F.batch_norm(  # eps 1e-5 and momentum 0.1 are the defaults of module and function
        values,
        norm.get_buffer("running_mean")[columns],
        norm.get_buffer("running_var")[columns],
        norm.weight[columns],
        norm.bias[columns],
        training=norm.training,
    )


def _graph(config: CGCNNConfig) -> GraphView:
    return GraphView(config.cutoff, config.max_neighbors, config.pad)


SPEC = ModelSpec(config=CGCNNConfig, build=CGCNN, reads=_graph)
