"""Pairs of atoms closer than a radius, found chunk by chunk over a set of crystals.

The pairs come from pymatgen's compiled linked-cell search, called on arrays. Neighbor tables and
edge tables are both made of them, so both hold the same neighbors at the same distances.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.data.lattices import (
    cell_problem,
    cells_to_look_at,
    find_pairs_within,
    needs_wide_boxes,
    reduce_lattices,
    wrap,
)
from raymat.errors import DataError
from raymat.features.shells import SHELL_GAP, Floats, Ints

# The compiled search is in either, by age.
SEARCH_PACKAGES = ("pymatgen", "pymatgen-core")
MAX_SITES = 65_535  # neighbor indices are uint16
MIN_VOLUME = 1e-3  # Å3; below it the cell is flat
ATOMS_PER_CHUNK = 1024
# Å; more than float32 rounding of the cutoff and more than the search's own tolerance.
SEARCH_SLACK = 1e-5


@dataclass(frozen=True)
class Cells:
    """A chunk of crystals with coordinates wrapped into the cell; rows count inside the chunk.

    Attributes:
        lattices: (n_crystals, 3, 3) Å; of a sheared cell, the reduced one.
        bases: (n_crystals, 3, 3) whole numbers: their vectors in terms of the given ones.
        offsets: (n_crystals + 1,) first atom.
        atomic_numbers: (n_atoms,).
        positions: (n_atoms, 3) Å.
        shifts: (n_atoms, 3) whole cells between the given and the wrapped position.
    """

    lattices: Floats
    bases: Floats
    offsets: Ints
    atomic_numbers: NDArray[np.uint8]
    positions: Floats
    shifts: Ints

    def crystal_of_atoms(self) -> Ints:
        """(n_atoms,) crystal of each atom."""
        return np.repeat(np.arange(len(self.lattices)), np.diff(self.offsets))

    def first_atoms(self) -> Ints:
        """(n_atoms,) row of the first atom in the same crystal."""
        return np.repeat(self.offsets[:-1], np.diff(self.offsets))


@dataclass(frozen=True)
class Pairs:
    """Neighbor pairs in any order.

    Attributes:
        atom: (n,) row in the chunk.
        neighbor: (n,) row in the chunk.
        image: (n, 3) cells between the wrapped positions.
        distance: (n,) Å.
    """

    atom: Ints
    neighbor: Ints
    image: Floats
    distance: Floats

    def take(self, rows: Ints) -> "Pairs":
        """Give the pairs of these row numbers, in this order."""
        return Pairs(self.atom[rows], self.neighbor[rows], self.image[rows], self.distance[rows])

    def within(self, cutoff: float) -> "Pairs":
        """Give the pairs whose distance, rounded to float32 as it is stored, is in the cutoff."""
        return self.take(np.flatnonzero(self.distance.astype(np.float32) <= np.float32(cutoff)))

    def local_neighbors(self, cells: Cells) -> Ints:
        """(n,) index of the neighbor inside its crystal."""
        local: Ints = self.neighbor - cells.first_atoms()[self.atom]
        return local

    def given_images(self, cells: Cells) -> Ints:
        """(n, 3) cells between the positions as they were given, not as they were wrapped."""
        image = np.rint(self.image).astype(np.int64)
        shifted: Ints = image + cells.shifts[self.atom] - cells.shifts[self.neighbor]
        if np.array_equal(cells.bases, np.broadcast_to(np.eye(3), cells.bases.shape)):
            return shifted
        bases = np.rint(cells.bases).astype(np.int64)[cells.crystal_of_atoms()[self.atom]]
        given: Ints = np.einsum("ni,nij->nj", shifted, bases)
        return given


def cell_volumes(lattices: Floats) -> Floats:
    """(n_crystals,) Å3 of (n_crystals, 3, 3) cells; nan where one is not finite."""
    with np.errstate(invalid="ignore"):
        volumes: Floats = np.abs(np.linalg.det(lattices))
    return volumes


def check_cells(crystals: CrystalSet) -> None:
    """Check that every crystal can be searched.

    Raises:
        DataError: a crystal has more than 65535 sites, a cell without volume, values that are not
            finite, or is larger or denser than any crystal (see `cell_problem`).
    """

    def refuse(row: int, found: str) -> DataError:
        return DataError(f"{crystals.material_ids[row]}: {found}; drop the crystal")

    for row in np.flatnonzero(crystals.n_sites > MAX_SITES)[:1]:
        raise refuse(row, f"{crystals.n_sites[row]} sites, at most {MAX_SITES} can be held")
    volumes = cell_volumes(crystals.lattices)
    for row in np.flatnonzero(~(np.isfinite(volumes) & (volumes > MIN_VOLUME)))[:1]:
        raise refuse(row, f"the cell has a volume of {volumes[row]:g} Å3")
    for atom in np.flatnonzero(~np.isfinite(crystals.frac_coords).all(axis=1))[:1]:
        row = crystals.row_of(int(atom))
        found = crystals.frac_coords[atom].tolist()
        raise refuse(row, f"site {atom - crystals.offsets[row]} has coordinates {found}")
    for row in cells_to_look_at(crystals.lattices, crystals.n_sites).tolist():
        crystal = crystals[row]
        problem = cell_problem(crystal.lattice, crystal.frac_coords)
        if problem:
            raise refuse(row, problem)


def chunks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Give (first, past the last) of runs of crystals that hold about 1024 atoms together."""
    first, n_crystals = 0, len(offsets) - 1
    while first < n_crystals:
        fitting = int(np.searchsorted(offsets, offsets[first] + ATOMS_PER_CHUNK, side="right")) - 1
        last = max(fitting, first + 1)
        yield first, last
        first = last


def cut_cells(crystals: CrystalSet, first: int, last: int) -> Cells:
    """Cut out a chunk; wrapped, because the search walks every cell between the given positions."""
    offsets = crystals.offsets[first : last + 1]
    given = crystals.frac_coords[offsets[0] : offsets[-1]].astype(np.float64)
    lattices, bases = reduce_lattices(crystals.lattices[first:last])
    n_sites = np.diff(offsets)
    is_reduced = not np.array_equal(bases, np.broadcast_to(np.eye(3), bases.shape))
    inside, shifts = wrap(given, np.repeat(bases, n_sites, axis=0) if is_reduced else np.eye(3))
    return Cells(
        lattices=lattices,
        bases=bases,
        offsets=offsets - offsets[0],
        atomic_numbers=crystals.atomic_numbers[offsets[0] : offsets[-1]],
        positions=np.einsum("ai,aij->aj", inside, np.repeat(lattices, n_sites, axis=0)),
        shifts=shifts.astype(np.int64),
    )


def find_neighbors(cells: Cells, atoms: Ints, radii: Floats, cutoff: float) -> Pairs:
    """Find the pairs within the radii that are neighbors.

    An image is a neighbor if its distance, rounded to float32 as it is stored, is at most the
    cutoff. The atom itself is not one; its own images are.

    Args:
        cells: the chunk.
        atoms: rows of the atoms to search around, rising.
        radii: (n_crystals,) Å.
        cutoff: Å.
    """
    pairs = find_pairs(cells, atoms, radii)
    is_self = (pairs.atom == pairs.neighbor) & (pairs.distance < SHELL_GAP)
    is_near = pairs.distance.astype(np.float32) <= np.float32(cutoff)
    return pairs.take(np.flatnonzero(is_near & ~is_self))


def find_pairs(cells: Cells, atoms: Ints, radii: Floats) -> Pairs:
    """Find all pairs within the radii, each atom with itself among them."""
    centers = cells.positions[atoms]
    bounds = np.searchsorted(atoms, cells.offsets)
    crystals = np.flatnonzero(np.diff(bounds))
    firsts, cuts, lengths = cells.offsets.tolist(), bounds.tolist(), radii.tolist()
    is_wide = needs_wide_boxes(cells.lattices, radii).tolist()
    found = [
        find_pairs_within(
            cells.positions[firsts[k] : firsts[k + 1]],
            centers[cuts[k] : cuts[k + 1]],
            lengths[k],
            cells.lattices[k],
            is_wide=is_wide[k],
        )
        for k in crystals.tolist()
    ]
    center, neighbor, image, distance = (np.concatenate(part) for part in zip(*found, strict=True))
    crystal = np.repeat(crystals, [len(part[0]) for part in found])
    return Pairs(
        atom=atoms[center + bounds[crystal]],
        neighbor=neighbor + cells.offsets[crystal],
        image=image,
        distance=distance,
    )
