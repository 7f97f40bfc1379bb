"""Space groups and primitive cells, found by spglib."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import Crystal

SYMPREC = 0.1
"""Å; how far an atom may be from where the symmetry wants it."""
_TIGHTER = 0.1  # times symprec, where the looser one fails

CRYSTAL_SYSTEMS = (
    (2, "triclinic"),
    (15, "monoclinic"),
    (74, "orthorhombic"),
    (142, "tetragonal"),
    (167, "trigonal"),
    (194, "hexagonal"),
    (230, "cubic"),
)
"""The last space group number of each crystal system, and its name."""


@dataclass(frozen=True)
class Symmetry:
    """What the symmetry says of a crystal, whichever of its cells is given.

    Attributes:
        spacegroup: 1 to 230.
        orbits: (Z, atoms in the primitive cell) of every crystallographic orbit, sorted.
    """

    spacegroup: int
    orbits: tuple[tuple[int, int], ...]


def find_symmetry(crystal: Crystal, symprec: float = SYMPREC) -> Symmetry | None:
    """Find the symmetry; None where spglib finds none, also at a tenth of `symprec` (Å)."""
    found = _dataset(crystal, symprec)
    if found is None:
        return None
    n_images = len(crystal.atomic_numbers) / len(set(found.mapping_to_primitive.tolist()))
    sizes = Counter(found.crystallographic_orbits.tolist())
    orbits = [(int(crystal.atomic_numbers[a]), round(n / n_images)) for a, n in sizes.items()]
    return Symmetry(int(found.number), tuple(sorted(orbits)))


def find_spacegroup(crystal: Crystal, symprec: float = SYMPREC) -> int:
    """Give the space group number; 0 where spglib finds none."""
    found = _dataset(crystal, symprec)
    return 0 if found is None else int(found.number)


def primitive_cell(crystal: Crystal, symprec: float = SYMPREC) -> Crystal:
    """Give the Niggli-reduced primitive cell, its atoms where they were; the cell itself if none.

    Args:
        crystal: in any cell.
        symprec: Å.
    """
    import spglib

    with _quiet():
        try:
            found = spglib.standardize_cell(
                _cell(crystal), to_primitive=True, no_idealize=True, symprec=symprec
            )
            reduced = None if found is None else spglib.niggli_reduce(found[0])
        except spglib.SpglibError:
            return crystal
    if found is None or reduced is None:
        return crystal
    lattice, coords, numbers = (np.asarray(part) for part in found)
    cell: NDArray[np.float64] = np.asarray(reduced, dtype=np.float64)
    inside = coords @ lattice @ np.linalg.inv(cell)
    return Crystal(crystal.material_id, cell, numbers.astype(np.uint8), inside)


def crystal_system(spacegroup: int) -> str:
    """Give the crystal system of a space group number from 1 to 230."""
    return next(name for last, name in CRYSTAL_SYSTEMS if spacegroup <= last)


def _dataset(crystal: Crystal, symprec: float) -> Any:
    import spglib

    for tolerance in (symprec, _TIGHTER * symprec):
        with _quiet():
            try:
                found = spglib.get_symmetry_dataset(_cell(crystal), symprec=tolerance)
            except spglib.SpglibError:
                continue
        if found is not None:
            return found
    return None


def _cell(crystal: Crystal) -> tuple[Any, Any, Any]:
    return (
        crystal.lattice.tolist(),
        crystal.frac_coords.tolist(),
        crystal.atomic_numbers.tolist(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Let spglib say nothing: a symmetry that it does not find is told by us."""
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code writes to the terminal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its change of error style
        yield
