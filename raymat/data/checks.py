"""What makes a row unusable, and why: every row of every source passes here.

A reason reads ``kind: detail``; rows are counted by kind.
"""

import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.distances import find_close_atoms
from raymat.data.files.units import plan_columns, split_header
from raymat.data.lattices import cells_to_look_at, density_problem, size_problem
from raymat.data.raw import RawCrystals
from raymat.errors import DataError, did_you_mean
from raymat.properties import PROPERTIES, ZERO_ONE, Property, find_property, logarithm_of
from raymat.text import plain, quoted

MAX_ATOMIC_NUMBER = 100  # the element features end at Fm
_MIN_VOLUME = 1e-3  # Å^3; below it rows of the lattice are parallel or zero
_LARGEST = 1e6  # Å, or fractional; a larger number has lost its digits
_SHOWN = 60  # characters of an offending value in a message
_MOST_CLASSES = 12  # different words of a column that are called classes rather than text


@dataclass(frozen=True)
class Checked:
    """The verdict on every row.

    Attributes:
        reasons: (n,) object array of str, "" for a usable row.
        properties: the properties, the target column as float64 where one was asked for; of two
            words the first class is 0 and the second 1.
        note: where the target came from, if not from a column of its name, "" otherwise.
        prop: the target, a class where the usable rows hold two; None without a target.
    """

    reasons: NDArray[np.object_]
    properties: pd.DataFrame
    note: str = ""
    prop: Property | None = None

    @property
    def usable(self) -> NDArray[np.int64]:
        """Row numbers without a reason, ascending."""
        return np.flatnonzero(self.reasons == "").astype(np.int64)


def check_rows(
    raw: RawCrystals,
    target: str | None,
    *,
    where: str,
    units: Mapping[str, str] | None = None,
    earlier_ids: Set[str] = frozenset(),
    prop: Property | None = None,
) -> Checked:
    """Give each row's first reason to be left out, if there is one.

    The order is: structure unreadable, not finite, without volume, with unknown elements, larger
    than any crystal, with atoms closer than 0.5 Å, denser than any crystal; target missing,
    infinite, not a number, impossible; id met before in a usable row, or among `earlier_ids`.

    Args:
        raw: the rows.
        target: property column that must hold usable values, if any.
        where: the source, for a message.
        units: column -> unit that the source says of it.
        earlier_ids: of usable rows before these.
        prop: the target as the whole source has it, where these rows are a part (see `find_task`).

    Raises:
        DataError: no such target column, in another unit, or it holds text that is no two classes.
    """
    properties = raw.properties
    reasons, note = structure_reasons(raw), ""
    if target is not None:
        found = read_target(properties, target, where=where, units=units or {}, prop=prop)
        add_reasons(reasons, found.reasons)
        properties, note = properties.assign(**{target: found.values}), found.note
        prop = found.prop
    reject_duplicates(reasons, raw.material_ids, earlier_ids)
    if target is not None and prop is not None:
        prop = decide_task(prop, properties[target].to_numpy(dtype=np.float64)[reasons == ""])
    return Checked(reasons, properties, note, prop)


@dataclass(frozen=True)
class Target:
    """The target of some rows.

    Attributes:
        values: (n,) float64, the target.
        reasons: (n,) object array of str, "" where it is usable.
        note: where it came from, if not from a column of its name.
        prop: what it is.
    """

    values: NDArray[np.float64]
    reasons: NDArray[np.object_]
    note: str
    prop: Property


def read_target(
    properties: pd.DataFrame,
    target: str,
    *,
    where: str,
    units: Mapping[str, str],
    prop: Property | None = None,
) -> Target:
    """Return the target: the column of its name, or computed from what it is the logarithm of.

    A column may say its unit in its name, ``K_VRH (GPa)``, or in `units`; it must be the one that
    raymat keeps. `prop` is the target as the whole source has it, where these rows are a part.

    Raises:
        DataError: there is no such column, more than one, it is in another unit, or it holds text
            that is no two classes.
    """
    column = target_column(properties, target, where=where)
    name = find_source(properties, target) or target
    plan = plan_columns(
        [name], declared=units, texts={}, given={}, where=where, is_metadata=True,
        option="`raymat data import` with --unit",
    )[name]  # fmt: skip
    notes = [plan.note, _unknown_unit(name, target, units)]
    numbers = target_numbers(column)
    found = prop or find_task(column, numbers, properties, where=where)
    if column.name == target:
        values = target_numbers(column, found) if found.holds_words else numbers
        reasons = target_reasons(column, values, found)
        return Target(values, reasons, "; ".join(filter(None, notes)), found)
    reasons = target_reasons(column, numbers, find_property(str(column.name)))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(numbers > 0.0, np.log10(numbers), np.nan)
        no_logarithm = np.isfinite(numbers) & ~(numbers > 0.0)
    for row in np.flatnonzero(no_logarithm):
        reasons[row] = (
            f"target out of bounds: {column.name} is {numbers[row]:g}, which has no logarithm"
        )
    logarithm, found = pd.Series(values, name=target), find_property(target)
    add_reasons(reasons, target_reasons(logarithm, values, found))
    unit = found.unit.removeprefix("log10(").removesuffix(")")
    notes.append(f"{target} is computed from column '{name}' ({unit})")
    return Target(values, reasons, "; ".join(filter(None, notes)), found)


def target_column(properties: pd.DataFrame, target: str, *, where: str) -> "pd.Series[float]":
    """Return the column that the target is, or is computed from, named without its unit.

    Raises:
        DataError: there is neither, or more than one of a name.
    """
    name = find_source(properties, target) or target
    return find_column(properties, name, where=where).rename(split_header(name)[0])


def find_source(properties: pd.DataFrame, target: str) -> str | None:
    """Return the column that the target is, or is computed from; None where there is neither."""
    columns = list(map(str, properties.columns))
    for wanted in filter(None, (target, logarithm_of(target))):
        named = [name for name in columns if name == wanted or split_header(name)[0] == wanted]
        if wanted in named or len(named) == 1:
            return wanted if wanted in named else named[0]
    return None


def _unknown_unit(name: str, target: str, units: Mapping[str, str]) -> str:
    if name in PROPERTIES or not units.get(name) or name != target:
        return ""
    return f"raymat knows no unit of '{name}': its numbers are taken as they are ({units[name]})"


def kind_of(reason: str) -> str:
    """Give the kind of a reason: what stands before the colon."""
    return reason.split(": ", 1)[0]


def numeric_columns(properties: pd.DataFrame) -> list[str]:
    """Give the columns that could be a target: numbers and booleans."""
    return [str(name) for name in properties.columns if _is_numeric(properties[name])]


def logarithms(properties: pd.DataFrame) -> list[str]:
    """Return the properties that can be computed, being logarithms of columns."""
    names = [name for name in PROPERTIES if logarithm_of(name) and name not in properties.columns]
    return [name for name in names if find_source(properties, name) is not None]


def structure_reasons(raw: RawCrystals) -> NDArray[np.object_]:
    """Give what is wrong with each row's own structure, "" where nothing is."""
    reasons = raw.problems.copy()
    _mark(reasons, np.diff(raw.offsets) == 0, "structure is missing: no atoms")
    finite = _is_finite(raw)
    _mark(reasons, ~finite, "not finite: lattice or coordinates hold NaN, or numbers beyond 1e6")
    volumes = np.abs(np.linalg.det(np.where(finite[:, None, None], raw.lattices, np.eye(3))))
    _mark(reasons, volumes < _MIN_VOLUME, "singular lattice: the cell has no volume")
    _mark_unknown_elements(reasons, raw)
    rows = [row for row in cells_to_look_at(raw.lattices, np.diff(raw.offsets)) if not reasons[row]]
    for row in rows:
        reasons[row] = size_problem(raw.lattices[row])
    for row, text in find_close_atoms(raw, np.flatnonzero(reasons == "")).items():
        reasons[row] = text
    for row in rows:
        frac = raw.frac_coords[raw.offsets[row] : raw.offsets[row + 1]]
        reasons[row] = reasons[row] or density_problem(raw.lattices[row], frac)
    return reasons


def _is_finite(raw: RawCrystals) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        bad_cell = ~(np.abs(raw.lattices) < _LARGEST)
        bad_atom = ~(np.abs(raw.frac_coords) < _LARGEST)
    finite: NDArray[np.bool_] = ~np.any(bad_cell, axis=(1, 2))
    finite[_owners(raw)[np.any(bad_atom, axis=1)]] = False
    return finite


def _mark_unknown_elements(reasons: NDArray[np.object_], raw: RawCrystals) -> None:
    is_unknown = (raw.atomic_numbers < 1) | (raw.atomic_numbers > MAX_ATOMIC_NUMBER)
    atoms = np.flatnonzero(is_unknown)
    rows, first = np.unique(_owners(raw)[atoms], return_index=True)
    for row, z in zip(rows, raw.atomic_numbers[atoms[first]], strict=True):
        text = f"unknown element: Z = {z}, expected 1 to {MAX_ATOMIC_NUMBER}"
        reasons[row] = reasons[row] or text


def _owners(raw: RawCrystals) -> NDArray[np.int64]:
    """Give the crystal of every atom."""
    return np.repeat(np.arange(len(raw), dtype=np.int64), np.diff(raw.offsets))


def find_column(properties: pd.DataFrame, target: str, *, where: str) -> "pd.Series[float]":
    """Give the target's column.

    Raises:
        DataError: there is no such column, or more than one.
    """
    if target not in properties.columns:
        words = [n for n, column in properties.items() if len(_words_of(column)) == len(ZERO_ONE)]
        known = {*numeric_columns(properties), *logarithms(properties), *map(str, words)}
        hint = did_you_mean(target, known)
        if not len(properties.columns):
            hint = (
                "; the source holds structures only: put an id_prop.csv with lines 'id,value' into"
                " the folder, or give `raymat data import` a table of --properties"
            )
        elif (base := logarithm_of(target)) in properties.columns:
            hint = f", but '{base}'; leave it out here: other commands compute {target} from it"
        raise DataError(f"{where}: no column '{target}'{hint}")
    column = properties[target]
    if isinstance(column, pd.DataFrame):
        raise DataError(f"{where}: {column.shape[1]} columns are called '{target}'; rename one")
    return column


def find_task(
    column: "pd.Series[float]",
    numbers: NDArray[np.float64],
    properties: pd.DataFrame,
    *,
    where: str,
) -> Property:
    """Return the property that a whole column holds: of two words, a class with their names.

    Class 1 is the last of the words in alphabetical order, unless that one is the other's negation
    (``non-metal``). Case and blanks around a word do not count.

    Args:
        column: the target.
        numbers: what `target_numbers` gives for it, perhaps in another unit.
        properties: all columns, for the message.
        where: they were read, for the message.

    Raises:
        DataError: the column holds text and no number, and is not two words.
    """
    prop = find_property(str(column.name))
    present = ~column.isna().to_numpy(dtype=bool)
    if not present.any() or np.isfinite(numbers).any() or _is_numeric(column):
        return prop
    words, takes_classes = _words_of(column), not _is_number(prop)
    if takes_classes and len(words) == len(ZERO_ONE):
        return replace(prop, task="classification", names=_in_order(*words))
    if takes_classes and len(ZERO_ONE) < len(words) <= min(_MOST_CLASSES, present.sum() - 1):
        listed = ", ".join(plain(word, at_most=_SHOWN) for word in words)
        raise DataError(
            f"{where}: column '{column.name}' holds {len(words)} classes ({listed}); raymat learns"
            " two: leave the cells of the others empty, or add a column of 0 and 1"
        )
    known = ", ".join(numeric_columns(properties)[:12]) or "none"
    problem = f"column '{column.name}' holds text ({quoted(column[present].iloc[0])}), not numbers"
    raise DataError(f"{where}: {problem}; numeric columns: {known}")


def decide_task(prop: Property, values: NDArray[np.float64]) -> Property:
    """Return a target as a class if its usable values are 0 and 1, both present.

    The standard properties that are numbers stay numbers, whatever the values.
    """
    is_open = prop.names is None and prop.name not in PROPERTIES
    if is_open and len(values) and np.array_equal(np.unique(values), (0.0, 1.0)):
        return replace(prop, task="classification", names=ZERO_ONE)
    return prop


def target_numbers(column: "pd.Series[float]", prop: Property | None = None) -> NDArray[np.float64]:
    """Return the target as float64, booleans as 0 and 1, NaN where there is no number.

    A `prop` that holds words gives its first word as 0 and its second one as 1.
    """
    if prop is not None and prop.names is not None and prop.holds_words:
        numbers = {_folded(name): float(number) for number, name in enumerate(prop.names)}
        column = column.map(
            lambda cell: numbers.get(_folded(cell), cell) if isinstance(cell, str) else cell
        )
    if column.dtype.kind in "mM":  # dates are no numbers, though pandas counts nanoseconds
        return np.full(len(column), np.nan)
    values = pd.to_numeric(column.map(_number_or_text), errors="coerce")
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _number_or_text(cell: Any) -> Any:
    """Return a cell that pandas can try: it takes bytes for numbers, and fails at huge ones."""
    if isinstance(cell, int) and abs(cell) >= 2**63:
        return math.inf if cell > 0 else -math.inf
    return cell if pd.api.types.is_number(cell) or isinstance(cell, str | bool) else _blank(cell)


def _blank(cell: Any) -> Any:
    is_missing = pd.api.types.is_scalar(cell) and pd.isna(cell)
    return math.nan if is_missing else "no number"


def _words_of(column: "pd.Series[float]") -> list[str]:
    """Return the different words of a column in alphabetical order, one spelling of each."""
    found: dict[str, str] = {}
    for cell in column[column.map(lambda cell: isinstance(cell, str))].unique():
        word = str(cell).strip()
        found[_folded(word)] = min(word, found.get(_folded(word), word))
    return [found[folded] for folded in sorted(found) if folded]


def _folded(word: str) -> str:
    return word.strip().casefold()


def _in_order(first: str, last: str) -> tuple[str, str]:
    is_negation = re.fullmatch(rf"(non|not|no|un)[-_ ]?{re.escape(first)}", last, re.IGNORECASE)
    return (last, first) if is_negation else (first, last)


def _is_number(prop: Property) -> bool:
    """Say whether this is a standard property whose values are numbers."""
    return prop.name in PROPERTIES and prop.task == "regression"


def target_reasons(
    column: "pd.Series[float]", values: NDArray[np.float64], prop: Property
) -> NDArray[np.object_]:
    """Give what is wrong with each row's target, "" where nothing is."""
    reasons = np.full(len(values), "", dtype=object)
    low, high = prop.bounds
    missing = column.isna().to_numpy(dtype=bool)
    for row in np.flatnonzero(np.isnan(values) & ~missing):
        reasons[row] = f"target is not a number: {quoted(column.iloc[row])}"
    reasons[missing] = "target is missing: NaN or empty"
    reasons[np.isinf(values)] = "target is infinite"
    with np.errstate(invalid="ignore"):
        outside = np.isfinite(values) & ((values < low) | (values > high))
    unit = f" {prop.unit}" if prop.unit else ""
    limits = f"{prop.name} lies between {low:g} and {high:g}{unit}"
    if prop.name not in PROPERTIES:
        limits = f"raymat computes with {low:g} to {high:g}; use another unit"
    for row in np.flatnonzero(outside):
        reasons[row] = f"target out of bounds: {values[row]:g}, but {limits}"
    if prop.task == "classification":
        for row in np.flatnonzero(np.isfinite(values) & ~np.isin(values, (0.0, 1.0))):
            reasons[row] = f"target out of bounds: {values[row]:g}, but {prop.name} is 0 or 1"
    return reasons


def reject_duplicates(
    reasons: NDArray[np.object_], ids: NDArray[np.object_], earlier: Set[str]
) -> None:
    """Keep the first usable row of an id."""
    rows = np.flatnonzero(reasons == "")
    usable = pd.Series(ids[rows], dtype=object)
    repeated = usable.duplicated(keep="first") | usable.isin(earlier)
    reasons[rows[repeated.to_numpy(dtype=bool)]] = (
        "duplicate id: an earlier row has this material_id"
    )


def _mark(reasons: NDArray[np.object_], is_bad: NDArray[np.bool_], text: str) -> None:
    reasons[is_bad & (reasons == "")] = text


def add_reasons(reasons: NDArray[np.object_], more: NDArray[np.object_]) -> None:
    """Give rows that have no reason yet the one in `more`."""
    empty = reasons == ""
    reasons[empty] = more[empty]


def _is_numeric(column: object) -> bool:
    if not isinstance(column, pd.Series):
        return False
    if column.dtype == object:  # booleans with gaps
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("boolean", "integer", "floating", "mixed-integer-float")
    return bool(pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))
