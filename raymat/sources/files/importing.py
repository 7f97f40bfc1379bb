"""An import from beginning to end: parse what is not parsed yet, judge, write."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymat.data.checks import Checked, find_column
from raymat.data.facts import DataSource
from raymat.data.files.chunks import AUTO, NO_ID, Chunk
from raymat.data.files.source import OpenSource, open_source
from raymat.data.files.unchanged import SourceChangedError
from raymat.data.files.units import split_header
from raymat.data.limits import MAX_REJECTED
from raymat.data.readers import refuse_empty, refuse_too_many, rejected_rows
from raymat.data.writers import write_rejected
from raymat.errors import DataError, did_you_mean
from raymat.sources.files.columns import Columns
from raymat.sources.files.join import (
    Survey,
    Writing,
    first_reasons,
    judge,
    plan,
    plan_own,
    plan_table,
    survey,
    write_joined,
)
from raymat.sources.files.parts import PartFolder, open_parts
from raymat.sources.files.pool import parse_all, start_server
from raymat.sources.files.property_table import PropertyTable, read_property_table

Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported, and how.

    Attributes:
        source: file, folder or built-in name.
        out: Parquet file to write.
        rejected_out: CSV of the rows that cannot be used.
        target: property that must hold finite numbers within its bounds, None for no such check.
        max_rejected: largest share of unusable rows, 0 to 1.
        properties: CSV with properties by ``material_id``.
        ids: ``auto``, ``path``, or a key or column.
        units: property -> unit its values are in.
        workers: processes that parse.
    """

    source: str
    out: Path
    rejected_out: Path
    target: str | None = None
    max_rejected: float = MAX_REJECTED
    properties: Path | None = None
    ids: str = AUTO
    units: dict[str, str] = field(default_factory=dict)
    workers: int = 1


@dataclass(frozen=True)
class Imported:
    """What an import gave.

    Attributes:
        source: name, path, hash and counts.
        rejected: ``material_id``, ``reason``.
        notes: what else a user should know, a line each.
    """

    source: DataSource
    rejected: pd.DataFrame
    notes: list[str]


def import_crystals(request: ImportRequest, *, listeners: tuple[Listener, ...] = ()) -> Imported:
    """Read any source, check every row, write the standard Parquet and the list of rejected rows.

    What is parsed is kept beside the output until that is there, so an import that was killed goes
    on where it was. The output depends neither on that nor on the number of workers. A script that
    calls this with more than one needs an ``if __name__ == "__main__":``, as with
    `multiprocessing`.

    Raises:
        DataError: the source, its units or its properties cannot be used, or there are parts of
            another import.
        TooManyRejectedError: too many rows cannot be used; they are listed all the same.
        WorkerError: a worker process died.
    """
    tell = _teller(listeners)
    tell(event="opening")
    if request.workers > 1:
        start_server()  # it imports pymatgen while the source is looked at
    table = None if request.properties is None else read_property_table(request.properties)
    plan_table(table, request.units)
    source = open_source(request.source, target=request.target, ids=request.ids, by_chunks=True)
    _check_early(source, table, request)
    with open_parts(request.out, dict(source.facts)) as parts:
        n_parts = _parse(source, parts, request.workers, tell, request.ids)
        tell(event="joining")
        try:
            imported = _join(source, table, parts, n_parts, request)
        except SourceChangedError:
            parts.remove()  # nobody knows which of them are of the source as it is now
            raise
        parts.remove()
    return imported


def _teller(listeners: tuple[Listener, ...]) -> Callable[..., None]:
    def tell(**event: Any) -> None:
        for listener in listeners:
            listener(event)

    return tell


def _check_early(source: OpenSource, table: PropertyTable | None, request: ImportRequest) -> None:
    """Refuse a wrong target or unit before an hour of parsing, where columns are known by then."""
    if source.columns is None:
        return
    own = source.columns
    names = [split_header(str(name))[0] for name in own.columns]
    names += [] if table is None else [split_header(n)[0] for n in table.columns.column_names]
    for name in request.units:
        if name not in names:
            hint = did_you_mean(name, names)
            raise DataError(f"--unit {name}=...: {request.source}: no column '{name}'{hint}")
    if request.target is not None and request.target not in names:
        find_column(own, request.target, where=request.source)
    plan_own(map(str, own.columns), source, {}, request.units)


def _parse(
    source: OpenSource, parts: PartFolder, workers: int, tell: Callable[..., None], ids: str
) -> int:
    """Parse the chunks that have no part yet; give the number of all.

    Raises:
        DataError: none of the first crystals has the key that holds ids; nothing is kept then.
    """
    n_parts = 0
    at_work: deque[int] = deque()
    tell(event="import_started", total=source.n_items, items=source.items)

    def work() -> Iterator[tuple[Chunk, Path]]:
        nonlocal n_parts
        for number, chunk in enumerate(source.chunks()):
            n_parts = number + 1
            if parts.has(number):
                tell(event="part_found", items=chunk.n_items)
            else:
                at_work.append(number)
                yield chunk, parts.part(number)

    def on_part(chunk: Chunk, rows: int, good: int) -> None:
        number = at_work.popleft()
        if number == 0 and not good:
            _refuse_unknown_key(parts, ids, source.name)
        tell(event="part_ended", items=chunk.n_items, rows=rows, good=good)

    parse_all(work(), workers=workers, on_part=on_part)
    return n_parts


def _refuse_unknown_key(parts: PartFolder, ids: str, source: str) -> None:
    """Refuse a key that no crystal of the first part has."""
    reasons, keys = first_reasons(parts)
    if reasons and all(reason.startswith(NO_ID) for reason in reasons):
        parts.remove()
        raise DataError(f"--ids {ids}: {source}: no crystal has it{did_you_mean(ids, keys)}")


def _join(
    source: OpenSource,
    table: PropertyTable | None,
    parts: PartFolder,
    n_parts: int,
    request: ImportRequest,
) -> Imported:
    found = survey(parts, n_parts)
    refuse_empty(len(found.ids), source.name)
    _refuse_strangers(table, found, source.name)
    columns = plan(found, source, table, request.units)
    _check_units(request, [*columns.units.values(), *columns.table_units.values()])
    checked, values = judge(found, columns, parts, n_parts, request.target, source.name)
    facts = source.describe(len(found.ids))
    rejected = _reject(found, checked, request)
    target = None if values is None or request.target is None else (request.target, values)
    is_single = bool(np.all(np.array(found.is_single)[checked.usable]))
    writing = Writing(checked.reasons == "", is_single, target)
    write_joined(parts, n_parts, columns, writing, request.out)
    return Imported(facts.counted(len(rejected)), rejected, _notes(source, columns, found))


def _refuse_strangers(table: PropertyTable | None, found: Survey, source: str) -> None:
    """Refuse a property table that has a row for none of the crystals.

    Raises:
        DataError: it is of other crystals, or calls them otherwise.
    """
    if table is None or table.count_unknown(found.ids) < len(table.ids):
        return
    first = "" if table.ids.empty else f" ('{table.ids[0]}', for example)"
    raise DataError(
        f"{table.path}: none of its {len(table.ids):,} ids{first} is one of {source}"
        f" ('{found.ids[0]}'); name the crystals alike, or see --ids"
    )


def _reject(found: Survey, checked: Checked, request: ImportRequest) -> pd.DataFrame:
    """Write the list of the rejected rows and give it, however many they are.

    Raises:
        TooManyRejectedError: they are too many.
    """
    rejected = rejected_rows(np.array(found.ids, dtype=object), checked.reasons)
    write_rejected(rejected, request.rejected_out)
    refuse_too_many(
        rejected,
        len(found.ids),
        source=request.source,
        max_rejected=request.max_rejected,
        listed=f"{request.rejected_out} lists them",
    )
    return rejected


def _check_units(request: ImportRequest, planned: list[Any]) -> None:
    names = [unit.name for unit in planned]
    for name in request.units:
        if name not in names:
            hint = did_you_mean(name, names)
            raise DataError(f"--unit {name}=...: {request.source}: no column '{name}'{hint}")


def _notes(source: OpenSource, columns: Columns, found: Survey) -> list[str]:
    notes = [note for note in (source.note, *(u.note for u in columns.units.values())) if note]
    table = columns.table
    if table is not None:
        notes += [table.note] if table.note else []
        n_unknown = table.count_unknown(found.ids)
        n_without = int((table.ids.get_indexer(pd.Index(found.ids, dtype=object)) < 0).sum())
        if n_unknown:
            notes.append(f"{table.path}: {n_unknown:,} ids have no crystal")
        if n_without:
            notes.append(f"{table.path}: {n_without:,} crystals have no row")
    return notes
