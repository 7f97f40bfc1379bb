"""Crystal graphs as tensors, and the graph operations that models are written in.

A batch of crystals is one graph without edges between crystals. Edges are grouped by the atom
that receives them.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class CrystalGraph:
    """One or more crystals.

    Attributes:
        atomic_numbers: (n_atoms,) int64.
        edge_index: (2, n_edges) int64; row 0 sends, row 1 receives.
        distances: (n_edges,) Å.
        crystal_index: (n_atoms,) int64, the crystal of each atom.
        n_sites: (n_crystals,) float, atoms per cell.
        degree: edges per atom when all atoms have equally many, else None.
        state: (n_crystals, any) what is known of each crystal as a whole, such as a temperature;
            None where nothing is, as for every crystal that raymat reads from a file.
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    distances: Tensor
    crystal_index: Tensor
    n_sites: Tensor
    degree: int | None
    state: Tensor | None = None

    @property
    def n_atoms(self) -> int:
        """Atoms of all crystals together."""
        return len(self.atomic_numbers)

    @property
    def n_crystals(self) -> int:
        """Crystals in the batch."""
        return len(self.n_sites)

    def to(self, device: torch.device) -> "CrystalGraph":
        """Give the same graph on another device."""
        if device == self.atomic_numbers.device:
            return self
        tensors: dict[str, Any] = {
            name: t.to(device) for name, t in vars(self).items() if isinstance(t, Tensor)
        }
        return replace(self, **tensors)


def gather_senders(atoms: Tensor, graph: CrystalGraph) -> Tensor:
    """Give every edge the row of the atom that sends: (n_atoms, f) -> (n_edges, f)."""
    return atoms.index_select(0, graph.edge_index[0])


def gather_receivers(atoms: Tensor, graph: CrystalGraph) -> Tensor:
    """Give every edge the row of the atom that receives: (n_atoms, f) -> (n_edges, f)."""
    if graph.degree is not None:
        return atoms.repeat_interleave(graph.degree, dim=0)
    return atoms.index_select(0, graph.edge_index[1])


def add_receivers(edges: Tensor, atoms: Tensor, graph: CrystalGraph) -> Tensor:
    """Add to every edge the row of the atom that receives: (n_edges, f) + (n_atoms, f)."""
    if graph.degree is None:
        return edges + gather_receivers(atoms, graph)
    # A broadcast, so that the rows are repeated neither here nor for the gradient.
    grouped = edges.view(graph.n_atoms, graph.degree, -1)
    return (grouped + atoms[:, None]).view_as(edges)


def sum_over_neighbors(messages: Tensor, graph: CrystalGraph) -> Tensor:
    """Sum the messages that each atom receives: (n_edges, f) -> (n_atoms, f)."""
    if graph.degree is not None:
        return messages.view(graph.n_atoms, graph.degree, -1).sum(1)
    total = messages.new_zeros(graph.n_atoms, messages.shape[1])
    return total.index_add(0, graph.edge_index[1], messages)


def sum_over_crystals(atoms: Tensor, graph: CrystalGraph) -> Tensor:
    """Sum over the atoms of each crystal: (n_atoms, f) -> (n_crystals, f)."""
    total = atoms.new_zeros(graph.n_crystals, atoms.shape[1])
    return total.index_add(0, graph.crystal_index, atoms)


def mean_over_crystals(atoms: Tensor, graph: CrystalGraph) -> Tensor:
    """Average over the atoms of each crystal: (n_atoms, f) -> (n_crystals, f)."""
    return sum_over_crystals(atoms, graph) / graph.n_sites[:, None]
