"""All neighbors of every atom within a cutoff, as plain arrays: what MEGNet and SchNet read.

There is no cap, so atoms have different numbers of neighbors and memory grows with their sum. A
table serves every smaller cutoff, too: its edges are those of the larger one that are short
enough, in the same order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raymat.data.crystals import CrystalSet, offsets_of, ranges
from raymat.errors import DataError
from raymat.features.graph import CrystalGraph
from raymat.features.pair_search import (
    ATOMS_PER_CHUNK,
    MIN_VOLUME,
    SEARCH_PACKAGES,
    SEARCH_SLACK,
    Cells,
    cell_volumes,
    check_cells,
    chunks,
    cut_cells,
    find_neighbors,
)
from raymat.features.shells import Ints, group_into_shells, order_in_shells
from raymat.features.table import FeatureTable, TableConfig

BYTES_PER_EDGE = 6  # uint16 and float32


class EdgeConfig(TableConfig):
    """How far neighbors are kept."""

    kind: ClassVar[str] = "edges"
    packages: ClassVar[tuple[str, ...]] = SEARCH_PACKAGES
    smaller: ClassVar[str] = "lower model.cutoff"

    cutoff: float = Field(gt=0.0, le=15.0)  # Å

    @classmethod
    def table_class(cls) -> "type[EdgeTable]":
        """Give the class of its tables."""
        return EdgeTable

    def build(self, crystals: CrystalSet) -> "EdgeTable":
        """Search the neighbors; see `build_edge_table`."""
        return build_edge_table(crystals, self)

    def join(self, tables: list[Any]) -> "EdgeTable":
        """Join the tables of consecutive parts of a crystal set."""
        return concatenate_edge_tables(tables)

    def holds(self, other: TableConfig) -> bool:
        """Say whether it reaches as far."""
        return isinstance(other, EdgeConfig) and self.cutoff >= other.cutoff

    def union(self, other: TableConfig) -> "EdgeConfig | None":
        """Give the smallest configuration that holds both."""
        if not isinstance(other, EdgeConfig):
            return None
        return EdgeConfig(cutoff=max(self.cutoff, other.cutoff))

    def forecast_bytes(self, crystals: CrystalSet) -> int:
        """Give the memory of the table if every atom had the mean density of its crystal around it.

        A slab or a molecule in vacuum is denser than its cell, so this is no bound for those.
        """
        volumes = cell_volumes(crystals.lattices)
        usable = np.isfinite(volumes) & (volumes > MIN_VOLUME)  # others are refused by name
        sphere = 4.0 / 3.0 * np.pi * self.cutoff**3
        n_edges = (crystals.n_sites[usable] ** 2 * sphere / volumes[usable]).sum()
        return int(BYTES_PER_EDGE * n_edges) + 9 * len(crystals.atomic_numbers)


@dataclass(frozen=True)
class EdgeTable(FeatureTable):
    """Neighbors of any number per atom; atom i owns edges ``edge_offsets[i]:edge_offsets[i + 1]``.

    Each pair is there twice, once for either atom. An atom's edges stand in canonical order: by
    shell of equal distance, then by neighbor index and image (see `shells`).

    Attributes:
        offsets: (n_crystals + 1,) int64, first atom of each crystal.
        atomic_numbers: (n_atoms,) uint8.
        edge_offsets: (n_atoms + 1,) int64, first edge of each atom.
        indices: (n_edges,) uint16, the neighbor, counted inside the crystal.
        distances: (n_edges,) float32 Å.
        config: the cutoff that the table was built with.
    """

    dtypes: ClassVar[dict[str, str]] = {
        "offsets": "<i8",
        "atomic_numbers": "|u1",
        "edge_offsets": "<i8",
        "indices": "<u2",
        "distances": "<f4",
    }
    running: ClassVar[frozenset[str]] = frozenset({"offsets", "edge_offsets"})

    config: EdgeConfig
    offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    edge_offsets: NDArray[np.int64]
    indices: NDArray[np.uint16]
    distances: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """(n_crystals,) atoms per cell."""
        return np.diff(self.offsets)

    @property
    def n_edges(self) -> NDArray[np.int64]:
        """(n_crystals,) directed edges per cell."""
        return np.diff(self.edge_offsets[self.offsets])

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Give the table of the crystals `rows`, in this order."""
        n_sites = self.n_sites[rows]
        atoms = ranges(self.offsets[rows], n_sites)
        # A crystal's edges are consecutive.
        edges = ranges(self.edge_offsets[self.offsets[rows]], self.n_edges[rows])
        return replace(
            self,
            offsets=offsets_of(n_sites),
            atomic_numbers=self.atomic_numbers[atoms],
            edge_offsets=offsets_of(np.diff(self.edge_offsets)[atoms]),
            indices=self.indices[edges],
            distances=self.distances[edges],
        )

    @property
    def n_isolated(self) -> NDArray[np.int64]:
        """(n_crystals,) atoms without any neighbor within the table's cutoff."""
        return self.count_isolated(self.config.cutoff)

    def count_isolated(self, cutoff: float) -> NDArray[np.int64]:
        """Count (n_crystals,) the atoms without any neighbor within a cutoff (Å), up to its own."""
        shortest = np.full(len(self.atomic_numbers), np.inf, dtype=np.float32)
        has_any = np.flatnonzero(np.diff(self.edge_offsets))
        if len(has_any):
            # The next atom that has edges begins where this one ends.
            shortest[has_any] = np.minimum.reduceat(self.distances, self.edge_offsets[has_any])
        return np.diff(offsets_of(shortest > np.float32(cutoff))[self.offsets])

    def facts(self) -> dict[str, Any]:
        """Give what a run says of its graphs: size, and atoms that stand alone."""
        n_isolated = self.n_isolated
        return {
            **super().facts(),
            "n_atoms": len(self.atomic_numbers),
            "n_edges": len(self.distances),
            "isolated_sites": int(n_isolated.sum()),
            "isolated_crystals": int((n_isolated > 0).sum()),
        }

    def line(self) -> str:
        """Give one line for people on the graphs."""
        n_isolated = int(self.n_isolated.sum())
        isolated = f" ({n_isolated:,} without any)" if n_isolated else ""
        return (
            f"graphs: all {len(self.distances):,} neighbors within {self.config.cutoff:g} Å of"
            f" {len(self.atomic_numbers):,} atoms{isolated}, {self.nbytes / 1e6:.3g} MB"
        )


@dataclass(frozen=True)
class _Edges:
    """The edges of consecutive atoms."""

    counts: Ints  # (n_atoms,)
    indices: NDArray[np.uint16]
    distances: NDArray[np.float32]


def build_edge_table(crystals: CrystalSet, config: EdgeConfig) -> EdgeTable:
    """Find all neighbors of every atom.

    An image is a neighbor if its distance, rounded to float32 as it is stored, is at most the
    cutoff. The atom itself is not one; its own images are. An atom may have none, and so may a
    crystal.

    Args:
        crystals: the crystals; coordinates may lie outside [0, 1).
        config: cutoff (Å).

    Raises:
        DataError: a crystal has more than 65535 sites, a cell without volume, or values that are
            not finite.
    """
    check_cells(crystals)
    parts = list(_search(crystals, config.cutoff))
    counts = np.concatenate([np.zeros(0, np.int64), *[part.counts for part in parts]])
    return EdgeTable(
        config=config,
        offsets=np.array(crystals.offsets, dtype=np.int64),
        atomic_numbers=np.array(crystals.atomic_numbers, dtype=np.uint8),
        edge_offsets=offsets_of(counts),
        indices=np.concatenate([np.zeros(0, np.uint16), *[part.indices for part in parts]]),
        distances=np.concatenate([np.zeros(0, np.float32), *[part.distances for part in parts]]),
    )


def concatenate_edge_tables(tables: list[EdgeTable]) -> EdgeTable:
    """Join the tables of consecutive parts of a crystal set.

    Raises:
        DataError: there is no table, or their cutoffs differ.
    """
    cutoffs = sorted({table.config.cutoff for table in tables})
    if len(cutoffs) != 1:
        raise DataError(
            f"edge tables to join must share one cutoff, found {len(cutoffs)} {cutoffs}; "
            "build them with the same one"
        )
    return EdgeTable(
        config=tables[0].config,
        offsets=offsets_of(np.concatenate([np.diff(table.offsets) for table in tables])),
        atomic_numbers=np.concatenate([table.atomic_numbers for table in tables]),
        edge_offsets=offsets_of(np.concatenate([np.diff(t.edge_offsets) for t in tables])),
        indices=np.concatenate([table.indices for table in tables]),
        distances=np.concatenate([table.distances for table in tables]),
    )


def batch_edges(table: EdgeTable, rows: NDArray[np.int64], cutoff: float) -> CrystalGraph:
    """Join the crystals `rows` of a table into one graph, with all edges within `cutoff` (Å).

    The table must reach at least as far.
    """
    n_sites = np.diff(table.offsets)[rows]
    atoms = ranges(table.offsets[rows], n_sites)
    n_edges = np.diff(table.edge_offsets)[atoms]  # of every atom
    # A crystal's edges are consecutive.
    starts = table.edge_offsets[table.offsets[rows]]
    edges = ranges(starts, table.edge_offsets[table.offsets[rows + 1]] - starts)
    distances = table.distances[edges]
    receivers = np.repeat(np.arange(len(atoms)), n_edges)
    if cutoff < table.config.cutoff:
        kept = np.flatnonzero(distances <= np.float32(cutoff))
        edges, distances, receivers = edges[kept], distances[kept], receivers[kept]
        n_edges = np.bincount(receivers, minlength=len(atoms))
    first_atom = np.repeat(offsets_of(n_sites)[:-1], n_sites)
    senders = table.indices[edges] + np.repeat(first_atom, n_edges)
    return CrystalGraph(
        atomic_numbers=torch.from_numpy(table.atomic_numbers[atoms].astype(np.int64)),
        edge_index=torch.from_numpy(np.stack([senders, receivers])),
        distances=torch.from_numpy(distances),
        crystal_index=torch.from_numpy(np.repeat(np.arange(len(rows)), n_sites)),
        n_sites=torch.from_numpy(n_sites.astype(np.float32)),
        degree=_common(n_edges),
    )


def _common(n_edges: Ints) -> int | None:
    """Give the number that all atoms share, if there is one above zero."""
    if len(n_edges) == 0 or n_edges[0] == 0 or (n_edges != n_edges[0]).any():
        return None
    return int(n_edges[0])


def _search(crystals: CrystalSet, cutoff: float) -> Iterator[_Edges]:
    for first, last in chunks(crystals.offsets):
        cells = cut_cells(crystals, first, last)
        # More than one round only where a single crystal is larger than a chunk.
        for start in range(0, len(cells.positions), ATOMS_PER_CHUNK):
            stop = min(start + ATOMS_PER_CHUNK, len(cells.positions))
            yield _edges_of(cells, np.arange(start, stop), cutoff)


def _edges_of(cells: Cells, atoms: Ints, cutoff: float) -> _Edges:
    radii = np.full(len(cells.lattices), cutoff + SEARCH_SLACK)
    pairs = find_neighbors(cells, atoms, radii, cutoff)
    shells = group_into_shells(pairs.atom, pairs.distance, len(cells.positions))
    pairs = pairs.take(shells.pairs)
    local = pairs.local_neighbors(cells)
    order = order_in_shells(shells.shell, local, pairs.given_images(cells))
    return _Edges(
        counts=np.diff(shells.atom_starts)[atoms],
        indices=local[order].astype(np.uint16),
        distances=pairs.distance[order].astype(np.float32),
    )
