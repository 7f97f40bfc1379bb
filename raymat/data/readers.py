"""Crystals in: any supported source to checked crystals, with what was left out and why."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from raymat.data.builtin import BUILTIN
from raymat.data.checks import Checked, check_rows, kind_of
from raymat.data.crystals import CrystalSet
from raymat.data.limits import MAX_REJECTED
from raymat.data.parquet_reader import read_parquet
from raymat.data.raw import RawCrystals
from raymat.data.table_reader import read_cif_folder, read_csv, read_json
from raymat.errors import DataError, did_you_mean

_READERS: dict[str, Callable[[Path], RawCrystals]] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".json": read_json,
    ".json.gz": read_json,
}


@dataclass(frozen=True)
class DataSource:
    """Where crystals came from.

    Attributes:
        name: file name without its ending, folder name, or name of a built-in set.
        path: absolute path; None for a built-in set.
        sha256: of the file; of id_prop.csv and the CIF files; or of a built-in set's arrays.
        n_rows: rows in the source, of which `n_used` are usable and `n_rejected` are not.
    """

    name: str
    path: str | None
    sha256: str
    n_rows: int
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
    """More rows are unusable than the caller allows; `rejected` lists them."""

    def __init__(self, message: str, *, rejected: pd.DataFrame) -> None:
        super().__init__(message)
        self.rejected = rejected

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_rejected, (str(self), self.rejected)


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
    raw, name, path, sha256 = _read(source, target)
    if not len(raw):
        raise DataError(f"{source}: the source is empty (no rows)")
    checked = check_rows(raw, target, where=source)
    usable = checked.usable
    is_rejected = checked.reasons != ""
    rejected = pd.DataFrame(
        {"material_id": raw.material_ids[is_rejected], "reason": checked.reasons[is_rejected]}
    )
    if len(rejected) > max_rejected * len(raw) or not len(usable):
        raise TooManyRejectedError(
            _rejection_letter(source, checked, max_rejected), rejected=rejected
        )
    return LoadedData(
        crystals=raw.select(usable, checked.properties),
        rejected=rejected,
        source=DataSource(
            name=name,
            path=path,
            sha256=sha256,
            n_rows=len(raw),
            n_used=len(usable),
            n_rejected=len(rejected),
        ),
    )


def reason_counts(rejected: pd.DataFrame) -> dict[str, int]:
    """Count rejected rows by the kind of reason, the most common first."""
    counts = rejected["reason"].map(kind_of).value_counts()
    return {str(kind): int(n) for kind, n in counts.items()}


def _read(source: str, target: str | None) -> tuple[RawCrystals, str, str | None, str]:
    """Give the rows, the source's name, its absolute path and its hash."""
    if source in BUILTIN:
        raw = BUILTIN[source]()
        return raw, source, None, _hash_arrays(raw)
    path = Path(source).expanduser()
    if path.is_dir():
        raw, sha256 = read_cif_folder(path, target)
        return raw, path.resolve().name, str(path.resolve()), sha256
    reader, stem = _find_reader(path)
    return reader(path), stem, str(path.resolve()), _hash_file(path)


def _find_reader(path: Path) -> tuple[Callable[[Path], RawCrystals], str]:
    if not path.exists():
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = get_close_matches(path.name, [*near, *BUILTIN], n=1)  # never the whole folder
        hint = did_you_mean(path.name, close or BUILTIN)
        raise DataError(f"{path}: no such file or folder, and no built-in data set{hint}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    for ending in sorted(_READERS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return _READERS[ending], path.name[: -len(ending)]
    raise DataError(
        f"{path}: cannot tell what '{path.suffix}' is; expected {', '.join(_READERS)}, "
        "or a folder of CIF files with id_prop.csv"
    )


def _rejection_letter(source: str, checked: Checked, max_rejected: float) -> str:
    reasons = pd.DataFrame({"reason": checked.reasons[checked.reasons != ""]})
    common = [f"{kind} ({n})" for kind, n in list(reason_counts(reasons).items())[:3]]
    counted = f"{len(reasons):,} of {len(checked.reasons):,} rows cannot be used"
    why = "; ".join(common)
    if not len(checked.usable):
        return f"{source}: none of the rows can be used: {counted}: {why}"
    limit = f"more than --max-rejected {max_rejected:g}"
    advice = f"`raymat data check {source}` lists them; mend them, or raise --max-rejected"
    return f"{source}: {counted} ({limit}): {why}; {advice}"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_arrays(raw: RawCrystals) -> str:
    digest = hashlib.sha256("\n".join(raw.material_ids).encode())
    for array in (raw.lattices, raw.offsets, raw.atomic_numbers, raw.frac_coords):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(raw.properties.to_csv(index=False).encode())
    return digest.hexdigest()


def _rebuild_rejected(message: str, rejected: pd.DataFrame) -> TooManyRejectedError:
    return TooManyRejectedError(message, rejected=rejected)
