"""Folders of CIF files: the layout of the CGCNN code, and plain folders without a list."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.raw import ID_COLUMN, ParsedStructure, RawCrystals, split_off_ids
from raymat.data.structure_parser import parse_cif, quiet_pymatgen
from raymat.data.table_reader import read_csv_table
from raymat.errors import DataError
from raymat.reading import TEXT_BYTES, read_bytes

LIST = "id_prop.csv"
"""The file of a folder that names its crystals."""


@dataclass(frozen=True)
class CifFolder:
    """The rows of a folder, none of them read yet.

    Attributes:
        path: the folder.
        material_ids: (n,) object array of str.
        files: (n,) names of the files, which may be missing.
        properties: (n) rows.
        has_list: whether ``id_prop.csv`` names the rows.
        has_header: whether its first line is no row but names of columns.
    """

    path: Path
    material_ids: NDArray[np.object_]
    files: list[str]
    properties: pd.DataFrame
    has_list: bool
    has_header: bool

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> RawCrystals:
        """Parse the files of these rows."""
        with quiet_pymatgen():
            parsed = [_read_cif(self.path / name) for name in self.files[start:stop]]
        if self.has_header and start == 0 and parsed:
            parsed[0] = header_problem(self.files[0])
        rows = slice(start, stop)
        return RawCrystals.from_parsed(self.material_ids[rows], parsed, self.properties.iloc[rows])

    def sha256(self) -> str:
        """Hash ``id_prop.csv``, where there is one, and the files in the order of the rows."""
        digest = hashlib.sha256((self.path / LIST).read_bytes() if self.has_list else b"")
        for name in self.files:
            content = read_bytes_of(self.path / name)
            if isinstance(content, bytes):
                digest.update(os.fsencode(name) + b"\0" + content)
        return digest.hexdigest()


def open_listed_folder(folder: Path, target: str | None) -> CifFolder:
    """Give the rows of ``id_prop.csv`` (id, target; no header), each with its ``<id>.cif``.

    The layout of the public CGCNN code (Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301). The
    target's column is called `target`, or ``target`` where none is asked for.

    Raises:
        DataError: no ``id_prop.csv``, or an empty one.
    """
    if not _has_list(folder):
        n_cif = len(_cif_names(folder))
        found = f"{n_cif} CIF files" if n_cif else "no CIF files either"
        raise DataError(f"{folder}: no {LIST} in this folder ({found}); write lines 'id,y'")
    rows = read_list(folder / LIST, target)
    files = [f"{name}.cif" for name in rows.material_ids]
    return CifFolder(
        path=folder,
        material_ids=rows.material_ids,
        files=files,
        properties=rows.properties,
        has_list=True,
        has_header=rows.begins_with_words and not (folder / files[0]).exists(),
    )


@dataclass(frozen=True)
class ListedRows:
    """What ``id_prop.csv`` says.

    Attributes:
        material_ids: (n,) object array of str.
        properties: (n) rows.
        begins_with_words: the first line has a word where others have y: a header, if there is no
            file of that name.
    """

    material_ids: NDArray[np.object_]
    properties: pd.DataFrame
    begins_with_words: bool


def read_list(path: Path, target: str | None, content: bytes | None = None) -> ListedRows:
    """Read ``id_prop.csv``, or its `content` where it is no file on disk.

    Raises:
        DataError: an empty file, or no CSV.
    """
    table = read_csv_table(
        path, content=content, header=None, dtype={0: str}, skipinitialspace=True
    )
    names = [ID_COLUMN, target or "target", *[f"column_{i}" for i in range(2, table.shape[1])]]
    table.columns = pd.Index(names[: table.shape[1]])
    ids, properties = split_off_ids(table)
    return ListedRows(ids, properties, _begins_with_words(table))


def header_problem(file: str) -> str:
    """Give the reason of a first line that names columns, and so has no file."""
    return f"header line: no file {file}; the first line looks like a header, and {LIST} has none"


def open_folder(folder: Path) -> CifFolder:
    """Give the rows of ``id_prop.csv``, or every CIF file by name where there is no such list.

    In a plain folder the id is the file's name without ``.cif``, and there are no properties.

    Raises:
        DataError: neither a list nor CIF files, or an empty list.
    """
    if _has_list(folder) or not (files := _cif_names(folder)):
        return open_listed_folder(folder, None)
    # Names on disk are bytes: what is no UTF-8 could not be written to a table of results.
    ids = [os.fsencode(Path(name).stem).decode("utf-8", errors="replace") for name in files]
    return CifFolder(
        path=folder,
        material_ids=np.array(ids, dtype=object),
        files=files,
        properties=pd.DataFrame(index=range(len(files))),
        has_list=False,
        has_header=False,
    )


def _has_list(folder: Path) -> bool:
    return (folder / LIST).is_file()


def _cif_names(folder: Path) -> list[str]:
    """Give the names of the CIF files in alphabetical order; hidden files are not meant."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError as cause:
        raise DataError(f"{folder}: the folder cannot be read ({cause.strerror})") from cause
    return sorted(n for n in names if n.lower().endswith(".cif") and not n.startswith("."))


def _begins_with_words(table: pd.DataFrame) -> bool:
    """Say whether the first line has a word where others have y."""
    if table.shape[1] < 2:
        return False
    is_number = pd.to_numeric(table.iloc[:, 1], errors="coerce").notna()
    return not is_number.iloc[0] and bool(is_number.iloc[1:].any())


def _read_cif(path: Path) -> ParsedStructure | str:
    content = read_bytes_of(path)
    if isinstance(content, str):
        return content
    return parse_cif(content.decode("utf-8", errors="replace"))


def read_bytes_of(path: Path) -> bytes | str:
    """Give a file's content, or, as text, why there is none."""
    try:
        return read_bytes(path, at_most=TEXT_BYTES)
    except FileNotFoundError:
        return f"unreadable CIF: no file {path.name}"
    except (OSError, ValueError) as cause:
        return f"unreadable CIF: {cause}"
