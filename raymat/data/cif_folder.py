"""Folders whose ids and targets stand in ``id_prop.csv``: the layout of the CGCNN code."""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.files.formats import format_of, id_of, without_ending
from raymat.data.raw import ID_COLUMN, refuse_equal_columns, split_off_ids
from raymat.data.table_reader import CsvFile, as_numbers
from raymat.errors import DataError
from raymat.reading import TEXT_BYTES, read_bytes

LIST = "id_prop.csv"
"""The file of a folder that names its crystals."""


@dataclass(frozen=True)
class ListedRows:
    """What ``id_prop.csv`` says.

    Attributes:
        material_ids: (n,) object array of str.
        properties: (n) rows.
        note: what a user should know about how it was read, "" for nothing.
    """

    material_ids: NDArray[np.object_]
    properties: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class CifFolder:
    """The rows of a folder, none of them read yet.

    Attributes:
        path: the folder.
        rows: ids and properties.
        files: (n,) names of the files, which may be missing.
    """

    path: Path
    rows: ListedRows
    files: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def sha256(self) -> str:
        """Hash ``id_prop.csv`` and the files in the order of the rows."""
        digest = hashlib.sha256((self.path / LIST).read_bytes())
        for name in self.files:
            content = read_bytes_of(self.path / name)
            if isinstance(content, bytes):
                digest.update(os.fsencode(name) + b"\0" + content)
        return digest.hexdigest()


def open_listed_folder(folder: Path, target: str | None) -> CifFolder:
    """Return the rows of ``id_prop.csv`` (id, target), each with its ``<id>.cif``.

    The layout of the public CGCNN code (Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301). An id
    without ``<id>.cif`` may have a file of another format.

    Raises:
        DataError: an empty list, or no CSV.
    """
    names = _file_names(folder)
    others = {id_of(name): name for name in names if format_of(name) and not name.endswith(".gz")}
    rows = read_list(folder / LIST, target, files=others)
    known = set(names)
    files = [f"{name}.cif" for name in rows.material_ids]
    files = [
        file if file in known else others.get(str(name), file)
        for name, file in zip(rows.material_ids, files, strict=True)
    ]
    return CifFolder(folder, rows, files)


def read_list(
    path: Path, target: str | None, *, files: Collection[str], content: bytes | None = None
) -> ListedRows:
    """Read ``id_prop.csv``, or its `content` where it is no file on disk.

    It has no header in the CGCNN code; the target's column is then called `target`, or ``target``
    where none is asked for. A first line that has a word where all others have a number, and names
    no file, is a header. Ids may carry the ending of their file.

    Args:
        path: the list.
        target: name of the second column.
        files: ids of the files that there are.
        content: of the list.

    Raises:
        DataError: an empty file, or no CSV.
    """
    table = CsvFile.open(path, content, has_header=False).table()
    names = [ID_COLUMN, target or "target", *[f"column_{i}" for i in range(2, table.shape[1])]]
    note = ""
    first = without_ending(str(table.iloc[0, 0]).strip())
    if _begins_with_words(table) and first not in files:
        found = [str(cell).strip() for cell in table.iloc[0]]
        note = f"{LIST}: its first line ({', '.join(found)}) is taken as names of columns"
        names = [ID_COLUMN, *found[1:]]
        rest = table.iloc[1:].reset_index(drop=True)
        table = pd.DataFrame({i: _again(rest[i]) if i else rest[i] for i in rest.columns})
    table.columns = pd.Index(names[: table.shape[1]])
    refuse_equal_columns(names, str(path))
    table[ID_COLUMN] = table[ID_COLUMN].str.strip().map(without_ending, na_action="ignore")
    return ListedRows(*split_off_ids(table), note)


def _again(column: "pd.Series[float]") -> "pd.Series[float]":
    return as_numbers(column) if pd.api.types.is_string_dtype(column) else column


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as cause:
        raise DataError(f"{folder}: the folder cannot be read ({cause.strerror})") from cause


def _begins_with_words(table: pd.DataFrame) -> bool:
    """Return whether the first line has a word where all others have y."""
    if table.shape[1] < 2 or table.iloc[:, 1].isna().iloc[0]:
        return False
    is_number = pd.to_numeric(table.iloc[:, 1], errors="coerce").notna()
    return not is_number.iloc[0] and bool(is_number.iloc[1:].any())


def read_bytes_of(path: Path) -> bytes | str:
    """Return a file's content, or, as text, why there is none."""
    try:
        return read_bytes(path, at_most=TEXT_BYTES)
    except FileNotFoundError:
        return f"unreadable CIF: no file {path.name}"
    except (OSError, ValueError) as cause:
        return f"unreadable CIF: {cause}"
