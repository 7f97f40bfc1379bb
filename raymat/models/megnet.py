r"""MEGNet: graph networks with a global state.

Chen, Ye, Zuo, Zheng & Ong, Chem. Mater. 2019, 31, 3564, and the authors' code
`materialsvirtuallab/megnet`, which is followed where the two differ; the later network of the
same name in `matgl` is another one. Atoms, bonds and the crystal's state are updated in turn by
`n_blocks` blocks:

.. math:: (V, E, u) \leftarrow (V, E, u) + \mathrm{block}(V, E, u)

then atoms and bonds are read out by Set2Set, joined with the state and mapped to the prediction.
Targets are learned in their own unit, as the authors learn them, unless they lie far from 1 (a
standard deviation outside 0.01 to 100, or a mean beyond 1000): then they are scaled.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raymat.config import Config
from raymat.features.graph import CrystalGraph
from raymat.features.graph_view import GraphView
from raymat.features.radial import Gaussians
from raymat.features.segments import BondGraph, bond_graph, mean_over, spread
from raymat.models._layers import as_output, glorot_linear
from raymat.models._layers import shifted_softplus as softplus2  # the authors' name
from raymat.models._set2set import Recurrence, Set2Set
from raymat.models._spec import CrystalModel, ModelSpec, Output

MAX_ATOMIC_NUMBER = 94  # the authors' element table ends with plutonium; row 0 is unused
CENTERS_BEYOND_CUTOFF = 1.0  # Å: 0-5 for a cutoff of 4 and 0-6 for 5, in all published models


class MEGNetConfig(Config):
    """Sizes and choices of MEGNet; defaults are those of the authors' code.

    Attributes:
        state_dim: numbers that the state starts with. They come from `CrystalGraph.state`; crystals
            read from a file carry none, and then they are zeros, as the authors have it for the
            Materials Project: of the first layer of the state only the bias acts, but its weights
            are part of the authors' files.
    """

    cutoff: float = Field(4.0, gt=0.5, le=8.0)  # Å; all neighbors within it count
    n_blocks: int = Field(3, ge=1, le=12)
    element_dim: int = Field(16, ge=1, le=1024)  # length of a learned element vector
    hidden_dim: int = Field(64, ge=1, le=2048)  # n1 of the authors' code: hidden layers
    attribute_dim: int = Field(32, ge=1, le=1024)  # n2: length of atom, bond and state vectors
    set2set_dim: int = Field(16, ge=1, le=1024)  # n3: channels of Set2Set, last hidden layer
    set2set_steps: int = Field(3, ge=1, le=12)
    set2set: Recurrence = "reference"
    n_centers: int = Field(100, ge=2, le=1000)  # Gaussians between 0 and the cutoff + 1 Å
    width: float = Field(0.5, ge=0.02, le=5.0)  # Å, of a Gaussian
    state_dim: int = Field(2, ge=1, le=1024)
    dropout: float = Field(0.0, ge=0.0, le=0.9)  # of every block's output, and before the head


@dataclass(frozen=True)
class Attributes:
    """What a block reads and writes: V, E and u of the paper.

    Attributes:
        atoms: (n_atoms, attribute_dim).
        bonds: (n_bonds, attribute_dim).
        state: (n_crystals, attribute_dim).
    """

    atoms: Tensor
    bonds: Tensor
    state: Tensor

    def __add__(self, other: "Attributes") -> "Attributes":
        return Attributes(
            self.atoms + other.atoms, self.bonds + other.bonds, self.state + other.state
        )


class DistanceExpansion(Gaussians):
    r"""MEGNet's distance expansion.

    .. math:: \exp(-(d - \mu_t)^2 / w^2), \quad \mu_t \text{ evenly from } 0 \text{ to }
              r_\mathrm{cut} + 1 \text{ Å}
    """

    def __init__(self, cutoff: float, n_centers: int, width: float) -> None:
        # In float64 and then rounded, as NumPy's linspace gives it to the authors' network.
        centers = torch.linspace(0, cutoff + CENTERS_BEYOND_CUTOFF, n_centers, dtype=torch.float64)
        super().__init__(centers.to(torch.get_default_dtype()), width)


class TwoLayers(nn.Module):
    r"""The net in front of a block, of atoms, bonds or state: :math:`g(g(x W_1 + b_1) W_2 + b_2)`.

    g is `softplus2`.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.first = glorot_linear(in_dim, hidden_dim)
        self.second = glorot_linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_dim) to (n, out_dim)."""
        return softplus2(self.second(softplus2(self.first(x))))


class Update(nn.Module):
    r"""One of a block's functions :math:`\phi`.

    .. math:: \phi(x) = g(g(x W_1 + b_1) W_2 + b_2) W_3 + b_3

    g is `softplus2`. The authors' code returns the last layer before its activation.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.first = glorot_linear(in_dim, hidden_dim)
        self.second = glorot_linear(hidden_dim, hidden_dim)
        self.third = glorot_linear(hidden_dim, out_dim)

    def forward(self, *parts: Tensor) -> Tensor:
        """Map the joined parts, together (n, in_dim), to (n, out_dim)."""
        return self.after_first(self.first(torch.cat(parts, dim=1)))

    def after_first(self, products: Tensor) -> Tensor:
        """Map (n, hidden_dim) products of the first layer to (n, out_dim)."""
        result: Tensor = self.third(softplus2(self.second(softplus2(products))))
        return result


class Nets(nn.Module):
    """Two layers each for atoms, bonds and state."""

    def __init__(self, in_dims: tuple[int, int, int], config: MEGNetConfig) -> None:
        super().__init__()
        sizes = config.hidden_dim, config.attribute_dim
        self.atoms, self.bonds, self.state = (TwoLayers(dim, *sizes) for dim in in_dims)

    def forward(self, x: Attributes) -> Attributes:
        """Map attributes of lengths `in_dims` to `attribute_dim` each."""
        return Attributes(self.atoms(x.atoms), self.bonds(x.bonds), self.state(x.state))


class GraphLayer(nn.Module):
    r"""MEGNet's graph network layer: bonds, then atoms, then the state are updated.

    .. math::
        e'_k &= \phi_e(v_i \oplus v_j \oplus e_k \oplus u), \quad
                k \text{ the bond of atom } i \text{ to its neighbor } j \\
        v'_i &= \phi_v(\bar e_i \oplus v_i \oplus u), \quad
                \bar e_i \text{ the mean of } e'_k \text{ over the bonds of } i \\
        u' &= \phi_u(\bar e \oplus \bar v \oplus u), \quad
                \bar e, \bar v \text{ the means of } e'_k, v'_i \text{ over the crystal}

    An atom without bonds has :math:`\bar e_i = 0`. Of the four parts of the first product in
    :math:`\phi_e` three depend on an atom or a crystal, so they are computed there and not per
    bond.
    """

    def __init__(self, config: MEGNetConfig) -> None:
        super().__init__()
        dim, hidden_dim = config.attribute_dim, config.hidden_dim
        self.phi_e = Update(4 * dim, hidden_dim, dim)
        self.phi_v = Update(3 * dim, hidden_dim, dim)
        self.phi_u = Update(3 * dim, hidden_dim, dim)

    def forward(self, x: Attributes, graph: BondGraph) -> Attributes:
        """Give V', E', u'."""
        bonds = self.phi_e.after_first(self._bond_products(x, graph))
        bonds_of_atoms = mean_over(bonds, graph.bonds_of_atoms)
        state_of_atoms = spread(x.state, graph.atoms_of_crystals)
        atoms = self.phi_v(bonds_of_atoms, x.atoms, state_of_atoms)
        state = self.phi_u(
            mean_over(bonds_of_atoms, graph.atoms_by_bonds),
            mean_over(atoms, graph.atoms_of_crystals),
            x.state,
        )
        return Attributes(atoms, bonds, state)

    def _bond_products(self, x: Attributes, graph: BondGraph) -> Tensor:  # (n_bonds, hidden_dim)
        first = self.phi_e.first
        center, neighbor, bond, state = first.weight.chunk(4, dim=1)
        from_state = spread(F.linear(x.state, state, first.bias), graph.atoms_of_crystals)
        from_center = F.linear(x.atoms, center) + from_state
        from_neighbor = F.linear(x.atoms, neighbor)
        products = from_neighbor.index_select(0, graph.senders).addmm_(x.bonds, bond.t())
        return products.add_(spread(from_center, graph.bonds_of_atoms))


class Block(nn.Module):
    """A graph layer behind nets of its own.

    The first block has none: the nets that make the attributes stand just before it.
    """

    def __init__(self, config: MEGNetConfig, *, is_first: bool) -> None:
        super().__init__()
        dim = config.attribute_dim
        self.nets = nn.Identity() if is_first else Nets((dim, dim, dim), config)
        self.layer = GraphLayer(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Attributes, graph: BondGraph) -> Attributes:
        """Give what is added to the attributes."""
        new = self.layer(self.nets(x), graph)
        return Attributes(self.dropout(new.atoms), self.dropout(new.bonds), self.dropout(new.state))


class MEGNet(CrystalModel[CrystalGraph]):
    """MEGNet as its authors' code has it, for crystals.

    A bond's attributes start from its distance alone, so the first net sees each distance once.
    Regression ends in one number. The classifier's one output x is the logit of class 1: the
    authors give the sigmoid of x, this network the logarithms of both classes' probabilities.
    """

    def __init__(self, config: MEGNetConfig, output: Output) -> None:
        super().__init__()
        self.config, self.predicts = config, output
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER + 1, config.element_dim)
        nn.init.uniform_(self.elements.weight, -0.05, 0.05)  # as Keras does
        self.expand = DistanceExpansion(config.cutoff, config.n_centers, config.width)
        self.nets = Nets((config.element_dim, config.n_centers, config.state_dim), config)
        self.blocks = nn.ModuleList(Block(config, is_first=i == 0) for i in range(config.n_blocks))
        self.read_atoms, self.read_bonds = (self._set2set() for _ in range(2))
        joined_dim = 4 * config.set2set_dim + config.attribute_dim
        self.dropout = nn.Dropout(config.dropout)
        self.head = TwoLayers(joined_dim, config.attribute_dim, config.set2set_dim)
        self.output = glorot_linear(config.set2set_dim, 2 if output == "gaussian" else 1)

    def latent(self, graph: CrystalGraph) -> Tensor:
        """Give atoms, bonds and state, read out: (n_crystals, 4 set2set_dim + attribute_dim)."""
        bonds = bond_graph(graph)
        x = self._start(graph, bonds)
        for block in self.blocks:
            x = x + block(x, bonds)
        return torch.cat(
            [
                self.read_atoms(x.atoms, bonds.atoms_of_crystals),
                self.read_bonds(x.bonds, bonds.bonds_of_crystals),
                x.state,
            ],
            dim=1,
        )

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from what was read out; see `CrystalModel.forward`."""
        out: Tensor = self.output(self.head(self.dropout(crystals)))
        if self.predicts == "classification":
            return torch.cat([F.logsigmoid(-out), F.logsigmoid(out)], dim=1)
        return as_output(out, self.predicts)

    def _start(self, graph: CrystalGraph, bonds: BondGraph) -> Attributes:
        """Give the attributes before the first block."""
        elements = self.elements(graph.atomic_numbers)
        distances, place = torch.unique(bonds.distances, return_inverse=True)
        state = elements.new_zeros(graph.n_crystals, self.config.state_dim)
        if graph.state is not None:
            state = graph.state.to(state.dtype)
        x: Attributes = self.nets(Attributes(elements, self.expand(distances), state))
        return Attributes(x.atoms, x.bonds.index_select(0, place), x.state)

    def _set2set(self) -> Set2Set:
        c = self.config
        return Set2Set(c.attribute_dim, c.set2set_dim, c.set2set_steps, c.set2set)


def _graph(config: MEGNetConfig) -> GraphView:
    return GraphView(
        cutoff=config.cutoff,
        max_neighbors=None,
        max_atomic_number=MAX_ATOMIC_NUMBER,
        takes_lone_atoms=True,  # as the authors' code; see GraphLayer
    )


# The authors' code; its 1000 epochs, ended after 500 without progress, are the user's to ask for.
_AUTHORS_TRAINING = {
    "optimizer": "adam",
    "lr": 1e-3,
    "schedule": "constant",
    "batch_size": 128,
    "target_scaling": "auto",  # the authors scale nothing; far from 1, nothing would be learned
    "clip_norm": 3.0,
    "clip_per": "tensor",
}

SPEC = ModelSpec(config=MEGNetConfig, build=MEGNet, reads=_graph, training=_AUTHORS_TRAINING)
