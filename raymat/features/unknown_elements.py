"""Elements that a model was not made for, found in crystals and named for people."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from raymat.data.composition import SYMBOLS
from raymat.data.crystals import CrystalSet


def elements_by_row(
    crystals: CrystalSet, is_meant: NDArray[np.bool_]
) -> dict[int, tuple[int, ...]]:
    """Give the elements of some atoms, ascending, by the row of their crystal.

    Args:
        crystals: all crystals.
        is_meant: (n_atoms,) which atoms.
    """
    found: dict[int, set[int]] = {}
    for atom in np.flatnonzero(is_meant):
        elements = found.setdefault(crystals.row_of(int(atom)), set())
        elements.add(int(crystals.atomic_numbers[atom]))
    return {row: tuple(sorted(elements)) for row, elements in found.items()}


def name_elements(atomic_numbers: Iterable[int]) -> str:
    """Name elements: ``O, Ti and Sr``."""
    names = [SYMBOLS[z - 1] if z <= len(SYMBOLS) else f"element {z}" for z in atomic_numbers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
