"""What is known of candidates before any member speaks: columns, filters and known values."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import DataError
from raymat.screening.criterion import Criterion

Floats = NDArray[np.float64]


def filter_candidates(criterion: Criterion, columns: pd.DataFrame) -> NDArray[np.object_]:
    """Give why each candidate is excluded whatever members say, "" where it is not.

    A filter is not applied where a column that decides it is missing.

    Args:
        criterion: what is screened by.
        columns: one row per candidate: ``material_id``, its columns and `Criterion.features`.

    Returns:
        (n_candidates,) reasons, several of them joined by "; ".

    Raises:
        DataError: a column that the criterion reads holds something else than numbers.
    """
    values = column_values(criterion, columns)
    reasons = np.full(len(columns), "", dtype=object)
    for reason, expression in criterion.exclude.items():
        applies = np.broadcast_to(expression.evaluate(values) == 1, reasons.shape)
        reasons[applies] = [f"{told}; {reason}" if told else reason for told in reasons[applies]]
    return reasons


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
        DataError: one holds something else than numbers, or a feature is absent.
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
    """Give a column as (n_candidates,), NaN where it is missing, all NaN where it is absent.

    Raises:
        DataError: it holds something else than numbers.
    """
    if name not in columns:
        return np.full(len(columns), np.nan)
    column = columns[name]
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{columns['material_id'].iloc[row]}: column '{name}' holds {column.iloc[row]!r}, "
            "a number is needed; correct it or leave it empty"
        )
    return numbers
