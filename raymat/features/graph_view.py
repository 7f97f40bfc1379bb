"""The part of a crystal's surroundings that a graph model reads, and its batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet, offsets_of, ranges
from raymat.features.edge_table import EdgeConfig, EdgeTable, batch_edges
from raymat.features.graph import CrystalGraph
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.unknown_elements import elements_by_row, name_elements

Pad = Literal["mask", "reference"]
MAX_ATOMIC_NUMBER = 100  # the last element of the table of element vectors


@dataclass(frozen=True)
class GraphView:
    """Which neighbors a model reads.

    Attributes:
        cutoff: Å.
        max_neighbors: neighbors kept per atom; None for all within the cutoff.
        pad: what fills the places of an atom with fewer neighbors. "mask": nothing.
            "reference": messages from atom 0 of the same crystal at ``cutoff + 1`` Å, as the
            authors' code of CGCNN does and the public checkpoints need; and neighbors at equal
            distances are chosen by index, as in their graphs.
        max_atomic_number: the last element that the model knows.
        takes_lone_atoms: whether the model takes a crystal in which some atoms, but not all, have
            no neighbor. With `pad` "reference" it takes every crystal.
    """

    cutoff: float
    max_neighbors: int | None
    pad: Pad = "mask"
    max_atomic_number: int = MAX_ATOMIC_NUMBER
    takes_lone_atoms: bool = False

    @property
    def table_config(self) -> NeighborConfig | EdgeConfig:
        """The smallest table that serves it."""
        if self.max_neighbors is None:
            return EdgeConfig(cutoff=self.cutoff)
        return NeighborConfig(
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
            ties="index" if self.pad == "reference" else "surroundings",
        )

    def batch(self, table: NeighborTable | EdgeTable, rows: NDArray[np.int64]) -> CrystalGraph:
        """Join the crystals `rows` of a table into one graph.

        Raises:
            ValueError: the table does not reach as far as the view.
        """
        if not table.config.holds(self.table_config):
            raise ValueError(f"the table ({table.config!r}) is smaller than the view ({self})")
        if isinstance(table, EdgeTable):
            return batch_edges(table, rows, self.cutoff)
        return batch_graph(table, rows, self)

    def unknown_elements(self, crystals: CrystalSet) -> dict[int, tuple[int, ...]]:
        """Give the rows with elements beyond the model's table, and which these are."""
        return elements_by_row(crystals, crystals.atomic_numbers > self.max_atomic_number)

    def unusable(self, crystals: CrystalSet, table: NeighborTable | EdgeTable) -> dict[int, str]:
        """Give the rows that the model cannot take, each with the reason."""
        found = {row: text for row, text, is_taken in self._lone_atoms(table) if not is_taken}
        for row, elements in self.unknown_elements(crystals).items():
            found[row] = (
                f"holds {name_elements(elements)}, which the model's table of elements lacks"
            )
        return found

    def doubtful(self, crystals: CrystalSet, table: NeighborTable | EdgeTable) -> dict[int, str]:
        """Give the rows that the model takes although atoms stand alone in them."""
        del crystals
        return {row: text for row, text, is_taken in self._lone_atoms(table) if is_taken}

    def _lone_atoms(self, table: NeighborTable | EdgeTable) -> Iterator[tuple[int, str, bool]]:
        lone, n_sites = table.count_isolated(self.cutoff), table.n_sites
        for row in np.flatnonzero(lone):
            is_taken = self.takes_lone_atoms and lone[row] < n_sites[row]
            text = lone_atoms_text(int(lone[row]), int(n_sites[row]), self.cutoff)
            yield int(row), text, bool(is_taken) or self.pad == "reference"


def lone_atoms_text(n_lone: int, n_sites: int, cutoff: float) -> str:
    """Describe the atoms of a crystal that have no neighbor within a cutoff (Å)."""
    if n_lone == n_sites:
        return f"no atom has a neighbor within {cutoff:g} Å"
    verb = "has" if n_lone == 1 else "have"
    return f"{n_lone} of {n_sites} atoms {verb} no neighbor within {cutoff:g} Å"


def batch_graph(table: NeighborTable, rows: NDArray[np.int64], view: GraphView) -> CrystalGraph:
    """Join the crystals `rows` of a table into one graph.

    The table must reach at least as far as the view.
    """
    counts = np.diff(table.offsets)[rows]
    atoms = ranges(table.offsets[rows], counts)
    first_atom = np.repeat(offsets_of(counts)[:-1], counts)
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
