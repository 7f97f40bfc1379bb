"""What a source states about a structure, compared with the sites that were read."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import gcd, isclose
from typing import Any

import numpy as np

from raymat.data.raw import ParsedStructure
from raymat.errors import DataError
from raymat.text import quoted

CONTRADICTION = "contradicts itself"
UNKNOWN_ELEMENT = "unknown element"
GROUP_NAMES = ("RE", "TM")
"""Rare earth and transition metal, not rhenium and thulium unless a formula says so."""

_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.(\d*))?|\.(\d+))(?:[eE][+-]?\d+)?)(?:\((\d*)\)?)?\s*")
_PART = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)(?:\(\d*\))?")
_FORMULAS = (
    "formula",
    "formula_pretty",
    "pretty_formula",
    "reduced_formula",
    "full_formula",
    "chemical_formula",
)
_COUNTS = ("nsites", "natoms")
_LARGEST = 1e6  # atoms of one element in a formula
_EXACT = 1e-6  # of counts that are whole numbers
_VOLUME = 0.01  # cell lengths of three digits give a volume to 0.5 %
_MASS = 0.05  # density and weight: isotopes and older atomic masses; a lost atom changes more
_DEUTERIUM = 2.014  # g/mol
_DENSITY = 1.66054  # g/mol per Å^3 in g/cm^3


class UnusableError(DataError):
    """A structure that cannot be used; the message is the reason, ``kind: detail``."""


@dataclass(frozen=True)
class Number:
    """A number as text gives it.

    Attributes:
        value: the number.
        spread: half a unit of its last digit, or three standard uncertainties, ``5.62(1)``.
    """

    value: float
    spread: float


@dataclass(frozen=True)
class Formula:
    """A chemical formula.

    Attributes:
        text: as the source gives it.
        counts: element -> atoms; deuterium counts as hydrogen.
        spreads: element -> rounding of a count that has decimals.
    """

    text: str
    counts: Mapping[str, float]
    spreads: Mapping[str, float]

    @property
    def size(self) -> float:
        """Atoms in the formula."""
        return sum(self.counts.values())

    @property
    def divisor(self) -> int:
        """How often the formula holds its reduced formula; 1 where counts have decimals."""
        return 1 if self.spreads else gcd(*(round(n) for n in self.counts.values()))


@dataclass(frozen=True)
class Stated:
    """What a source states of one structure; None for what it does not state."""

    formula: Formula | None = None
    units: float | None = None  # Z, formulas in the cell
    n_sites: int | None = None
    volume: Number | None = None  # Å^3
    density: Number | None = None  # g/cm^3
    weight: Number | None = None  # g/mol of the formula


@lru_cache(maxsize=4096)
def read_number(text: str) -> Number | None:
    """Return the number in text such as ``5.62(1)``; None for anything else."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    unit = 10.0 ** -len(found[2] or found[3] or "")
    spread = 3.0 * int(found[4]) * unit if found[4] else 0.5 * unit
    return Number(float(found[1]), spread)


@lru_cache(maxsize=1024)
def read_formula(text: str) -> Formula | None:
    """Return the formula in text such as ``Al2 O3``; None for what cannot be read as one."""
    parts = _PART.findall(text)
    if not parts or re.sub(r"[\s,]", "", _PART.sub("", text)):
        return _bracketed(text)
    counts: Counter[str] = Counter()
    spreads: dict[str, float] = {}
    for symbol, number in parts:
        if symbol not in masses() or number == ".":
            return None
        symbol = _element(symbol)
        counts[symbol] += float(number or 1)  # type: ignore[assignment]
        if not isclose(float(number or 1) % 1.0, 0.0):
            spreads[symbol] = 10.0 ** -len(number.partition(".")[2])
    return _formula(text, counts, spreads)


def contradiction(structure: ParsedStructure, stated: Stated) -> str:
    """Return the reason why a structure is not what its source states, "" where it is."""
    counts = Counter(map(symbol_of, structure.atomic_numbers.tolist()))
    problem = ""
    if stated.n_sites is not None and stated.n_sites != len(structure.atomic_numbers):
        problem = (
            f"the stated number of atoms is {stated.n_sites}, its sites are {_written(counts)}"
        )
    elif stated.formula is not None:
        problem = _formula_problem(counts, stated.formula, stated.units)
    if not problem and (stated.volume or stated.density or stated.weight):
        volume = abs(float(np.linalg.det(structure.lattice)))
        mass = sum(n * masses().get(symbol, 0.0) for symbol, n in counts.items())
        problem = _amount_problem(stated, volume, mass)
    return f"{CONTRADICTION}: {problem}" if problem else ""


def confirms(structure: ParsedStructure, stated: Stated) -> bool:
    """Return whether formula and formula units are stated and give every atom of the sites."""
    if stated.formula is None or stated.units is None:
        return False
    return not contradiction(structure, Stated(stated.formula, stated.units))


def contradiction_beside(structure: ParsedStructure, values: Mapping[str, Any]) -> str:
    """Return why a structure is not what values beside it say, such as ``formula``, ``nsites``.

    Formulas are compared by their ratios: they may be those of another cell.
    """
    for name in _COUNTS:
        n_sites = values.get(name)
        if isinstance(n_sites, int | float) and not isinstance(n_sites, bool):
            problem = contradiction(structure, Stated(n_sites=int(n_sites)))
            if problem:
                return problem
    for name in _FORMULAS:
        text = values.get(name)
        formula = read_formula(text) if isinstance(text, str) else None
        if formula is not None:
            ratio = {symbol: n / formula.divisor for symbol, n in formula.counts.items()}
            problem = contradiction(structure, Stated(replace(formula, counts=ratio)))
            if problem:
                return problem
    return ""


def not_periodic(pbc: Iterable[Any]) -> str:
    """Return why a cell that does not repeat in all directions is no crystal, "" if it does."""
    axes = [bool(axis) for axis in pbc]
    if len(axes) == 3 and all(axes):
        return ""
    found = " ".join("T" if axis else "F" for axis in axes)
    return f"not periodic: pbc is {found}, a crystal repeats in three directions"


def _formula_problem(counts: Counter[str], formula: Formula, units: float | None) -> str:
    times = sum(counts.values()) / formula.size
    spread = sum(formula.spreads.values()) / formula.size
    for symbol in {*counts, *formula.counts}:
        wanted = times * formula.counts.get(symbol, 0.0)
        allowed = times * formula.spreads.get(symbol, 0.0) + wanted * spread + _EXACT
        if abs(counts.get(symbol, 0) - wanted) > allowed:
            return f"the formula is {quoted(formula.text)}, its sites are {_written(counts)}"
    if units is None:
        is_whole = formula.spreads or (times > 0.5 and abs(times - round(times)) < _EXACT * times)
        return "" if is_whole else _count_problem(counts, formula, "a whole number of")
    # pymatgen writes the formula of the cell, and how often the cell holds the reduced one.
    is_cell = isclose(times, 1.0) and isclose(formula.divisor % units, 0.0)
    is_close = isclose(times, units, rel_tol=spread + _EXACT)
    return "" if is_close or is_cell else _count_problem(counts, formula, f"Z = {units:g}")


def _count_problem(counts: Counter[str], formula: Formula, units: str) -> str:
    return f"its sites are {_written(counts)}, not {units} formula units {quoted(formula.text)}"


def _amount_problem(stated: Stated, volume: float, mass: float) -> str:
    """Compare volume, density, and the weight where no formula is stated."""
    if stated.volume and not _agree(stated.volume, volume, _VOLUME):
        return f"the cell volume is {stated.volume.value:g} Å^3, its lattice has {volume:.6g} Å^3"
    density = mass / volume * _DENSITY if volume else 0.0
    per_litre = density * 1000.0  # some write kg/m^3
    if stated.density and not any(
        _agree(stated.density, found, _MASS) for found in (density, per_litre)
    ):
        given = f"the calculated density is {stated.density.value:g} g/cm^3"
        return f"{given}, its sites have {density:.4g} g/cm^3"
    if stated.weight and stated.units and stated.formula is None:
        weight = mass / stated.units
        if not _agree(stated.weight, weight, _MASS):
            return f"the formula weighs {stated.weight.value:g} g/mol, its sites {weight:.5g} g/mol"
    return ""


def _agree(stated: Number, found: float, share: float) -> bool:
    return abs(stated.value - found) <= share * abs(found) + stated.spread


def _bracketed(text: str) -> Formula | None:
    """Read a formula with brackets, such as ``Mg(OH)2``."""
    from pymatgen.core import Composition

    if not re.fullmatch(r"[A-Za-z0-9.()\[\]\s]+", text) or not re.search(r"[(\[]", text):
        return None
    try:
        amounts = Composition(text.replace("[", "(").replace("]", ")")).get_el_amt_dict()
    except (ValueError, TypeError, LookupError):
        return None
    counts: Counter[str] = Counter()
    for symbol, amount in amounts.items():
        counts[_element(symbol)] += amount
    is_exact = all(isclose(n, round(n)) for n in counts.values())
    return _formula(text, counts, {} if is_exact else dict.fromkeys(counts, 0.01))


def _formula(text: str, counts: Counter[str], spreads: dict[str, float]) -> Formula | None:
    present = {symbol: float(n) for symbol, n in counts.items() if 0 < n < _LARGEST}
    if not present or not set(present) <= set(masses()):
        return None
    return Formula(" ".join(text.split()), present, spreads)


def _element(symbol: str) -> str:
    return "H" if symbol == "D" else symbol


def _written(counts: Counter[str]) -> str:
    return " ".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))


@cache
def masses() -> dict[str, float]:
    """Return g/mol of every element's symbol, and of ``D``."""
    from pymatgen.core import Element

    found = {Element.from_Z(z).symbol: float(Element.from_Z(z).atomic_mass) for z in range(1, 119)}
    return {**found, "D": _DEUTERIUM}


@cache
def symbol_of(number: int) -> str:
    """Return the symbol of an atomic number; ``X`` for what is no element."""
    from pymatgen.core import Element

    return str(Element.from_Z(number).symbol) if 1 <= number <= 118 else "X"
