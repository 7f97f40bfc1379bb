r"""SchNet: continuous-filter convolutions over atoms.

Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko & Müller, NeurIPS 2017 (arXiv:1706.08566); for
crystals Schütt, Sauceda, Kindermans, Tkatchenko & Müller, J. Chem. Phys. 2018, 148, 241722; and
the authors' code `atomistic-machine-learning/SchNet`, which is followed where they differ. Atoms
start from a vector of their element, are updated by `n_interactions` blocks and read out one by
one:

.. math:: x_i \leftarrow x_i + v_i, \quad y = \frac{1}{N} \sum_i \mathrm{readout}(x_i)
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from raymat.config import Config
from raymat.features.graph import (
    CrystalGraph,
    gather_senders,
    mean_over_crystals,
    sum_over_neighbors,
)
from raymat.features.graph_view import MAX_ATOMIC_NUMBER, GraphView
from raymat.features.radial import Gaussians, evenly
from raymat.models._layers import as_output, glorot_linear, n_outputs, shifted_softplus
from raymat.models._spec import CrystalModel, ModelSpec, Output

CutoffFunction = Literal["none", "cosine"]


class SchNetConfig(Config):
    """Sizes and choices of SchNet; defaults are those of the papers for crystals.

    Attributes:
        cutoff: Å, all neighbors within it count; 5 for crystals (2018).
        atom_dim: length of an atom vector; 64 in the authors' code.
        filter_dim: length of a filter; 64 in the authors' code.
        n_interactions: interaction blocks; 6 in the authors' code.
        convolution: "mean" divides a convolution by the number of neighbors, as the paper does
            for crystals (2018), "sum" does not.
        cutoff_function: "none" cuts the filters off at `cutoff`, as the papers do. "cosine" takes
            them there smoothly, as the later SchNetPack does; with "sum", the prediction is then
            continuous when an atom crosses the cutoff.
        gaussian_step: Å between the Gaussians' centers; 0.1 in the papers.
        gaussian_gamma: 1/Å^2, how narrow the Gaussians are; 10 in the papers.
    """

    cutoff: float = Field(5.0, gt=0.5, le=10.0)
    atom_dim: int = Field(64, ge=2, le=1024)
    filter_dim: int = Field(64, ge=1, le=1024)
    n_interactions: int = Field(6, ge=1, le=12)
    convolution: Literal["mean", "sum"] = "mean"
    cutoff_function: CutoffFunction = "none"
    gaussian_step: float = Field(0.1, ge=0.02, le=2.0)
    gaussian_gamma: float = Field(10.0, ge=0.01, le=10_000.0)


@dataclass(frozen=True)
class Surroundings:
    """What the filters of all blocks read, at each distance of a batch once.

    Attributes:
        gaussians: (n_distances, n_centers).
        envelope: (n_distances, 1) what a filter is multiplied by, from 1 to 0 at the cutoff.
        index: (n_edges,) int64, the distance of each edge.
        n_neighbors: (n_atoms, 1) what an atom's sum over neighbors is divided by.
    """

    gaussians: Tensor
    envelope: Tensor
    index: Tensor
    n_neighbors: Tensor


class DistanceExpansion(Gaussians):
    r"""SchNet's distance expansion.

    .. math:: e_k(d) = \exp\bigl(-\gamma (d - \mu_k)^2\bigr), \quad \mu_k = k s, \quad k = 0 \dots K

    from 0 to the cutoff, both included. (The authors' code spreads one center less over the same
    range.)
    """

    def __init__(self, cutoff: float, step: float, gamma: float) -> None:
        super().__init__(evenly(cutoff, step), width=gamma**-0.5)


class Filter(nn.Module):
    r"""The filter-generating network.

    .. math:: W(d) = f(d)\, g\bigl(g(e(d) W_1 + b_1) W_2 + b_2\bigr)

    g is `shifted_softplus`, f the cutoff function. SchNetPack leaves the outer g out.
    """

    def __init__(self, n_centers: int, filter_dim: int) -> None:
        super().__init__()
        self.first = glorot_linear(n_centers, filter_dim)
        self.second = glorot_linear(filter_dim, filter_dim)

    def forward(self, surroundings: Surroundings) -> Tensor:
        """Give every edge its filter: (n_edges, filter_dim)."""
        hidden = shifted_softplus(self.first(surroundings.gaussians))
        filters = shifted_softplus(self.second(hidden)) * surroundings.envelope
        return filters.index_select(0, surroundings.index)


class Interaction(nn.Module):
    r"""An interaction block: SchNet's continuous-filter convolution between atom-wise layers.

    .. math:: v_i = g(c_i W_1 + b_1) W_2 + b_2, \quad
              c_i = \frac{1}{n_i} \sum_{j} (x_j W_0) \odot W(d_{ij})

    over all neighbors j, periodic images among them; :math:`n_i` is their number, or 1 where the
    convolution is a sum. An atom without neighbors has :math:`c_i = 0`.
    """

    def __init__(self, config: SchNetConfig, n_centers: int) -> None:
        super().__init__()
        self.filter = Filter(n_centers, config.filter_dim)
        self.to_filter = glorot_linear(config.atom_dim, config.filter_dim, bias=False)
        self.first = glorot_linear(config.filter_dim, config.atom_dim)
        self.second = glorot_linear(config.atom_dim, config.atom_dim)

    def forward(
        self,
        atoms: Tensor,  # (n_atoms, atom_dim)
        surroundings: Surroundings,
        graph: CrystalGraph,
    ) -> Tensor:  # (n_atoms, atom_dim)
        """Give what is added to every atom."""
        messages = gather_senders(self.to_filter(atoms), graph) * self.filter(surroundings)
        convolved = sum_over_neighbors(messages, graph) / surroundings.n_neighbors
        update: Tensor = self.second(shifted_softplus(self.first(convolved)))
        return update


class SchNet(CrystalModel[CrystalGraph]):
    """SchNet with the atoms' values averaged over the crystal, so that a supercell has the same.

    Unlike in the authors' code the last layer does not start at zero, so every layer learns from
    the first step.
    """

    def __init__(self, config: SchNetConfig, output: Output) -> None:
        super().__init__()
        self.config, self.predicts = config, output
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER + 1, config.atom_dim)
        nn.init.normal_(self.elements.weight, std=config.atom_dim**-0.25)  # as the authors' code
        self.expand = DistanceExpansion(config.cutoff, config.gaussian_step, config.gaussian_gamma)
        self.interactions = nn.ModuleList(
            Interaction(config, self.expand.n_centers) for _ in range(config.n_interactions)
        )
        self.first = glorot_linear(config.atom_dim, config.atom_dim // 2)
        self.output = glorot_linear(config.atom_dim // 2, n_outputs(output))

    def latent(self, graph: CrystalGraph) -> Tensor:
        """Give the crystals' mean over the readout's hidden layer: (n_crystals, atom_dim // 2)."""
        surroundings = self._surroundings(graph)
        atoms = self.elements(graph.atomic_numbers)
        for interact in self.interactions:
            atoms = atoms + interact(atoms, surroundings, graph)
        return mean_over_crystals(shifted_softplus(self.first(atoms)), graph)

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from mean vectors; see `CrystalModel.forward`.

        The last layer is linear, so it gives the same for the mean as the mean over the atoms.
        """
        return as_output(self.output(crystals), self.predicts)

    def _surroundings(self, graph: CrystalGraph) -> Surroundings:
        config = self.config
        # A filter depends on the distance alone, and many edges of a crystal share theirs.
        distances, index = torch.unique(graph.distances, return_inverse=True)
        return Surroundings(
            gaussians=self.expand(distances),
            envelope=cut_off(distances, config.cutoff, config.cutoff_function)[:, None],
            index=index,
            n_neighbors=self._divisor(graph),
        )

    def _divisor(self, graph: CrystalGraph) -> Tensor:  # (n_atoms, 1)
        if self.config.convolution == "sum":
            return graph.distances.new_ones(graph.n_atoms, 1)
        edges = torch.ones_like(graph.distances)[:, None]
        return sum_over_neighbors(edges, graph).clamp(min=1)


def cut_off(distances: Tensor, cutoff: float, function: CutoffFunction) -> Tensor:
    r"""Give f(d) for distances up to the cutoff: 1, or the cosine of Behler & Parrinello.

    .. math:: f(d) = \tfrac{1}{2} \bigl(\cos(\pi d / r_\mathrm{cut}) + 1\bigr)
    """
    if function == "none":
        return torch.ones_like(distances)
    return 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)


def _graph(config: SchNetConfig) -> GraphView:
    return GraphView(cutoff=config.cutoff, max_neighbors=None)


# The authors' code, but for its step size that falls by 4 % every 100,000 steps.
_AUTHORS_TRAINING = {"optimizer": "adam", "lr": 1e-3, "schedule": "constant", "batch_size": 32}

SPEC = ModelSpec(config=SchNetConfig, build=SchNet, reads=_graph, training=_AUTHORS_TRAINING)
