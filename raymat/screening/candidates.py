"""What is known of candidates before any member speaks: columns, filters and known values."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import DataError
from raymat.screening.criterion import Criterion

Floats = NDArray[np.float64]
_SHOWN = 40  # characters of a cell that is no number


def filter_candidates(criterion: Criterion, columns: pd.DataFrame) -> NDArray[np.object_]:
    """Give why each candidate is excluded whatever members say, "" where it is not.

    A filter is not applied where a column that decides it is missing.

    Args:
        criterion: what is screened by.
        columns: one row per candidate: ``material_id``, its columns and `Criterion.features`.

    Returns:
        (n_candidates,) reasons, several of them joined by "; "; a cell that is no number, in a
        column that the criterion reads, is one of them.

    Raises:
        DataError: a feature is absent.
    """
    values = column_values(criterion, columns)
    reasons = np.full(len(columns), "", dtype=object)
    for name in sorted(criterion.columns):
        for row in wrong_cells(columns, name):
            _add_reason(reasons, row, _say_wrong(columns, name, row))
    for reason, expression in criterion.exclude.items():
        applies = np.broadcast_to(expression.evaluate(values) == 1, reasons.shape)
        for row in np.flatnonzero(applies):
            _add_reason(reasons, row, reason)
    return reasons


def check_numbers(criterion: Criterion, columns: pd.DataFrame) -> None:
    """Check, on the first candidates, that columns that the criterion reads are not all text.

    One wrong cell costs its candidate; several and not one number is another kind of column.

    Raises:
        DataError: one is.
    """
    for name in sorted(criterion.columns):
        wrong = wrong_cells(columns, name)
        if len(wrong) > 1 and np.isnan(numbers_of(columns, name)).all():
            raise DataError(
                f"{columns['material_id'].iloc[wrong[0]]}: {_say_wrong(columns, name, wrong[0])},"
                f" and none of the first {len(columns):,} cells holds one; correct the column, or"
                " leave cells empty"
            )


def known_values(criterion: Criterion, columns: pd.DataFrame) -> dict[str, Floats]:
    """Give what columns tell in place of the members: prediction -> (n_candidates,).

    All are NaN for a candidate of which any is not finite: members speak for it.
    """
    values = column_values(criterion, columns)
    known = {
        name: np.broadcast_to(expression.evaluate(values), len(columns))
        for name, expression in criterion.known.items()
    }
    is_known = np.ones(len(columns), dtype=bool)
    for told in known.values():
        is_known &= np.isfinite(told)
    return {name: np.where(is_known, told, np.nan) for name, told in known.items()}


def needs_members(criterion: Criterion, columns: pd.DataFrame) -> NDArray[np.bool_]:
    """Say for which candidates members must predict: neither excluded already, nor known."""
    needed: NDArray[np.bool_] = filter_candidates(criterion, columns) == ""
    for known in known_values(criterion, columns).values():
        needed &= np.isnan(known)
    return needed


def column_values(criterion: Criterion, columns: pd.DataFrame) -> dict[str, Floats]:
    """Give every column and feature that the criterion reads as (n_candidates,), NaN if missing.

    A column may be absent altogether, a feature may not.

    Raises:
        DataError: a feature is absent.
    """
    for name in sorted(criterion.features):
        if name not in columns:
            raise DataError(
                f"criterion {criterion.name} ({criterion.path}) reads '{name}', which was not "
                "computed for these candidates; add it to their columns"
            )
    return {
        name: numbers_of(columns, name)
        for name in sorted({*criterion.columns, *criterion.features})
    }


def numbers_of(columns: pd.DataFrame, name: str) -> Floats:
    """Give a column as (n_candidates,), NaN where no number stands, all NaN where it is absent."""
    if name not in columns:
        return np.full(len(columns), np.nan)
    column = columns[name]
    if column.dtype == object:  # of which lists and the like cannot even be tried
        column = column.where(column.map(pd.api.types.is_scalar).astype(bool))
    numbers = pd.to_numeric(column, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def wrong_cells(columns: pd.DataFrame, name: str) -> NDArray[np.intp]:
    """Give the rows whose cell is neither a number nor empty; none where the column is absent."""
    if name not in columns:
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.isnan(numbers_of(columns, name)) & columns[name].notna().to_numpy())


def _say_wrong(columns: pd.DataFrame, name: str, row: np.intp) -> str:
    shown = " ".join(repr(columns[name].iloc[row]).split())
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return f"column '{name}' holds {shown}, a number is needed"


def _add_reason(reasons: NDArray[np.object_], row: np.intp, reason: str) -> None:
    reasons[row] = f"{reasons[row]}; {reason}" if reasons[row] else reason
