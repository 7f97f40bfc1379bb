"""Pieces of a source that a worker parses by itself: a few hundred files, rows or texts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from raymat.data.cif_folder import read_bytes_of
from raymat.data.files.documents import Document, clean
from raymat.data.files.texts import Found, Scalar, parse_text
from raymat.data.parquet_reader import read_table
from raymat.data.raw import ParsedStructure, RawCrystals
from raymat.data.structure_parser import parse_cif, quiet_pymatgen, read_structure_table

if TYPE_CHECKING:
    import pyarrow as pa

SIZE = 500
"""Files, rows or structures in a chunk: about a second of parsing."""
_BYTES = 1 << 20  # of file contents that a chunk carries along

NO_ID = "id is missing"
"""What the reason of a crystal begins with that lacks the key of `--ids`."""
AUTO, PATH = "auto", "path"
"""Values of ``--ids`` that are no key: what a crystal brings along or its file's name; its path."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a source, not parsed yet, fit to be sent to another process.

    Attributes:
        label: where they stand, for a message.
        n_items: files or rows, as the source counts them.
        parse: gives the rows.
    """

    label: str
    n_items: int
    parse: Callable[[], RawCrystals]


def chunk_documents(
    documents: Iterable[Document], ids: str, listed: pd.DataFrame | None = None
) -> Iterator[Chunk]:
    """Cut documents into chunks of `SIZE`, or fewer where they are long.

    `listed` holds the rows of ``id_prop.csv``, if there is such a list.
    """
    held: list[Document] = []
    n_bytes = 0
    for document in documents:
        held.append(document)
        n_bytes += len(document)
        if len(held) == SIZE or n_bytes >= _BYTES:
            yield _document_chunk(held, ids, listed)
            held, n_bytes = [], 0
    if held:
        yield _document_chunk(held, ids, listed)


def _document_chunk(documents: list[Document], ids: str, listed: pd.DataFrame | None) -> Chunk:
    first, last = documents[0].path, documents[-1].path
    label = first if first == last else f"{first} to {last}"
    n_files = sum(not document.first for document in documents)
    if listed is None:
        return Chunk(label, n_files, partial(parse_documents, documents, ids))
    rows = listed.reindex([document.row for document in documents])
    return Chunk(label, n_files, partial(parse_listed, documents, rows))


def parse_documents(documents: Sequence[Document], ids: str) -> RawCrystals:
    """Give every structure of some files, called as `ids` says."""
    with quiet_pymatgen():
        return join_found([row for document in documents for row in _parse(document, ids)])


def parse_listed(documents: Sequence[Document], properties: pd.DataFrame) -> RawCrystals:
    """Give one row for each file, with the properties of its list."""
    with quiet_pymatgen():
        parsed = [_parse_one(document) for document in documents]
    ids = np.array([document.id for document in documents], dtype=object)
    return RawCrystals.from_parsed(ids, parsed, properties)


def table_chunk(table: pd.DataFrame, *, where: str, first_row: int) -> Chunk:
    """Take rows of a table whose structures are text or dictionaries."""
    parse = partial(read_structure_table, table, where=where, first_row=first_row)
    return Chunk(say_rows(first_row, len(table)), len(table), parse)


def arrow_chunk(table: "pa.Table", path: Path, first_row: int) -> Chunk:
    """Take rows of a Parquet file."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()  # pickled, a slice would take the whole table along
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    parse = partial(parse_stream, sink.getvalue().to_pybytes(), path, first_row)
    return Chunk(say_rows(first_row, len(table)), len(table), parse)


def parse_stream(stream: bytes, path: Path, first_row: int) -> RawCrystals:
    """Give the rows of an Arrow stream."""
    import pyarrow as pa

    with pa.ipc.open_stream(stream) as reader:
        return read_table(reader.read_all(), path, first_row=first_row)


def join_found(found: Sequence[Found]) -> RawCrystals:
    """Give structures as rows; a property that some lack is empty there."""
    ids = np.array([row.name for row in found], dtype=object)
    properties = pd.DataFrame([dict(row.properties) for row in found], index=range(len(found)))
    return RawCrystals.from_parsed(ids, [row.structure for row in found], properties)


def _parse(document: Document, ids: str) -> list[Found]:
    content = _content(document)
    found = [Found(content)] if isinstance(content, str) else parse_text(content, document.kind)
    is_many = len(found) > 1 or document.first is not None
    start = document.first or 0
    return [
        _named(row, document, f"{start + k}" if is_many else "", ids) for k, row in enumerate(found)
    ]


def _named(found: Found, document: Document, number: str, ids: str) -> Found:
    """Give the structure with its id; `number` is its place in a file of several."""
    if ids == PATH:
        return replace(found, name=f"{document.path}#{number}" if number else document.path)
    by_file = f"{document.id}-{number}" if number else document.id
    if ids != AUTO:
        return name_by_key(found, ids, otherwise=by_file)
    # A CIF of one block is called after its file: many programs give every block one name.
    own = found.name if number or document.kind != "cif" else ""
    return replace(found, name=clean(own) or by_file)


def name_by_key(found: Found, key: str, *, otherwise: str) -> Found:
    """Give the structure with one of its properties as its id, or the reason for having none."""
    properties: dict[str, Scalar] = dict(found.properties)
    if key == "material_id":
        properties[key] = found.name
    name = str(properties.pop(key, "")).strip()
    structure: ParsedStructure | str = found.structure
    if not name and not isinstance(structure, str):
        structure = f"{NO_ID}: no key '{key}'"
    return Found(structure, name or otherwise, properties)


def _parse_one(document: Document) -> ParsedStructure | str:
    content = _content(document)
    if isinstance(content, str):
        return content
    if document.kind == "cif":
        return parse_cif(content)
    found = parse_text(content, document.kind)
    if len(found) > 1:
        return f"several structures: {document.path} holds {len(found)}, its id is one"
    return found[0].structure


def _content(document: Document) -> bytes | str:
    if document.problem:
        return document.problem
    content = document.content
    return read_bytes_of(content) if isinstance(content, Path) else content


def say_rows(first: int, n: int) -> str:
    """Name some rows, counted from 0."""
    return f"rows {first:,} to {first + n - 1:,}"
