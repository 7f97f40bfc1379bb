"""ASE databases: SQLite (``.db``) row by row, JSON (``.json``) whole."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from raymat.data.files.chunks import (
    AUTO,
    PATH,
    SIZE,
    Chunk,
    join_found,
    name_by_key,
    say_rows,
)
from raymat.data.files.texts import Found, compared, parse_atoms, scalars
from raymat.data.raw import RawCrystals
from raymat.data.structure_parser import PARSER_ERRORS, short_problem
from raymat.errors import DataError

_ROW_ERRORS = (*PARSER_ERRORS, OSError, sqlite3.Error)
_TAIL = 256  # bytes in which ASE ends its JSON


def list_numbers(path: Path) -> list[int]:
    """Give the numbers of a SQLite database's rows, ascending.

    ASE itself would turn whatever it opens into a database; this looks only.

    Raises:
        DataError: no ASE database.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return [
                number for (number,) in connection.execute("SELECT id FROM systems ORDER BY id")
            ]
    except sqlite3.Error as cause:
        raise DataError(f"{path}: not a readable ASE database ({cause})") from cause


def cut_numbers(path: Path, numbers: Sequence[int], ids: str) -> Iterator[Chunk]:
    """Cut the rows of a SQLite database into chunks."""
    for start in range(0, len(numbers), SIZE):
        some = numbers[start : start + SIZE]
        label = f"rows with id {some[0]} to {some[-1]}"
        yield Chunk(label, len(some), partial(parse_rows, path, some, ids))


def parse_rows(path: Path, numbers: Sequence[int], ids: str) -> RawCrystals:
    """Give the rows of these numbers."""
    database = _connect(path)
    return join_found([_read(database, number, ids) for number in numbers])


def is_json_database(path: Path) -> bool:
    """Say whether a JSON file ends as ASE's databases do."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return b'"nextid"' in file.read()


def cut_json(path: Path, ids: str) -> list[Chunk]:
    """Read a JSON database and cut it into chunks.

    Raises:
        DataError: it cannot be read.
    """
    try:
        database = _connect(path, kind="json")
        found = [_take(row, ids) for row in database.select(sort="id")]
    except _ROW_ERRORS as cause:
        raise DataError(f"{path}: not a readable ASE database ({short_problem(cause)})") from cause
    starts = range(0, len(found), SIZE)
    chunks = [(start, found[start : start + SIZE]) for start in starts]
    return [
        Chunk(say_rows(s, len(some)), len(some), partial(join_found, some)) for s, some in chunks
    ]


def _connect(path: Path, kind: str = "db") -> Any:
    from ase.db import connect

    return connect(path, type=kind, use_lock_file=False)  # type: ignore[no-untyped-call]  # only read


def _read(database: Any, number: int, ids: str) -> Found:
    try:
        return _take(database.get(id=number), ids)
    except _ROW_ERRORS as cause:
        return Found(f"unreadable row: {short_problem(cause)}", f"row-{number}")


def _take(row: Any, ids: str) -> Found:
    """Give the row's structure; its key-value pairs are properties, and its energy in eV."""
    energy = row.get("energy")
    results = {} if energy is None else {"energy": energy}
    properties = scalars({**results, **row.key_value_pairs})
    name = str(properties.pop("material_id", ""))
    named = Found(compared(parse_atoms(row.toatoms()), properties), name, properties)
    unique = str(row.unique_id)
    if ids not in (AUTO, PATH, "unique_id"):
        return name_by_key(named, ids, otherwise=unique)
    name = named.name if ids == AUTO else ""
    return Found(named.structure, name or unique, properties)
