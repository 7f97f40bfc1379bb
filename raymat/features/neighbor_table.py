"""The nearest neighbors of every atom of a crystal set, as plain arrays.

Only indices and distances are kept; Gaussians are expanded on the fly. One table serves every
trial that asks for at most its cutoff and at most its number of neighbors: the rows are in
canonical order (see `neighbors`), so a smaller graph is a slice of a larger one.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymat.data.crystals import CrystalSet, offsets_of, ranges
from raymat.features.pair_search import SEARCH_PACKAGES
from raymat.features.table import FeatureTable, TableConfig

Ties = Literal["surroundings", "index"]


class NeighborConfig(TableConfig):
    """Which neighbors are kept.

    Attributes:
        cutoff: Å.
        max_neighbors: places of an atom.
        ties: what decides among equally distant neighbors. "surroundings": their element and their
            own neighbors, so that a crystal may be written in any way (see `shells`). "index":
            their place in the list of atoms, as for the public checkpoints of CGCNN.
    """

    kind: ClassVar[str] = "neighbors"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = SEARCH_PACKAGES
    smaller: ClassVar[str] = "lower model.max_neighbors"

    cutoff: float = Field(8.0, gt=0.0, le=15.0)  # Å
    max_neighbors: int = Field(12, ge=1, le=256)
    ties: Ties = "surroundings"

    @classmethod
    def table_class(cls) -> "type[NeighborTable]":
        """Give the class of its tables."""
        return NeighborTable

    def build(self, crystals: CrystalSet) -> "NeighborTable":
        """Search the neighbors; see `neighbors.build_neighbor_table`."""
        from raymat.features.neighbors import build_neighbor_table

        return build_neighbor_table(crystals, self)

    def join(self, tables: list[Any]) -> "NeighborTable":
        """Join the tables of consecutive parts of a crystal set."""
        from raymat.features.neighbors import concatenate_tables

        return concatenate_tables(tables)

    def holds(self, other: TableConfig) -> bool:
        """Say whether it reaches as far, keeps as many and decides ties alike."""
        return (
            isinstance(other, NeighborConfig)
            and self.ties == other.ties
            and self.cutoff >= other.cutoff
            and self.max_neighbors >= other.max_neighbors
        )

    def union(self, other: TableConfig) -> "NeighborConfig | None":
        """Give the smallest configuration that holds both."""
        if not isinstance(other, NeighborConfig) or self.ties != other.ties:
            return None
        return NeighborConfig(
            ties=self.ties,
            cutoff=max(self.cutoff, other.cutoff),
            max_neighbors=max(self.max_neighbors, other.max_neighbors),
        )

    def forecast_bytes(self, crystals: CrystalSet) -> int:
        """Give the memory of the table: 6 bytes for every place of every atom."""
        return 6 * self.max_neighbors * len(crystals.atomic_numbers)


@dataclass(frozen=True)
class NeighborTable(FeatureTable):
    """Neighbors as rows; crystal i owns rows ``offsets[i]:offsets[i + 1]``.

    Attributes:
        offsets: (n_crystals + 1,) int64, first atom of each crystal.
        atomic_numbers: (n_atoms,) uint8.
        indices: (n_atoms, max_neighbors) uint16, counted inside the crystal; 0 where missing.
        distances: (n_atoms, max_neighbors) float32 Å; +inf where there is no further neighbor.
        n_ambiguous: (n_crystals,) int32, sites whose last kept shell is cut by the cap.
        config: cutoff and cap that the table was built with.
    """

    dtypes: ClassVar[dict[str, str]] = {
        "offsets": "<i8",
        "atomic_numbers": "|u1",
        "indices": "<u2",
        "distances": "<f4",
        "n_ambiguous": "<i4",
    }
    running: ClassVar[frozenset[str]] = frozenset({"offsets"})

    config: NeighborConfig
    offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    indices: NDArray[np.uint16]
    distances: NDArray[np.float32]
    n_ambiguous: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """(n_crystals,) atoms per cell."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Give the table of the crystals `rows`, in this order."""
        counts = self.n_sites[rows]
        atoms = ranges(self.offsets[rows], counts)
        return replace(
            self,
            offsets=offsets_of(counts),
            atomic_numbers=self.atomic_numbers[atoms],
            indices=self.indices[atoms],
            distances=self.distances[atoms],
            n_ambiguous=self.n_ambiguous[rows],
        )

    def count_isolated(self, cutoff: float) -> NDArray[np.int64]:
        """Count (n_crystals,) the atoms without any neighbor within a cutoff (Å), up to its own."""
        is_alone = self.distances.min(axis=1) > np.float32(cutoff)
        return np.diff(offsets_of(is_alone)[self.offsets])

    def facts(self) -> dict[str, Any]:
        """Give what a run says of its graphs: size, sites that stand alone or have ties."""
        return {
            **super().facts(),
            "n_atoms": len(self.atomic_numbers),
            "isolated_sites": int(self.count_isolated(self.config.cutoff).sum()),
            "ambiguous_sites": int(self.n_ambiguous.sum()),
            "ambiguous_crystals": int((self.n_ambiguous > 0).sum()),
        }

    def line(self) -> str:
        """Give one line for people on the graphs."""
        tied = int((self.n_ambiguous > 0).sum())
        n_isolated = int(self.count_isolated(self.config.cutoff).sum())
        isolated = f" ({n_isolated:,} without any)" if n_isolated else ""
        ties = f"; {tied:,} crystals have tied neighbors at the cut" if tied else ""
        return (
            f"graphs: {self.config.max_neighbors} neighbors within {self.config.cutoff:g} Å of"
            f" {len(self.atomic_numbers):,} atoms{isolated}, {self.nbytes / 1e6:.3g} MB{ties}"
        )
