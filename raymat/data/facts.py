"""What a source is: its name, place, hash and number of rows, before anything is checked."""

import hashlib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from raymat.data.builtin import BUILTIN
from raymat.data.cif_folder import CifFolder
from raymat.data.files.formats import ARCHIVES, KNOWN
from raymat.data.raw import RawCrystals
from raymat.data.table_reader import TABLE_READERS
from raymat.errors import DataError, did_you_mean, one_line
from raymat.reading import open_file, regular_file

DATA_ENDINGS = (".parquet", *TABLE_READERS)


@dataclass(frozen=True)
class SourceFacts:
    """What a source is, before its rows are checked.

    Attributes:
        name: file name without its ending, folder name, or name of a built-in set.
        path: absolute path; None for a built-in set.
        sha256: of the file; of id_prop.csv and the CIF files; or of a built-in set's arrays.
        n_rows: rows in the source.
        notes: what a user should know about how it was read, a line each.
    """

    name: str
    path: str | None
    sha256: str
    n_rows: int
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def counted(self, n_rejected: int, *notes: str) -> "DataSource":
        """Return the same source with the counts of its checked rows, and further notes."""
        facts = {**vars(self), "notes": (*self.notes, *filter(None, notes))}
        return DataSource(**facts, n_used=self.n_rows - n_rejected, n_rejected=n_rejected)


@dataclass(frozen=True)
class DataSource(SourceFacts):
    """Where crystals came from, and how many of its rows are usable and are not."""

    n_used: int
    n_rejected: int


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


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; there is none of a name that no disk can hold."""
    try:
        return path.exists()
    except OSError:
        return False


def find_ending(path: Path) -> str:
    """Give the ending that tells how a file is read: ``.parquet`` or one of `TABLE_READERS`.

    Raises:
        DataError: no such file, an empty one, or another ending.
    """
    if not exists(path):
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = get_close_matches(path.name, [*near, *BUILTIN], n=1)  # never the whole folder
        hint = did_you_mean(path.name, close or BUILTIN)
        raise DataError(f"{path}: no such file or folder, and no built-in data set{hint}")
    try:
        if not path.is_dir() and regular_file(path).stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    except OSError as cause:
        raise DataError(f"{path}: cannot be read ({one_line(cause)})") from cause
    for ending in sorted(DATA_ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise DataError(
        f"{path}: cannot tell what '{path.suffix}' is; expected a table"
        f" ({', '.join(DATA_ENDINGS)}), a file of crystals ({KNOWN}), an archive"
        f" ({', '.join(ARCHIVES)}), an ASE database (.db), or a folder"
    )


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_arrays(raw: RawCrystals) -> str:
    digest = hashlib.sha256("\n".join(raw.material_ids).encode())
    for array in (raw.lattices, raw.offsets, raw.atomic_numbers, raw.frac_coords):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(raw.properties.to_csv(index=False).encode())
    return digest.hexdigest()
