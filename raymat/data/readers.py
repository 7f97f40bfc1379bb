"""Crystals in: any supported source to checked crystals, with what was left out and why."""

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.builtin import BUILTIN
from raymat.data.checks import Checked, check_rows, kind_of
from raymat.data.cif_folder import CifFolder, open_listed_folder
from raymat.data.crystals import CrystalSet
from raymat.data.limits import MAX_REJECTED
from raymat.data.parquet_reader import read_parquet
from raymat.data.raw import RawCrystals
from raymat.data.structure_parser import read_structure_table
from raymat.data.table_reader import TABLE_READERS
from raymat.errors import DataError, did_you_mean

DATA_ENDINGS = (".parquet", *TABLE_READERS)


@dataclass(frozen=True)
class SourceFacts:
    """What a source is, before its rows are checked.

    Attributes:
        name: file name without its ending, folder name, or name of a built-in set.
        path: absolute path; None for a built-in set.
        sha256: of the file; of id_prop.csv and the CIF files; or of a built-in set's arrays.
        n_rows: rows in the source.
    """

    name: str
    path: str | None
    sha256: str
    n_rows: int

    def counted(self, n_rejected: int) -> "DataSource":
        """Give the same source with the counts of its checked rows."""
        return DataSource(**vars(self), n_used=self.n_rows - n_rejected, n_rejected=n_rejected)


@dataclass(frozen=True)
class DataSource(SourceFacts):
    """Where crystals came from, and how many of its rows are usable and are not."""

    n_used: int
    n_rejected: int


@dataclass(frozen=True)
class LoadedData:
    """Usable crystals in source order, the rest with reasons, and the source.

    Attributes:
        crystals: the usable rows.
        rejected: ``material_id``, ``reason``; one line for every other row, in source order.
        source: name, path, hash and counts.
    """

    crystals: CrystalSet
    rejected: pd.DataFrame
    source: DataSource


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
        source: a Parquet, CSV, JSON or JSON.GZ file, a folder of CIF files with ``id_prop.csv``,
            or the name of a built-in set (``delta``).
        target: property column that must hold finite numbers within the property's bounds;
            None to check structures and ids only.
        max_rejected: largest share of unusable rows, 0 to 1.

    Raises:
        DataError: the source cannot be used as a whole.
        TooManyRejectedError: too many of its rows cannot be used.
    """
    raw, facts = _read(source, target)
    refuse_empty(len(raw), source)
    checked = check_rows(raw, target, where=source)
    rejected = list_rejected(raw, checked)
    refuse_too_many(rejected, len(raw), source=source, max_rejected=max_rejected)
    return LoadedData(
        crystals=raw.select(checked.usable, checked.properties),
        rejected=rejected,
        source=facts.counted(len(rejected)),
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


def _read(source: str, target: str | None) -> tuple[RawCrystals, SourceFacts]:
    if source in BUILTIN:
        raw = BUILTIN[source]()
        return raw, facts_of_builtin(source, raw)
    path = Path(source).expanduser()
    if path.is_dir():
        folder = open_listed_folder(path, target)
        return folder.read(0, len(folder)), facts_of_folder(folder)
    ending = find_ending(path)
    table_reader = TABLE_READERS.get(ending)
    if table_reader is None:
        raw = read_parquet(path)
    else:
        raw = read_structure_table(table_reader(path), where=str(path))
    return raw, facts_of_file(path, len(raw))


def facts_of_builtin(name: str, raw: RawCrystals) -> SourceFacts:
    """Describe a built-in set."""
    return SourceFacts(name=name, path=None, sha256=_hash_arrays(raw), n_rows=len(raw))


def facts_of_folder(folder: CifFolder) -> SourceFacts:
    """Describe a folder; every file is read, none is parsed."""
    path = folder.path.resolve()
    return SourceFacts(path.name, str(path), sha256=folder.sha256(), n_rows=len(folder))


def facts_of_file(path: Path, n_rows: int) -> SourceFacts:
    """Describe a file that `find_ending` knows."""
    name = path.name[: -len(find_ending(path))]
    return SourceFacts(name, str(path.resolve()), sha256=hash_file(path), n_rows=n_rows)


def refuse_empty(n_rows: int, source: str) -> None:
    """Refuse a source without rows.

    Raises:
        DataError: there are none.
    """
    if not n_rows:
        raise DataError(f"{source}: the source is empty (no rows)")


def find_ending(path: Path) -> str:
    """Give the ending that tells how a file is read: ``.parquet`` or one of `TABLE_READERS`.

    Raises:
        DataError: no such file, an empty one, or another ending.
    """
    if not path.exists():
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = get_close_matches(path.name, [*near, *BUILTIN], n=1)  # never the whole folder
        hint = did_you_mean(path.name, close or BUILTIN)
        raise DataError(f"{path}: no such file or folder, and no built-in data set{hint}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    for ending in sorted(DATA_ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise DataError(
        f"{path}: cannot tell what '{path.suffix}' is; expected {', '.join(DATA_ENDINGS)}, "
        "or a folder of CIF files with id_prop.csv (`raymat data import` reads archives, ASE "
        "databases and more)"
    )


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
    advice = listed or f"`raymat data check {source}` lists them"
    return f"{source}: {counted} ({limit}): {why}; {advice}; mend them, or raise --max-rejected"


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_arrays(raw: RawCrystals) -> str:
    digest = hashlib.sha256("\n".join(raw.material_ids).encode())
    for array in (raw.lattices, raw.offsets, raw.atomic_numbers, raw.frac_coords):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(raw.properties.to_csv(index=False).encode())
    return digest.hexdigest()
