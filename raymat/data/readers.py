"""Crystals in: any supported source to checked crystals, with what was left out and why."""

import shlex
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.checks import Checked, check_rows, kind_of
from raymat.data.crystals import CrystalSet
from raymat.data.facts import DataSource
from raymat.data.files.source import open_source
from raymat.data.limits import MAX_REJECTED
from raymat.data.raw import RawCrystals
from raymat.errors import DataError
from raymat.properties import Property


@dataclass(frozen=True)
class LoadedData:
    """Usable crystals in source order, the rest with reasons, and the source.

    Attributes:
        crystals: the usable rows.
        rejected: ``material_id``, ``reason``; one line for every other row, in source order.
        source: name, path, hash and counts.
        prop: the target, a class where the usable rows hold two; None without a target.
    """

    crystals: CrystalSet
    rejected: pd.DataFrame
    source: DataSource
    prop: Property | None = None


class TooManyRejectedError(DataError):
    """More rows are unusable than the caller allows; `rejected` lists them, or the first ones."""

    def __init__(self, message: str, *, rejected: pd.DataFrame) -> None:
        super().__init__(message)
        self.rejected = rejected


def load_crystals(
    source: str, *, target: str | None = None, max_rejected: float = MAX_REJECTED
) -> LoadedData:
    """Read and check every row of a source.

    Args:
        source: what `open_source` opens: a table, a folder or archive of files with crystals, such
            a file itself, an ASE database, or the name of a built-in set (``delta``).
        target: property column that must hold finite numbers within the property's bounds;
            None to check structures and ids only.
        max_rejected: largest share of unusable rows, 0 to 1.

    Raises:
        DataError: the source cannot be used as a whole.
        TooManyRejectedError: too many of its rows cannot be used.
    """
    opened = open_source(source, target=target)
    raw = opened.open_rows().whole()
    refuse_empty(len(raw), source)
    facts = opened.facts_of([raw.material_ids])
    checked = check_rows(raw, target, where=source, units=opened.units)
    rejected = list_rejected(raw, checked)
    refuse_too_many(rejected, len(raw), source=source, max_rejected=max_rejected)
    return LoadedData(
        crystals=raw.select(checked.usable, checked.properties),
        rejected=rejected,
        source=facts.counted(len(rejected), checked.note),
        prop=checked.prop,
    )


def list_rejected(raw: RawCrystals, checked: Checked) -> pd.DataFrame:
    """Give ``material_id``, ``reason`` of the unusable rows, in source order."""
    return rejected_rows(raw.material_ids, checked.reasons)


def rejected_rows(ids: NDArray[np.object_], reasons: NDArray[np.object_]) -> pd.DataFrame:
    """Give ``material_id``, ``reason`` of the rows that have a reason, in their order."""
    is_rejected = reasons != ""
    return pd.DataFrame({"material_id": ids[is_rejected], "reason": reasons[is_rejected]})


def refuse_too_many(
    rejected: pd.DataFrame,
    n_rows: int,
    *,
    source: str,
    max_rejected: float,
    listed: str | None = None,
) -> None:
    """Refuse a source of `n_rows` rows, of which too many or all cannot be used.

    `listed` says what lists them, where `raymat data check` is not what does.

    Raises:
        TooManyRejectedError: as it says.
    """
    if max_rejected * n_rows < len(rejected) or len(rejected) == n_rows:
        reasons = reason_counts(rejected)
        letter = rejection_letter(source, reasons, n_rows, max_rejected, listed=listed)
        raise TooManyRejectedError(letter, rejected=rejected)


def reason_counts(rejected: pd.DataFrame) -> dict[str, int]:
    """Count rejected rows by the kind of reason, the most common first."""
    counts = rejected["reason"].map(kind_of).value_counts()
    return {str(kind): int(n) for kind, n in counts.items()}


def refuse_empty(n_rows: int, source: str) -> None:
    """Refuse a source without rows.

    Raises:
        DataError: there are none.
    """
    if not n_rows:
        raise DataError(f"{source}: the source is empty (no rows)")


def rejection_letter(
    source: str,
    reasons: dict[str, int],
    n_rows: int,
    max_rejected: float,
    *,
    listed: str | None = None,
) -> str:
    """Say that too many of `n_rows` rows cannot be used, why, and what to do.

    Args:
        source: as the user named it.
        reasons: rejected rows by kind of reason.
        n_rows: of the source.
        max_rejected: the share that is allowed.
        listed: what lists the rejected rows; `raymat data check` unless given.
    """
    n_rejected = sum(reasons.values())
    counted = f"{n_rejected:,} of {n_rows:,} rows cannot be used"
    why = "; ".join(f"{kind} ({n})" for kind, n in list(reasons.items())[:3])
    if n_rejected == n_rows:
        advice = f"; {listed}" if listed else ""
        return f"{source}: none of the rows can be used: {counted}: {why}{advice}"
    limit = f"more than --max-rejected {max_rejected:g}"
    advice = listed or f"`raymat data check {shlex.quote(source)}` lists them"
    return f"{source}: {counted} ({limit}): {why}; {advice}; fix them, or raise --max-rejected"
