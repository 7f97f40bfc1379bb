"""The text of a unit: read as people write it, compared with another.

``kJ/mol``, ``kJ mol-1``, ``kJ·mol⁻¹`` and ``kJ per mol`` are one unit. Pint knows the units; it
gets nothing but products and small powers of names, for it reads arithmetic as well.
"""

import math
import re
import unicodedata
from functools import cache
from typing import Any

from raymat.errors import DataError

_LOG = re.compile(r"log10\((.+)\)")
_FACTOR = r"[A-Za-zÅµμ_%]+(?:(?:\^|\*\*)?-?\d)?"
# What follows a space after a slash would be ambiguous: J/mol K.
_UNIT = re.compile(rf"(?:{_FACTOR}|1)(?:\s+{_FACTOR})*(?:\s*[*/·]\s*{_FACTOR})*")
_PER = re.compile(r"\s+per\s+")
_POWER = re.compile(r"([A-Za-zÅµμ_%])(?:\^|\*\*)?(-?\d)")
_CLOSE = 1e-9  # of a factor to a whole number, such as 10 kbar in a GPa
_SENTENCE = 4  # words, at least: fewer are a unit that is not understood
_LONGEST = 3  # words of a unit within a sentence: meV per atom


def conversion(found: str, wanted: str, *, where: str) -> tuple[float, float]:
    """Give factor and offset that turn values in one unit into another.

    A mole counts atoms here, so that kJ/mol can be eV/atom.

    Raises:
        DataError: no such unit, or one of another quantity.
    """
    if found == wanted:
        return 1.0, 0.0
    logs = [_LOG.fullmatch(unit) for unit in (found, wanted)]
    if logs[0] and logs[1]:
        return 1.0, math.log10(_factor(logs[0][1], logs[1][1], where))
    if logs[0] or logs[1]:
        raise DataError(f"{where}: {found} and {wanted} are a logarithm and a plain number")
    return _factor(found, wanted, where), 0.0


def is_unit(text: str) -> bool:
    """Say whether a text is a unit, or the logarithm of one."""
    import pint

    logarithm = _LOG.fullmatch(text)
    try:
        _parse(logarithm[1] if logarithm else text)
    except (pint.PintError, ValueError):
        return False
    return True


def is_prose_about(text: str, wanted: str) -> bool:
    """Say whether a text is a sentence in which no other unit of this quantity stands."""
    words = [word.strip(",;:.()[]") for word in text.split()]
    if text == wanted or len(words) < _SENTENCE or is_unit(text):
        return False
    runs = (
        " ".join(words[start:stop])
        for start in range(len(words))
        for stop in range(start + 1, min(start + _LONGEST, len(words)) + 1)
    )
    return not any(_is_other(run, wanted) for run in runs)


def _is_other(text: str, wanted: str) -> bool:
    try:
        return conversion(text, wanted, where="") != (1.0, 0.0)
    except DataError:
        return False


def _factor(found: str, wanted: str, where: str) -> float:
    import pint

    try:
        factor = float(_parse(found).to(_parse(wanted)).magnitude)
    except pint.DimensionalityError:
        raise DataError(f"{where}: {found} is no unit of a quantity in {wanted}") from None
    except (pint.PintError, ValueError):
        raise DataError(f"{where}: {found} is no known unit; expected {wanted}") from None
    nearest = round(factor)
    return float(nearest) if abs(nearest - factor) < _CLOSE * factor else factor


def _parse(unit: str) -> Any:
    plain = unicodedata.normalize("NFKC", unit).replace("\N{MINUS SIGN}", "-")
    plain = _PER.sub("/", plain.strip())
    if plain and not _UNIT.fullmatch(plain):
        raise ValueError(unit)
    product = re.sub(r"\s*([*/·])\s*", r"\1", _POWER.sub(r"\1^\2", plain))
    product = re.sub(r"\s+|·", "*", product)
    return _registry().Quantity(1.0, "" if product == "1" else product)


@cache
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry()
    registry.define("atom = 1/6.02214076e23 mol")
    registry.define("@alias hartree = Ha")
    return registry
