"""What a crystal is made of: reduced formulas and chemical systems, straight from the arrays."""

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet

_BY_NUMBER = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
    Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho
    Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es
    Fm"""
# Which element comes first in a formula: IUPAC Red Book 2005, Table VI, read from its end.
_BY_FORMULA = """
    Rn Xe Kr Ar Ne He Fr Cs Rb K Na Li Ra Ba Sr Ca Mg Be Fm Es Cf Bk Cm Am Pu Np U Pa Th Ac Lu Yb
    Tm Er Ho Dy Tb Gd Eu Sm Pm Nd Pr Ce La Y Sc Hf Zr Ti Ta Nb V W Mo Cr Re Tc Mn Os Ru Fe Ir Rh
    Co Pt Pd Ni Au Ag Cu Hg Cd Zn Tl In Ga Al B Pb Sn Ge Si C Bi Sb As P N H Po Te Se S O At I Br
    Cl F"""

SYMBOLS: tuple[str, ...] = tuple(_BY_NUMBER.split())
"""Element symbols of Z = 1 to 100; the symbol of Z stands at ``Z - 1``."""

_RANK = np.array([0] + [_BY_FORMULA.split().index(symbol) for symbol in SYMBOLS])


def reduced_formulas(crystals: CrystalSet) -> NDArray[np.object_]:
    """Give (n,) reduced formulas such as ``SrTiO3``.

    Counts are divided by their greatest common divisor (so oxygen is ``O``); elements stand in
    IUPAC order. Two crystals have equal strings exactly if they have equal compositions.
    """
    owner, elements, counts = _element_counts(crystals)
    order = np.lexsort((_RANK[elements], owner))
    starts = np.searchsorted(owner, np.arange(len(crystals)))
    divisors = np.gcd.reduceat(counts, starts) if len(counts) else counts
    reduced = (counts // divisors[owner])[order]
    formulas = [""] * len(crystals)
    for i, z, n in zip(owner.tolist(), elements[order].tolist(), reduced.tolist(), strict=True):
        formulas[i] += SYMBOLS[z - 1] + (str(n) if n > 1 else "")
    return np.array(formulas, dtype=object)


def chemical_systems(crystals: CrystalSet) -> NDArray[np.object_]:
    """Give (n,) sets of elements as ``Li-O-P``, symbols in alphabetical order."""
    owner, elements, _ = _element_counts(crystals)
    symbols: list[list[str]] = [[] for _ in range(len(crystals))]
    for i, z in zip(owner.tolist(), elements.tolist(), strict=True):
        symbols[i].append(SYMBOLS[z - 1])
    return np.array(["-".join(sorted(names)) for names in symbols], dtype=object)


def element_totals(crystals: CrystalSet) -> dict[str, int]:
    """Count the crystals that hold each element, in order of Z."""
    _, elements, _ = _element_counts(crystals)
    found, counts = np.unique(elements, return_counts=True)
    return {SYMBOLS[z - 1]: int(n) for z, n in zip(found.tolist(), counts, strict=True)}


def _element_counts(
    crystals: CrystalSet,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give crystal, Z and number of atoms for every element of every crystal, sorted."""
    owner = np.repeat(np.arange(len(crystals), dtype=np.int64), crystals.n_sites)
    keys, counts = np.unique(owner * 256 + crystals.atomic_numbers, return_counts=True)
    return keys // 256, keys % 256, counts.astype(np.int64)
