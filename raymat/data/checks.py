"""What makes a row unusable, and why: every row of every source passes here.

A reason reads ``kind: detail``; rows are counted by kind.
"""

import re
from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.distances import find_close_atoms
from raymat.data.raw import RawCrystals
from raymat.errors import DataError, did_you_mean
from raymat.properties import PROPERTIES, ZERO_ONE, Property, find_property
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
        prop: the target, a class where the usable rows hold two; None without a target.
    """

    reasons: NDArray[np.object_]
    properties: pd.DataFrame
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
    earlier_ids: Set[str] = frozenset(),
    prop: Property | None = None,
) -> Checked:
    """Give each row's first reason to be left out, if there is one.

    The order is: structure unreadable, not finite, without volume, with unknown elements, with
    atoms closer than 0.5 Å; target missing, infinite, not a number, impossible; id met before in
    a usable row, or among `earlier_ids`. Of a part of the rows, `prop` is the target as the whole
    source has it (see `read_target`).

    Raises:
        DataError: no such target column, or it holds text that is no two classes.
    """
    properties = raw.properties
    reasons = structure_reasons(raw)
    if target is not None:
        column = find_column(properties, target, where=where)
        values = target_numbers(column)
        prop = prop or read_target(column, values, properties, where=where)
        values = target_numbers(column, prop) if prop.holds_words else values
        add_reasons(reasons, target_reasons(column, values, prop))
        properties = properties.assign(**{target: values})
    reject_duplicates(reasons, raw.material_ids, earlier_ids)
    if prop is not None:
        prop = decide_task(prop, values[reasons == ""])
    return Checked(reasons, properties, prop)


def kind_of(reason: str) -> str:
    """Give the kind of a reason: what stands before the colon."""
    return reason.split(": ", 1)[0]


def numeric_columns(properties: pd.DataFrame) -> list[str]:
    """Give the columns that could be a target: numbers and booleans."""
    return [str(name) for name in properties.columns if _is_numeric(properties[name])]


def structure_reasons(raw: RawCrystals) -> NDArray[np.object_]:
    """Give what is wrong with each row's own structure, "" where nothing is."""
    reasons = raw.problems.copy()
    _mark(reasons, np.diff(raw.offsets) == 0, "structure is missing: no atoms")
    finite = _is_finite(raw)
    _mark(reasons, ~finite, "not finite: lattice or coordinates hold NaN, or numbers beyond 1e6")
    volumes = np.abs(np.linalg.det(np.where(finite[:, None, None], raw.lattices, np.eye(3))))
    _mark(reasons, volumes < _MIN_VOLUME, "singular lattice: the cell has no volume")
    _mark_unknown_elements(reasons, raw)
    for row, text in find_close_atoms(raw, np.flatnonzero(reasons == "")).items():
        reasons[row] = text
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
        hint = did_you_mean(target, numeric_columns(properties))
        raise DataError(f"{where}: no column '{target}'{hint}")
    column = properties[target]
    if isinstance(column, pd.DataFrame):
        raise DataError(f"{where}: {column.shape[1]} columns are called '{target}'; rename one")
    return column


def read_target(
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
    # Lists and dictionaries in a column are no numbers either, and to_numeric refuses them.
    cells = column.map(lambda cell: str(cell) if isinstance(cell, list | dict) else cell)
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values, dtype=np.float64)


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
        reasons[row] = f"target is not a number: {str(column.iloc[row])[:_SHOWN]!r}"
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
