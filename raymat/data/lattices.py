"""Cells as a search for neighbors needs them: reduced where they are sheared, and bounded.

What a search takes grows with the cells it has to look through. A cell of little volume can have
vectors of thousands of Å, a wide one is cut into millions of boxes, and atoms on one spot are all
neighbors of each other. So sheared cells are reduced first, wide searches use wider boxes, and
what is beyond any crystal is named before anything is allocated.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Found = tuple[Ints, Ints, Floats, Floats]

_PERIODIC = np.ones(3, dtype=np.int64)
# Of the lengths' product over the volume. Reduced cells stay below 3, cells of databases mostly
# below 10: these are searched as they are given.
_SHEARED = 20.0
_LARGEST_REACH = 15.0  # Å; no model looks farther
_LARGEST_BLOCK = 5e8  # Å3, of the cell and what is around it: 800 Å cubed
_MOST_BOXES = 1_000_000  # 250 bytes each
_TOLERANCE = 1e-8  # Å, of the search
_BOX = 4.0  # Å; a cube of 64 Å3 holds 11 atoms of diamond, 30 of hydrogen at 100 GPa
_MOST_IN_BOX = 128
_FEW_ATOMS = 1000  # so many are searched wherever they stand


def reduce_lattices(lattices: Floats, *, always: bool = False) -> tuple[Floats, Floats]:
    """Reduce the sheared ones among (n, 3, 3) lattices (Lenstra, Lenstra & Lovász).

    Args:
        lattices: Å, with volume.
        always: whether to reduce the others, too.

    Returns:
        (n, 3, 3) Å, and (n, 3, 3) whole numbers: the rows of a new lattice in terms of the given
        one's. Lattices that are not sheared are given back bit by bit.
    """
    from pymatgen.core import Lattice

    reduced = np.ascontiguousarray(lattices, dtype=np.float64).copy()
    bases = np.tile(np.eye(3), (len(lattices), 1, 1))
    lengths = np.linalg.norm(reduced, axis=2).prod(axis=1)
    limit = 0.0 if always else _SHEARED
    for row in np.flatnonzero(lengths > limit * np.abs(np.linalg.det(reduced))):
        lattice = Lattice(reduced[row])
        reduced[row], bases[row] = lattice.lll_matrix, np.rint(lattice.lll_mapping)
    return reduced, bases


def wrap(frac: Floats, basis: Floats) -> tuple[Floats, Floats]:
    """Bring (n, 3) fractional coordinates into a cell, see `reduce_lattices`.

    Args:
        frac: in the given lattice.
        basis: (3, 3) or (n, 3, 3) the cell's vectors in terms of the given ones.

    Returns:
        (n, 3) in [0, 1) of the cell, and (n, 3) whole cells taken away.
    """
    if not np.array_equal(basis, np.broadcast_to(np.eye(3), basis.shape)):
        inverse = np.rint(np.linalg.inv(basis))
        frac = np.einsum("...i,...ij->...j", frac, inverse)
    shifts = np.floor(frac)
    return frac - shifts, shifts


def cell_problem(lattice: Floats, frac: Floats) -> str:
    """Say why a crystal cannot be searched for neighbors, in one line; "" if it can.

    Args:
        lattice: (3, 3) Å, finite and with volume.
        frac: (n_atoms, 3).
    """
    return size_problem(lattice) or density_problem(lattice, frac)


def size_problem(lattice: Floats) -> str:
    """Say why a cell is too large to be searched; "" if it is not."""
    lengths = np.linalg.norm(reduce_lattices(lattice[None])[0][0], axis=1)
    if (lengths + 2 * _LARGEST_REACH).prod() <= _LARGEST_BLOCK:
        return ""
    sides = " × ".join(f"{length:.4g}" for length in lengths)
    return f"cell too large: {sides} Å, far beyond any crystal or slab"


def density_problem(lattice: Floats, frac: Floats) -> str:
    """Say where too many atoms stand close to each other to be searched; "" if nowhere."""
    if len(frac) <= _FEW_ATOMS:
        return ""
    (reduced,), (basis,) = reduce_lattices(lattice[None])
    boxes = np.floor(wrap(frac, basis)[0] @ reduced / _BOX).astype(np.int64)
    fullest = np.unique(boxes, axis=0, return_counts=True)[1].max()
    if fullest <= _MOST_IN_BOX:
        return ""
    return f"atoms too dense: {fullest} in a cube of {_BOX:g} Å, far beyond any crystal"


def cells_to_look_at(lattices: Floats, n_sites: Ints) -> Ints:
    """Give the rows of (n, 3, 3) lattices of which `cell_problem` may have something to say."""
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(lattices, axis=2)
        is_large = (lengths + 2 * _LARGEST_REACH).prod(axis=1) > _LARGEST_BLOCK
    rows: Ints = np.flatnonzero(is_large | (n_sites > _FEW_ATOMS)).astype(np.int64)
    return rows


def needs_wide_boxes(lattices: Floats, radii: Floats | float) -> Any:
    """Say of (n, 3, 3) or one of them whether boxes of the radius (Å) may be too many."""
    sides = np.abs(lattices).sum(axis=-2) + 2 * np.asarray(radii)[..., None]
    return sides.prod(axis=-1) > _MOST_BOXES * np.asarray(radii) ** 3


def find_pairs_within(
    points: Floats, centers: Floats, radius: float, lattice: Floats, *, is_wide: bool
) -> Found:
    """Find the periodic images of points around centers, by pymatgen's compiled search.

    Args:
        points: (n_points, 3) Å, in or near the cell.
        centers: (n_centers, 3) Å, some of them.
        radius: Å.
        lattice: (3, 3) Å.
        is_wide: what `needs_wide_boxes` says of them.

    Returns:
        Rows of centers and of points, (n, 3) images of the latter, distances in Å.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    if not is_wide:
        return find_points_in_spheres(points, centers, radius, _PERIODIC, lattice)
    # Few atoms in a wide cell. Boxes as wide as the radius would be too many; turned to the axes,
    # the cell has the smallest block around it.
    turned, turn = np.linalg.qr(lattice.T)
    points, centers, lattice = (
        np.ascontiguousarray(a) for a in (points @ turned, centers @ turned, turn.T)
    )
    block = (np.ptp(centers, axis=0) + 2 * radius).prod()
    wide = max(radius, float(np.cbrt(block / _MOST_BOXES)))
    found = find_points_in_spheres(points, centers, wide, _PERIODIC, lattice)
    near = np.flatnonzero(found[3] <= radius + _TOLERANCE)
    return found[0][near], found[1][near], found[2][near], found[3][near]
