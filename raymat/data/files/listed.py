"""Files whose ids and targets stand in ``id_prop.csv``: the layout of the CGCNN code."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from raymat.data.cif_folder import LIST, CifFolder, read_list
from raymat.data.files.archives import Entry
from raymat.data.files.documents import Document, entry_of, iter_documents
from raymat.data.files.formats import Format, format_of, id_of
from raymat.data.files.split import TEXT_LIMIT, too_large
from raymat.errors import DataError

NO_ROW = -1  # of a document that the list does not name
_LIST_LIMIT = 1 << 30  # bytes; ten million lines


def listed_documents(folder: CifFolder) -> Iterator[Document]:
    """Return the files in the order of the list."""
    for row, file in enumerate(folder.files):
        yield Document(
            id=str(folder.rows.material_ids[row]),
            path=file,
            kind=format_of(file) or "cif",
            content=folder.path / file,
            problem=_problem(folder.path / file),
            row=row,
        )


def _problem(file: Path) -> str:
    """Say why a file must not be read, "" where it may be, or is missing."""
    entry = entry_of(file, file.name)
    is_long = entry.size > TEXT_LIMIT
    return entry.problem or (too_large("the file", TEXT_LIMIT) if is_long else "")


@dataclass(frozen=True)
class ArchiveList:
    """``id_prop.csv`` of an archive.

    Attributes:
        root: folder in the archive that holds it and the files it names, "" for the top.
        rows: of each id, its rows in the list.
        properties: one row for each line.
        note: what a user should know about how the list was read.
    """

    root: str
    rows: dict[str, list[int]]
    properties: pd.DataFrame
    note: str


def choose_list(paths: list[str], source: str) -> str:
    """Give the list that lies highest.

    Raises:
        DataError: several lie equally high.
    """
    depths = [len(PurePosixPath(path).parts) for path in paths]
    highest = [path for path, depth in zip(paths, depths, strict=True) if depth == min(depths)]
    if len(highest) > 1:
        problem = f"several lists of ids: {highest[0]} and {highest[1]}"
        raise DataError(f"{source}: {problem}; import what belongs to each by itself")
    return highest[0]


def read_archive_list(
    entries: Iterable[Entry], path: str, ids: Iterable[str], *, source: Path, target: str | None
) -> ArchiveList:
    """Read the list at `path`; `ids` are those of the files in the archive.

    Raises:
        DataError: it is too long, empty, or no CSV.
    """
    content = b""
    for entry in entries:
        if entry.path == path:
            with closing(entry.open()) as file:
                content = file.read(_LIST_LIMIT + 1)
            break
    if len(content) > _LIST_LIMIT:
        raise DataError(f"{source}: {path} has more than {_LIST_LIMIT >> 20} MiB")
    listed = read_list(source / path, target, files=set(ids), content=content)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(listed.material_ids):
        rows.setdefault(str(name), []).append(row)
    root = PurePosixPath(path).parent.as_posix()
    return ArchiveList(root, rows, listed.properties, listed.note)


def archive_documents(entries: Iterable[Entry], listed: ArchiveList) -> Iterator[Document]:
    """Give the listed files in the archive's order, then what the list names in vain.

    Members that are refused have a row of their own, without properties.
    """
    missing = dict.fromkeys(listed.rows)
    for document in iter_documents(e for e in entries if e.problem or _is_listed(e, listed)):
        if document.first:
            continue  # the first section has said that there are several
        name = id_of(document.path)
        if name not in listed.rows:
            yield replace(document, row=NO_ROW)
        missing.pop(name, None)
        for row in listed.rows.get(name, ()):
            yield _whole(document, name, row)
    for name in missing:
        for row in listed.rows[name]:
            file = f"{name}.cif"
            problem = f"unreadable CIF: no file {file}"
            yield Document(name, file, "cif", problem=problem, row=row)


def _is_listed(entry: Entry, listed: ArchiveList) -> bool:
    is_inside = PurePosixPath(entry.path).parent.as_posix() == listed.root
    return is_inside and id_of(entry.path) in listed.rows


def _whole(document: Document, name: str, row: int) -> Document:
    problem = document.problem
    if document.first is not None and not problem:
        problem = "several structures: the file is long, its id is one"
    kind: Format = document.kind
    return replace(document, id=name, kind=kind, row=row, problem=problem, first=None)


def refuse_deeper_list(lists: list[str], source: str) -> None:
    """Refuse a folder whose list lies in another below it.

    Raises:
        DataError: there is one.
    """
    if lists:
        inside = Path(source) / PurePosixPath(lists[0]).parent
        raise DataError(f"{source}: {lists[0]} lies deeper than its folder; read {inside}")


def has_list(folder: Path) -> bool:
    """Say whether a folder has a list of ids."""
    return (folder / LIST).is_file()
