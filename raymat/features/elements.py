"""Fixed vectors that describe an element: one-hot blocks of its tabulated properties.

All nine blocks together are the 92 numbers of the CGCNN authors' element table (Xie & Grossman,
Phys. Rev. Lett. 2018, 120, 145301, supplement Table S-II), digit for digit, so that their
published weights can be used. Measured values stand in ``element_properties.csv`` (mendeleev
1.3.0, MIT; see tools/make_element_table.py); group, period, valence and block follow from Z.
"""

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymat.errors import UnknownElementError

ElementFeatures = Literal["properties_2", "properties_3", "properties_9"]

MAX_ATOMIC_NUMBER = 100
NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86)  # Z before the first element of each period


@dataclass(frozen=True)
class ElementProperties:
    """Measured properties of one element; None where no value is known.

    Attributes:
        symbol: chemical symbol.
        electronegativity: Pauling scale.
        covalent_radius_pm: Pyykkö's single-bond radius.
        ionisation_energy_ev: first ionisation energy.
        electron_affinity_ev: positive where the anion is bound.
        atomic_volume_cm3_mol: molar volume of the element.
    """

    symbol: str
    electronegativity: float | None
    covalent_radius_pm: float | None
    ionisation_energy_ev: float | None
    electron_affinity_ev: float | None
    atomic_volume_cm3_mol: float | None


BLOCKS = {  # name: length, in the order of the vector
    "group": 19,
    "period": 7,
    "electronegativity": 10,
    "covalent_radius": 10,
    "valence_electrons": 12,
    "ionisation_energy": 10,
    "electron_affinity": 10,
    "block": 4,
    "atomic_volume": 10,
}
# The supplement's Table S-I searches over 2, 3 or 10 properties without naming them. Group and
# period alone tell all elements outside the f block apart; electronegativity comes third.
CHOSEN: dict[str, tuple[str, ...]] = {
    "properties_2": ("group", "period"),
    "properties_3": ("group", "period", "electronegativity"),
    "properties_9": tuple(BLOCKS),
}


@cache
def element_features(kind: ElementFeatures = "properties_9") -> NDArray[np.float32]:
    """Give the read-only table of element vectors.

    Args:
        kind: how many property blocks: 2 (group, period: 26 numbers), 3 (and
            electronegativity: 36) or 9 (the CGCNN table: 92).

    Returns:
        (101, n): row Z describes element Z; row 0 is zero. A block is one-hot, or zero where the
        property is unknown or out of range.
    """
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, sum(BLOCKS[name] for name in CHOSEN[kind])))
    for z in range(1, MAX_ATOMIC_NUMBER + 1):
        categories = element_categories(z)
        offset = 0
        for name in CHOSEN[kind]:
            category = categories[name]
            if category is not None:
                table[z, offset + category] = 1.0
            offset += BLOCKS[name]
    features = table.astype(np.float32)
    features.setflags(write=False)
    return features


def check_elements(atomic_numbers: ArrayLike, *, where: str) -> None:
    """Check that every element has a vector.

    Args:
        atomic_numbers: Z of any number of sites.
        where: what to call the crystal or file in the message.

    Raises:
        UnknownElementError: Z is below 1 or above 100.
    """
    z = np.unique(np.asarray(atomic_numbers, dtype=np.int64))
    unknown = tuple(z[(z < 1) | (z > MAX_ATOMIC_NUMBER)].tolist())
    if unknown:
        raise UnknownElementError(
            f"{where}: no element features for atomic number {', '.join(map(str, unknown))}; "
            f"known are 1 to {MAX_ATOMIC_NUMBER}; drop the crystals that hold it",
            atomic_numbers=unknown,
        )


def element_categories(z: int) -> dict[str, int | None]:
    """Give the place of the one in each block of element `z` (1-100), None where there is none."""
    known = element_properties()[z]
    return {
        "group": group(z),
        "period": period(z) - 1,
        "electronegativity": _bin(known.electronegativity, 0.5, 4.0),
        "covalent_radius": _bin(known.covalent_radius_pm, 25.0, 250.0),
        "valence_electrons": valence_electrons(z) - 1,
        "ionisation_energy": _bin(_log(known.ionisation_energy_ev), 1.3, 3.3),
        "electron_affinity": _bin(known.electron_affinity_ev, -3.0, 3.7),
        "block": "spdf".index(block(z)),
        "atomic_volume": _bin(_log(known.atomic_volume_cm3_mol), 1.5, 4.3),
    }


@cache
def element_properties() -> dict[int, ElementProperties]:
    """Read the shipped table: measured properties by Z, 1-100."""
    text = files("raymat.features").joinpath("element_properties.csv").read_text(encoding="utf-8")
    table = {}
    for row in csv.DictReader(text.splitlines()):
        z, symbol = int(row.pop("atomic_number")), row.pop("symbol")
        values = {name: float(cell) if cell else None for name, cell in row.items()}
        table[z] = ElementProperties(symbol=symbol, **values)
    return table


def period(z: int) -> int:
    """Give the period, 1-7; f elements keep theirs."""
    return sum(z > noble for noble in NOBLE_GASES)


def group(z: int) -> int:
    """Give the group, 1-18, and 0 for the f elements; Lu and Lr are in group 3."""
    if _is_f(z):
        return 0
    if z == 2:
        return 18
    place = z - NOBLE_GASES[period(z) - 1]
    if place <= 2:
        return place
    missing = {2: 10, 3: 10, 4: 0, 5: 0, 6: -14, 7: -14}  # groups 3-12, or the f elements passed
    return place + missing[period(z)]


def valence_electrons(z: int) -> int:
    """Give the valence count of the CGCNN table: 2 for He and f elements, and 12 for Pd."""
    if z == 2 or _is_f(z):
        return 2
    if z == 46:  # an oddity of the table; 10 would be expected
        return 12
    return group(z) if group(z) <= 12 else group(z) - 10


def block(z: int) -> str:
    """Give ``s``, ``p``, ``d`` or ``f``."""
    if _is_f(z):
        return "f"
    if z == 2 or group(z) <= 2:
        return "s"
    return "d" if group(z) <= 12 else "p"


def _is_f(z: int) -> bool:
    return 57 <= z <= 70 or 89 <= z <= 102


def _log(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def _bin(value: float | None, low: float, high: float) -> int | None:
    """Number the ten equal bins of (low, high], each open on the left and closed on the right.

    Si, Mn, Cu and others lie exactly on an edge, so the edges are the floats of the CGCNN
    authors' own range, rounding included.
    """
    if value is None or not low < value <= high:
        return None
    edges = np.append(np.arange(low, high, (high - low) / 10), high)
    return int(np.count_nonzero(edges < value)) - 1
