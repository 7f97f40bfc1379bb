"""Units of property columns: what a column says of itself, against what raymat keeps.

A column says its unit in its name, ``K_VRH (kbar)``, in its values, ``500 meV``, in a row of units,
or in a Parquet file's metadata. The unit of `raymat.properties` is taken as it is; any other, and
what is not understood, is refused until ``--unit K_VRH=kbar`` says it, for nobody should find out
later that numbers were changed, or were not.
"""

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.files.unit_text import conversion, is_prose_about, is_unit
from raymat.errors import ConfigError, DataError, did_you_mean
from raymat.properties import PROPERTIES

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER = re.compile(r"(\S.*?)\s*[(\[](.+)[)\]]\s*")
_VALUE = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")
_CLOSE = 1e-9  # of a factor to a whole number, such as 10 kbar in a GPa


@dataclass(frozen=True)
class ColumnUnit:
    """How a column becomes one of ours.

    Attributes:
        name: the property, without a unit.
        factor: what values are multiplied with.
        offset: what is added afterwards: a logarithm's unit is changed so.
        is_text: whether values are words such as ``3.2 eV``.
        note: what a user should know about it, "" for nothing.
    """

    name: str
    factor: float = 1.0
    offset: float = 0.0
    is_text: bool = False
    note: str = ""

    def apply(self, column: "pa.ChunkedArray") -> "pa.ChunkedArray":
        """Give the numbers in raymat's unit; an untouched column as it is."""
        import pyarrow as pa

        if not self.is_text and (self.factor, self.offset) == (1.0, 0.0):
            return column
        cells = column.to_pylist()
        values = np.array([_number(c) for c in cells], dtype=np.float64)
        return pa.chunked_array([pa.array(self._convert(values), from_pandas=True)])

    def _convert(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        # 157 kbar are 15.7 GPa: dividing by 10 rounds once, multiplying by 0.1 twice.
        inverse = round(1.0 / self.factor)
        if abs(inverse * self.factor - 1.0) < _CLOSE:
            return values / inverse + self.offset
        return values * self.factor + self.offset


def parse_unit_options(options: Iterable[str]) -> dict[str, str]:
    """Give property -> unit of ``--unit NAME=UNIT``.

    Raises:
        ConfigError: an option reads differently, or names what raymat keeps no unit for.
    """
    given = {}
    for option in options:
        name, _, unit = (part.strip() for part in option.partition("="))
        if not name or not unit:
            raise ConfigError(f"--unit {option}: expected NAME=UNIT, such as K_VRH=kbar")
        if name not in PROPERTIES:
            hint = did_you_mean(name, PROPERTIES)
            raise ConfigError(f"--unit {option}: raymat keeps no unit for '{name}'{hint}")
        conversion(unit, PROPERTIES[name].unit, where=f"--unit {option}")
        given[name] = unit
    return given


def split_header(name: str) -> tuple[str, str]:
    """Give property and unit of a header such as ``K_VRH (GPa)``; of any other, itself and ""."""
    found = _HEADER.fullmatch(name)
    return (found[1], found[2].strip()) if found and found[1] in PROPERTIES else (name, "")


def plan_columns(
    names: Iterable[str],
    *,
    declared: Mapping[str, str],
    texts: Mapping[str, Mapping[str, str]],
    given: Mapping[str, str],
    where: str,
    is_metadata: bool = False,
    option: str = "--unit",
) -> dict[str, ColumnUnit]:
    """Decide how every column is brought into raymat's units.

    Args:
        names: of the columns.
        declared: column -> unit that stands beside it.
        texts: column -> unit that follows numbers in its cells ("" for none) -> such a cell.
        given: property -> unit, from ``--unit``.
        where: the file, for a message.
        is_metadata: whether `declared` is a Parquet file's metadata, which may be a sentence.
        option: what says a unit, for a message.

    Raises:
        DataError: a unit is unknown, another one than raymat's, or not the same throughout; two
            columns would have one name.
    """
    plans: dict[str, ColumnUnit] = {}
    for column in names:
        name, header = split_header(column)
        in_cells = texts.get(column, {})
        found = header or declared.get(column, "")
        is_text = set(in_cells) not in (set(), {""})
        at = f"{where}: column '{column}'"
        note = "" if header or not is_metadata else _prose_note(name, found, given, at)
        found = "" if note else found
        if is_text:
            found = _unit_of_cells(in_cells, found, at)
        is_known = name in PROPERTIES
        plan = _plan(name, found, given.get(name), at, option) if is_known else (1.0, 0.0)
        plans[column] = ColumnUnit(name, *plan, is_text=is_text and is_known, note=note)
    _refuse_equal_names(plans, where)
    return plans


def collect_text_units(cells: Iterable[str | None], seen: dict[str, str]) -> None:
    """Note the units that follow numbers in these cells, each with the first cell that has it."""
    for cell in cells:
        found = _VALUE.fullmatch(cell) if cell else None
        if cell and found:
            seen.setdefault(found[2] or "", cell)


def _number(cell: Any) -> float:
    if isinstance(cell, str):
        found = _VALUE.fullmatch(cell)
        return float(found[1]) if found else math.nan
    return math.nan if cell is None else float(cell)


def _unit_of_cells(in_cells: Mapping[str, str], header: str, where: str) -> str:
    units = {unit or header: cell for unit, cell in in_cells.items()}
    if header:
        units.setdefault(header, f"the header's {header}")
    if len(units) > 1:
        shown = ", ".join(repr(cell) for cell in list(units.values())[:3])
        raise DataError(f"{where} mixes units: {shown}; write one unit throughout")
    return next(iter(units))


def _prose_note(name: str, found: str, given: Mapping[str, str], where: str) -> str:
    """Say how metadata that is a sentence is taken, "" where it is a unit or should be one."""
    if name not in PROPERTIES or not is_prose_about(found, PROPERTIES[name].unit):
        return ""
    unit = given.get(name) or PROPERTIES[name].unit or "a pure number"
    return f"{where} says of its unit {found!r}: taken as {unit}"


def _plan(name: str, found: str, given: str | None, where: str, option: str) -> tuple[float, float]:
    """Give factor and offset for a property that says `found` of itself ("" for nothing)."""
    wanted = PROPERTIES[name].unit
    kept = f"raymat keeps {name} in {wanted or 'no unit'}"
    if found != wanted and found and not is_unit(found):
        if given is None:
            ask = f"{option} {name}={'UNIT' if wanted else '1'}"
            raise DataError(f"{where} is in {found!r}, no known unit; {kept}; say it: {ask}")
        found = ""  # nobody knows what it is but the user, who has said so
    if given is None:
        if not found or conversion(found, wanted, where=where) == (1.0, 0.0):
            return 1.0, 0.0
        shown = shlex.quote(f"{name}={found}")
        raise DataError(f"{where} is in {found}, {kept}; {option} {shown} converts it")
    if found and conversion(found, given, where=where) != (1.0, 0.0):
        raise DataError(f"{where} is in {found}, but --unit says {given}; leave one of them out")
    return conversion(given, wanted, where=where)


def _refuse_equal_names(plans: Mapping[str, ColumnUnit], where: str) -> None:
    names = [plan.name for plan in plans.values()]
    equal = [name for name in names if names.count(name) > 1]
    if equal:
        raise DataError(f"{where}: {names.count(equal[0])} columns are '{equal[0]}'; keep one")
