"""Crystal graphs as tensors, and the graph operations that models are written in.

A batch of crystals is one graph without edges between crystals. Edges are grouped by the atom
that receives them.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymat.data.crystals import ranges
from raymat.features.neighbor_table import NeighborTable

Pad = Literal["mask", "reference"]


@dataclass(frozen=True)
class GraphView:
    """Which part of a neighbor table a model reads.

    Attributes:
        cutoff: Å.
        max_neighbors: neighbors kept per atom.
        pad: what fills the places of an atom with fewer neighbors. "mask": nothing.
            "reference": messages from atom 0 of the same crystal at ``cutoff + 1`` Å, as the
            authors' code does and the public checkpoints need.
    """

    cutoff: float
    max_neighbors: int
    pad: Pad = "mask"


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
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    distances: Tensor
    crystal_index: Tensor
    n_sites: Tensor
    degree: int | None

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


def batch_graph(table: NeighborTable, rows: NDArray[np.int64], view: GraphView) -> CrystalGraph:
    """Join the crystals `rows` of a table into one graph.

    The table must reach at least as far as the view; see `check_reach`.
    """
    counts = np.diff(table.offsets)[rows]
    atoms = ranges(table.offsets[rows], counts)
    first_atom = np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    distances, senders = _nearest(table, atoms, view)
    kept = distances <= view.cutoff
    if view.pad == "reference":
        senders = np.where(kept, senders, 0)
        distances = np.where(kept, distances, np.float32(view.cutoff + 1.0))
        kept = np.ones_like(kept)
    receivers = np.broadcast_to(np.arange(len(atoms))[:, None], kept.shape)
    edge_index = np.stack([(senders + first_atom[:, None])[kept], receivers[kept]])
    return CrystalGraph(
        atomic_numbers=torch.from_numpy(table.atomic_numbers[atoms].astype(np.int64)),
        edge_index=torch.from_numpy(edge_index),
        distances=torch.from_numpy(distances[kept].astype(np.float32)),
        crystal_index=torch.from_numpy(np.repeat(np.arange(len(rows)), counts)),
        n_sites=torch.from_numpy(counts.astype(np.float32)),
        degree=kept.shape[1] if kept.all() else None,
    )


def check_reach(table: NeighborTable, view: GraphView) -> None:
    """Check that a table holds a view.

    Raises:
        ValueError: its cutoff or its number of neighbors is smaller.
    """
    has = table.config
    if view.cutoff > has.cutoff or view.max_neighbors > has.max_neighbors:
        raise ValueError(f"the neighbor table ({has}) is smaller than the model's view ({view})")


def _nearest(
    table: NeighborTable, atoms: NDArray[np.int64], view: GraphView
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give distances and senders, both (n_atoms, max_neighbors), of the view's neighbors."""
    n = view.max_neighbors
    if view.cutoff == table.config.cutoff:
        return table.distances[atoms, :n], table.indices[atoms, :n].astype(np.int64)
    # Inside a shell the order is not by distance, so a shell that the smaller cutoff splits may
    # have a farther neighbor before a nearer one: move those within the cutoff to the front.
    distances = table.distances[atoms]
    order = np.argsort(distances > view.cutoff, axis=1, kind="stable")[:, :n]
    senders = np.take_along_axis(table.indices[atoms], order, axis=1).astype(np.int64)
    return np.take_along_axis(distances, order, axis=1), senders


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
