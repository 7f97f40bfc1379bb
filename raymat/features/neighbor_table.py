"""The nearest neighbors of every atom of a crystal set, as plain arrays.

Only indices and distances are kept; Gaussians are expanded on the fly. One table serves every
trial that asks for at most its cutoff and at most its number of neighbors: the rows are in
canonical order (see `neighbors`), so a smaller graph is a slice of a larger one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymat.config import Config


class NeighborConfig(Config):
    """Which neighbors are kept."""

    cutoff: float = Field(8.0, gt=0.0, le=15.0)  # Å
    max_neighbors: int = Field(12, ge=1, le=256)


@dataclass(frozen=True)
class NeighborTable:
    """Neighbors as rows; crystal i owns rows ``offsets[i]:offsets[i + 1]``.

    Attributes:
        offsets: (n_crystals + 1,) int64, first atom of each crystal.
        atomic_numbers: (n_atoms,) uint8.
        indices: (n_atoms, max_neighbors) uint16, counted inside the crystal; 0 where missing.
        distances: (n_atoms, max_neighbors) float32 Å; +inf where there is no further neighbor.
        n_ambiguous: (n_crystals,) int32, sites whose last kept shell is cut by the cap.
        config: cutoff and cap that the table was built with.
    """

    offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    indices: NDArray[np.uint16]
    distances: NDArray[np.float32]
    n_ambiguous: NDArray[np.int32]
    config: NeighborConfig

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        arrays = (
            self.offsets,
            self.atomic_numbers,
            self.indices,
            self.distances,
            self.n_ambiguous,
        )
        return sum(array.nbytes for array in arrays)
