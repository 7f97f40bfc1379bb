"""Crystals: one crystal, and a set of them held as columns.

A set of 9,000 crystals is six arrays rather than 9,000 objects, so it is shared between
processes without copies and hashed in milliseconds.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Crystal:
    """One ordered periodic crystal.

    Attributes:
        material_id: the identifier it was given by its source.
        lattice: (3, 3) Å, rows are a, b, c.
        atomic_numbers: (n_sites,) Z per site.
        frac_coords: (n_sites, 3) fractional coordinates.
    """

    material_id: str
    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float64]

    def to_structure(self) -> "Structure":
        """Give the pymatgen structure, sites in the same order."""
        from pymatgen.core import Lattice, Structure

        return Structure(Lattice(self.lattice), self.atomic_numbers.tolist(), self.frac_coords)


@dataclass(frozen=True)
class CrystalSet:
    """Crystals as columns; crystal i owns atoms ``offsets[i]:offsets[i + 1]``.

    Attributes:
        material_ids: (n,) object array of str, unique.
        lattices: (n, 3, 3) Å, rows are a, b, c.
        offsets: (n + 1,) int64, first atom of each crystal.
        atomic_numbers: (n_atoms,) uint8.
        frac_coords: (n_atoms, 3).
        properties: one row per crystal, every column the source has besides the structure.
    """

    material_ids: NDArray[np.object_]
    lattices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float64]
    properties: "pd.DataFrame"

    def __len__(self) -> int:
        return len(self.material_ids)

    def __getitem__(self, index: int) -> Crystal:
        start, stop = self.offsets[index], self.offsets[index + 1]
        return Crystal(
            material_id=str(self.material_ids[index]),
            lattice=self.lattices[index],
            atomic_numbers=self.atomic_numbers[start:stop],
            frac_coords=self.frac_coords[start:stop],
        )

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """(n,) atoms per cell."""
        return np.diff(self.offsets)

    def row_of(self, atom: int) -> int:
        """Give the row of the crystal that an atom belongs to."""
        return int(np.searchsorted(self.offsets, atom, side="right")) - 1

    def take(self, rows: NDArray[np.int64]) -> "CrystalSet":
        """Give the crystals of these row numbers, in this order."""
        counts = self.n_sites[rows]
        atoms = ranges(self.offsets[rows], counts)
        return CrystalSet(
            material_ids=self.material_ids[rows],
            lattices=self.lattices[rows],
            offsets=offsets_of(counts),
            atomic_numbers=self.atomic_numbers[atoms],
            frac_coords=self.frac_coords[atoms],
            properties=self.properties.iloc[rows].reset_index(drop=True),
        )

    def without_properties(self) -> "CrystalSet":
        """Give the same crystals, knowing nothing but their structure."""
        return replace(self, properties=self.properties.iloc[:, :0])

    def target(self, name: str) -> NDArray[np.float64]:
        """Give one property column as (n,) float64."""
        return self.properties[name].to_numpy(dtype=np.float64)

    @classmethod
    def from_crystals(
        cls, crystals: list[Crystal], properties: "pd.DataFrame | None" = None
    ) -> "CrystalSet":
        """Join single crystals into a set, in this order."""
        import pandas as pd  # not at the top: models import this module, and must load fast

        counts = np.array([len(c.atomic_numbers) for c in crystals], dtype=np.int64)
        empty = pd.DataFrame(index=range(len(crystals)))
        return cls(
            material_ids=np.array([c.material_id for c in crystals], dtype=object),
            lattices=np.array([c.lattice for c in crystals], dtype=np.float64).reshape(-1, 3, 3),
            offsets=offsets_of(counts),
            atomic_numbers=np.concatenate(
                [np.zeros(0, np.uint8), *[c.atomic_numbers for c in crystals]]
            ).astype(np.uint8),
            frac_coords=np.concatenate([np.zeros((0, 3)), *[c.frac_coords for c in crystals]]),
            properties=empty if properties is None else properties.reset_index(drop=True),
        )


def offsets_of(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Give (n + 1,) where each of n consecutive parts begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64, copy=False)


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join ``arange(start, start + count)`` of every pair into one array, without a loop."""
    total = int(counts.sum())
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    shifts = np.repeat(starts - offsets_of(counts)[:-1], counts)
    joined: NDArray[np.int64] = np.arange(total, dtype=np.int64) + shifts
    return joined
