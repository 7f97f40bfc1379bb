"""Any source of crystals, opened but not parsed: tables, folders, archives, databases, files.

Every command reads through here. `raymat data import` takes a source's chunks to many processes;
the others read it at once, which is for what fits into minutes and memory.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.builtin import BUILTIN
from raymat.data.cif_folder import CifFolder, open_listed_folder
from raymat.data.facts import SourceFacts, exists, facts_of_builtin, find_ending, hash_file
from raymat.data.files.archives import Entry
from raymat.data.files.ase_database import cut_json, cut_numbers, is_json_database, list_numbers
from raymat.data.files.chunks import AUTO, SIZE, Chunk, chunk_documents, parse_listed, say_rows
from raymat.data.files.documents import (
    Contents,
    iter_documents,
    iter_entries,
    list_contents,
    refuse_nothing,
)
from raymat.data.files.formats import format_of, is_archive
from raymat.data.files.listed import (
    archive_documents,
    choose_list,
    has_list,
    listed_documents,
    read_archive_list,
    refuse_deeper_list,
)
from raymat.data.files.tables import HeldRows, OpenTable, Rows, open_table
from raymat.data.files.unchanged import (
    Listing,
    WatchedFile,
    describe_folder,
    describe_listed,
)
from raymat.data.raw import NO_IDS, RawCrystals
from raymat.errors import DataError
from raymat.reading import user_path

MANY = 20_000
"""Crystals that are parsed at every call without advice to import them."""
MOST = 200_000
"""Crystals of files, archives and databases that are read without importing them."""
_STRUCTURE_JSON = re.compile(rb'\s*\[?\s*\{\s*"(?:@module|@class|lattice|sites|charge)"')


@dataclass(frozen=True)
class OpenSource:
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
        rows: reads it at once or by shard without going through chunks, where that is possible.
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
    rows: Callable[[], Rows] | None = None

    def open_rows(self) -> Rows:
        """Return what reads the rows here; where they are unknown until then, all are parsed.

        Raises:
            DataError: there are so many that they should be imported.
        """
        if self.rows is not None:
            return self.rows()
        raw = self._parse()
        return HeldRows(raw.material_ids, raw.cut)

    def _parse(self) -> RawCrystals:
        parsed, n_rows = list[RawCrystals](), 0
        for chunk in self.chunks():
            parsed.append(chunk.parse())
            n_rows += len(parsed[-1])
            if max(n_rows, self.n_items) > MOST:
                raise DataError(f"{self.name}: more than {MOST:,} crystals; {self._advice()}")
        return RawCrystals.join(parsed)

    def facts_of(self, ids: Iterable[NDArray[np.object_]]) -> SourceFacts:
        """Describe the source, and what was read in another way than a user may think.

        `ids` are those of all rows in order, some at a time.

        Raises:
            SourceChangedError: it changed meanwhile.
        """
        n_rows, unnamed = 0, list[str]()
        for some in ids:
            unnamed += [name for row, name in enumerate(some, n_rows) if name == f"row-{row}"]
            n_rows += len(some)
        notes = [self.note]
        if unnamed and not self.note.startswith(NO_IDS):
            crystals = "1 crystal" if len(unnamed) == 1 else f"{len(unnamed):,} crystals"
            after = (
                "is called after its row" if len(unnamed) == 1 else "are called after their rows"
            )
            notes.append(f"{crystals} without an id {after}, such as {unnamed[0]}")
        if n_rows > MANY and self.is_parsed:
            notes.append(f"{n_rows:,} crystals are parsed at every call; {self._advice()}")
        facts = self.describe(n_rows)
        return replace(facts, notes=tuple(filter(None, (*facts.notes, *notes))))

    @property
    def is_parsed(self) -> bool:
        """Whether text is parsed at every call, which an import does once."""
        return self.items == "files" or self.rows is None

    def _advice(self) -> str:
        name = shlex.quote(self.name)
        return f"`raymat data import {name} -o FILE.parquet` parses them once, on all cores"


def open_source(
    source: str, *, target: str | None = None, ids: str = AUTO, by_chunks: bool = False
) -> OpenSource:
    """Find out what a source is; no structure is parsed.

    Args:
        source: a Parquet, CSV, JSON or JSON.GZ table; a folder, zip or tar archive of CIF, POSCAR,
            (ext)xyz and pymatgen JSON files, with or without ``id_prop.csv``, or such a file
            itself; an ASE database; the name of a built-in set.
        target: name of the column that ``id_prop.csv`` does not name.
        ids: ``auto``, ``path``, or the key or column that holds the ids.
        by_chunks: whether chunks are what will be read.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    if source in BUILTIN:
        return _open_builtin(source)
    path = user_path(source)
    if exists(path) and path.is_dir():
        return _open_folder(source, path, target, ids)
    kind = _kind_of_file(path)
    file = WatchedFile.look(path)
    if kind == "table":
        return _of_file(source, file, ids, open_table(path, ids, by_chunks=by_chunks))
    if kind == "ase":
        return _open_database(source, file, ids)
    return _open_collection(source, file, target, ids)


def _kind_of_file(path: Path) -> str:
    """Give ``table``, ``ase`` or ``files``, by the ending and, of JSON, the content.

    Raises:
        DataError: no such file, or an unknown ending.
    """
    name = path.name.lower()
    if exists(path) and path.is_file() and path.stat().st_size:
        if name.endswith(".db") or (name.endswith(".json") and is_json_database(path)):
            return "ase"
        if name.endswith(".json") and _is_structure(path):
            return "files"
        if is_archive(name) or format_of(path.name) not in (None, "json"):
            return "files"
    find_ending(path)
    return "table"


def _is_structure(path: Path) -> bool:
    with path.open("rb") as file:
        return _STRUCTURE_JSON.match(file.read(1 << 10)) is not None


def _open_builtin(name: str) -> OpenSource:
    raw = BUILTIN[name]()
    facts = facts_of_builtin(name, raw)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(raw), SIZE):
            some = raw.cut(start, min(start + SIZE, len(raw)))
            yield Chunk(say_rows(start, len(some)), len(some), partial(_same, some))

    return OpenSource(
        name, {"sha256": facts.sha256}, chunks, len(raw), "rows", lambda _: facts,
        columns=raw.properties.iloc[:0], rows=lambda: HeldRows(raw.material_ids, raw.cut),
    )  # fmt: skip


def _same(raw: Any) -> Any:
    return raw


def _of_file(source: str, file: WatchedFile, ids: str, opened: OpenTable) -> OpenSource:
    digest = hash_file(file.path)
    return OpenSource(
        name=source,
        facts={"sha256": digest, "ids": ids},
        chunks=opened.chunks,
        n_items=opened.n_rows,
        items="rows",
        describe=partial(file.describe, digest),
        note=opened.note,
        columns=opened.columns,
        units=opened.units,
        rows=opened.rows,
    )


def _open_database(source: str, file: WatchedFile, ids: str) -> OpenSource:
    path = file.path
    digest = hash_file(path)
    if path.name.lower().endswith(".db"):
        numbers = list_numbers(path)
        chunks, n_rows = partial(cut_numbers, path, numbers, ids), len(numbers)
    else:
        cut = cut_json(path, ids)
        chunks, n_rows = partial(iter, cut), sum(chunk.n_items for chunk in cut)
    return OpenSource(
        source, {"sha256": digest, "ids": ids}, chunks, n_rows, "rows",
        partial(file.describe, digest),
    )  # fmt: skip


def _open_collection(source: str, file: WatchedFile, target: str | None, ids: str) -> OpenSource:
    """Open an archive, or a file with crystals itself."""
    path = file.path
    contents = list_contents(iter_entries(path))
    digest = hash_file(path)
    facts = {"sha256": digest, "ids": ids}
    describe = partial(file.describe, digest)
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
        return OpenSource(
            source, listed_facts, chunks, n_rows, "files", describe, listed.note,
            columns=listed.properties.iloc[:0],
        )  # fmt: skip
    return _of_files(source, contents, partial(iter_entries, path), ids, facts, describe)


def _open_folder(source: str, path: Path, target: str | None, ids: str) -> OpenSource:
    listing = Listing()
    contents = list_contents(listing.pass_on(iter_entries(path)))
    facts = {"listing": listing.hexdigest(), "ids": ids}
    if not has_list(path):
        refuse_deeper_list(contents.lists, source)
        describe = partial(describe_folder, path, facts["listing"])
        return _of_files(source, contents, partial(iter_entries, path), ids, facts, describe)
    _refuse_ids(source, ids)
    folder = open_listed_folder(path, target)
    properties = folder.rows.properties
    return OpenSource(
        name=source,
        facts={**facts, "target": target or ""},
        chunks=lambda: chunk_documents(listed_documents(folder), ids, properties),
        n_items=len(folder),
        items="files",
        describe=lambda _: describe_listed(folder, facts["listing"]),
        note=folder.rows.note,
        columns=properties.iloc[:0],
        rows=partial(_listed_rows, folder),
    )


def _listed_rows(folder: CifFolder) -> Rows:
    documents = list(listed_documents(folder))

    def cut(start: int, stop: int) -> RawCrystals:
        return parse_listed(documents[start:stop], folder.rows.properties.iloc[start:stop])

    return HeldRows(folder.rows.material_ids, cut)


def _of_files(
    source: str,
    contents: Contents,
    entries: Callable[[], Iterable[Entry]],
    ids: str,
    facts: Mapping[str, str],
    describe: Callable[[int], SourceFacts],
) -> OpenSource:
    refuse_nothing(contents, source)
    if ids == AUTO:
        contents.refuse_equal_ids(source)
    return OpenSource(
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
