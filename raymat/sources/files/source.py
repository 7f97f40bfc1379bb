"""Any source that can be imported, as chunks: tables, folders, archives, databases, files."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.builtin import BUILTIN
from raymat.data.cif_folder import open_listed_folder
from raymat.data.readers import (
    DATA_ENDINGS,
    SourceFacts,
    facts_of_builtin,
    facts_of_folder,
    find_ending,
    hash_file,
)
from raymat.errors import DataError
from raymat.sources.files.archives import Entry
from raymat.sources.files.ase_database import cut_json, cut_numbers, is_json_database, list_numbers
from raymat.sources.files.chunks import AUTO, SIZE, Chunk, chunk_documents, say_rows
from raymat.sources.files.documents import (
    Contents,
    is_wanted,
    iter_documents,
    iter_entries,
    list_contents,
    refuse_nothing,
)
from raymat.sources.files.formats import ARCHIVES, KNOWN, format_of, id_of, is_archive
from raymat.sources.files.listed import (
    archive_documents,
    choose_list,
    has_list,
    listed_documents,
    read_archive_list,
    refuse_deeper_list,
)
from raymat.sources.files.tables import open_table

_STRUCTURE_JSON = re.compile(rb'\s*\[?\s*\{\s*"(?:@module|@class|lattice|sites|charge)"')


@dataclass(frozen=True)
class ImportSource:
    """A source, not parsed yet.

    Attributes:
        name: as the user gave it.
        facts: what tells it from another source; parts of an import belong to them.
        chunks: gives its rows in order, the same whenever it is called.
        n_items: files or rows.
        items: what they are, for a message.
        describe: describes it, given its number of rows.
        note: what is passed over, "" for nothing.
        columns: property columns where they are known before anything is parsed, without rows.
        units: column -> unit that the source says of it.
    """

    name: str
    facts: Mapping[str, str]
    chunks: Callable[[], Iterator[Chunk]]
    n_items: int
    items: str
    describe: Callable[[int], SourceFacts]
    note: str = ""
    columns: pd.DataFrame | None = None
    units: Mapping[str, str] = field(default_factory=dict)


def open_import(source: str, *, target: str | None = None, ids: str = AUTO) -> ImportSource:
    """Find out what a source is; no structure is parsed.

    Args:
        source: what `load_crystals` reads; a folder, zip or tar archive of CIF, POSCAR, (ext)xyz
            and pymatgen JSON files, or such a file itself; an ASE database.
        target: name of the column that ``id_prop.csv`` does not name.
        ids: ``auto``, ``path``, or the key or column that holds the ids.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    if source in BUILTIN:
        return _open_builtin(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(source, path, target, ids)
    kind = _kind_of_file(path)
    if kind == "table":
        return _of_file(source, path, ids, open_table(path, ids))
    if kind == "ase":
        return _open_database(source, path, ids)
    return _open_collection(source, path, target, ids)


def _kind_of_file(path: Path) -> str:
    """Give ``table``, ``ase`` or ``files``, by the ending and, of JSON, the content.

    Raises:
        DataError: no such file, or an unknown ending.
    """
    name = path.name.lower()
    if path.is_file() and path.stat().st_size:
        if name.endswith(".db") or (name.endswith(".json") and is_json_database(path)):
            return "ase"
        if name.endswith(".json") and _is_structure(path):
            return "files"
        if is_archive(name) or format_of(path.name) not in (None, "json"):
            return "files"
    try:
        find_ending(path)
    except DataError as cause:
        if "cannot tell what" not in str(cause):
            raise
        known = f"{cause}; or {KNOWN}; an archive ({', '.join(ARCHIVES)}); an ASE database (.db)"
        raise DataError(known) from None
    return "table"


def _is_structure(path: Path) -> bool:
    with path.open("rb") as file:
        return _STRUCTURE_JSON.match(file.read(1 << 10)) is not None


def _open_builtin(name: str) -> ImportSource:
    raw = BUILTIN[name]()
    facts = facts_of_builtin(name, raw)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(raw), SIZE):
            some = raw.cut(start, min(start + SIZE, len(raw)))
            yield Chunk(say_rows(start, len(some)), len(some), partial(_same, some))

    return ImportSource(
        name, {"sha256": facts.sha256}, chunks, len(raw), "rows", lambda _: facts,
        columns=raw.properties.iloc[:0],
    )  # fmt: skip


def _same(raw: Any) -> Any:
    return raw


def _of_file(source: str, path: Path, ids: str, opened: Any) -> ImportSource:
    digest = hash_file(path)
    return ImportSource(
        name=source,
        facts={"sha256": digest, "ids": ids},
        chunks=opened.chunks,
        n_items=opened.n_rows,
        items="rows",
        describe=partial(_describe, path, digest),
        columns=opened.columns,
        units=opened.units,
    )


def _open_database(source: str, path: Path, ids: str) -> ImportSource:
    digest = hash_file(path)
    if path.name.lower().endswith(".db"):
        numbers = list_numbers(path)
        chunks, n_rows = partial(cut_numbers, path, numbers, ids), len(numbers)
    else:
        cut = cut_json(path, ids)
        chunks, n_rows = partial(iter, cut), sum(chunk.n_items for chunk in cut)
    return ImportSource(
        source, {"sha256": digest, "ids": ids}, chunks, n_rows, "rows",
        partial(_describe, path, digest),
    )  # fmt: skip


def _open_collection(source: str, path: Path, target: str | None, ids: str) -> ImportSource:
    """Open an archive, or a file with crystals itself."""
    contents = list_contents(iter_entries(path))
    digest = hash_file(path)
    facts = {"sha256": digest, "ids": ids}
    describe = partial(_describe, path, digest)
    if contents.lists:
        _refuse_ids(source, ids)
        chosen = choose_list(contents.lists, source)
        listed = read_archive_list(
            iter_entries(path), chosen, contents.ids, source=path, target=target
        )
        n_rows = sum(map(len, listed.rows.values()))

        def chunks() -> Iterator[Chunk]:
            documents = archive_documents(iter_entries(path), listed)
            return chunk_documents(documents, ids, listed.properties)

        listed_facts = {**facts, "target": target or ""}
        return ImportSource(
            source, listed_facts, chunks, n_rows, "files", describe,
            columns=listed.properties.iloc[:0],
        )  # fmt: skip
    return _of_files(source, contents, partial(iter_entries, path), ids, facts, describe)


def _open_folder(source: str, path: Path, target: str | None, ids: str) -> ImportSource:
    listing = Listing()
    contents = list_contents(listing.pass_on(iter_entries(path)))
    facts = {"listing": listing.hexdigest(), "ids": ids}
    if not has_list(path):
        refuse_deeper_list(contents.lists, source)
        describe = partial(_describe_folder, path, facts["listing"])
        return _of_files(source, contents, partial(iter_entries, path), ids, facts, describe)
    _refuse_ids(source, ids)
    folder = open_listed_folder(path, target)
    return ImportSource(
        name=source,
        facts={**facts, "target": target or ""},
        chunks=lambda: chunk_documents(listed_documents(folder), ids, folder.properties),
        n_items=len(folder),
        items="files",
        describe=lambda _: facts_of_folder(folder),
        columns=folder.properties.iloc[:0],
    )


def _of_files(
    source: str,
    contents: Contents,
    entries: Callable[[], Iterable[Entry]],
    ids: str,
    facts: Mapping[str, str],
    describe: Callable[[int], SourceFacts],
) -> ImportSource:
    refuse_nothing(contents, source)
    if ids == AUTO:
        contents.refuse_equal_ids(source)
    return ImportSource(
        name=source,
        facts=facts,
        chunks=lambda: chunk_documents(iter_documents(entries()), ids),
        n_items=contents.n_files,
        items="files",
        describe=describe,
        note=contents.say_others(),
    )


def _refuse_ids(source: str, ids: str) -> None:
    if ids != AUTO:
        raise DataError(f"{source}: id_prop.csv names the crystals; leave out --ids {ids}")


def _describe(path: Path, digest: str, n_rows: int) -> SourceFacts:
    endings = [e for e in (*ARCHIVES, *DATA_ENDINGS, ".db") if path.name.lower().endswith(e)]
    longest = max(map(len, endings), default=0)
    name = path.name[:-longest] if longest else id_of(path.name)
    return SourceFacts(name, str(path.resolve()), sha256=digest, n_rows=n_rows)


def _describe_folder(path: Path, listing: str, n_rows: int) -> SourceFacts:
    """Hash the names and contents of a folder's files, as `describe_source` does.

    Raises:
        DataError: files came, went or changed while they were read.
    """
    digest, now = hashlib.sha256(), Listing()
    for entry in now.pass_on(iter_entries(path)):
        if is_wanted(entry) and not entry.problem:
            digest.update(os.fsencode(entry.path) + b"\0")
            _add_content(digest, entry)
    if now.hexdigest() != listing:
        raise DataError(f"{path}: files changed while they were read; run the same command again")
    return SourceFacts(path.resolve().name, str(path.resolve()), digest.hexdigest(), n_rows)


def _add_content(digest: Any, entry: Entry) -> None:
    with suppress(OSError), entry.open() as file:  # a row says that it cannot be read
        while content := file.read(1 << 20):
            digest.update(content)


class Listing:
    """The hash of the names, sizes and times of change of files that pass through."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def pass_on(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give the same entries."""
        for entry in entries:
            self._digest.update(os.fsencode(f"{entry.path}\0{entry.size}\0{entry.changed}\n"))
            yield entry

    def hexdigest(self) -> str:
        """Give the hash of those that have passed."""
        return self._digest.hexdigest()
