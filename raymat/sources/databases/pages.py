"""One page of a fetch: a response to a table of crystals and the record of the page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from raymat.data.checks import check_rows
from raymat.data.raw import ParsedStructure, RawCrystals
from raymat.data.writers import atomic_file, to_table
from raymat.sources.databases.columns import Column, as_text, kind_of_value, read_value
from raymat.sources.databases.entries import entry_id, parse_entry
from raymat.sources.databases.state import FetchState, PageRecord


@dataclass(frozen=True)
class Page:
    """A page as it came.

    Attributes:
        url: that gave it.
        next_url: of the page after it; None for the last.
        entries: of its ``data``.
        more: for each entry's id, what another interface adds to it.
        n_found: entries that the query has in all, if the server tells.
    """

    url: str
    next_url: str | None
    entries: Sequence[Any]
    more: Mapping[str, Mapping[str, Any]]
    n_found: int | None


def store_page(
    state: FetchState, page: Page, columns: Sequence[Column], max_atoms: int
) -> PageRecord:
    """Check every entry of a page and finish the page on disk.

    Raises:
        DataError: it cannot be written.
    """
    import pyarrow.parquet as pq

    number = len(state.pages) + 1
    raw = _read_entries(page, columns, number, max_atoms)
    checked = check_rows(raw, None, where=page.url)
    crystals = raw.select(checked.usable, checked.properties)
    file = state.page_file(number)
    with atomic_file(file) as temporary:
        pq.write_table(to_table(crystals), temporary, compression="zstd")
    bad = np.flatnonzero(checked.reasons != "")
    record = PageRecord(
        number=number,
        url=page.url,
        next_url=page.next_url,
        n_entries=len(page.entries),
        rejected=[(str(raw.material_ids[i]), str(checked.reasons[i])) for i in bad],
        kinds=_kinds(page, columns),
        data_sha256=_hash([list(page.entries), dict(page.more)] if page.more else page.entries),
        file_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        n_found=page.n_found,
    )
    state.record(record)
    return record


def _read_entries(
    page: Page, columns: Sequence[Column], number: int, max_atoms: int
) -> RawCrystals:
    ids, parsed = [], []
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    for row, entry in enumerate(page.entries):
        name = entry_id(entry)
        structure = parse_entry(entry, max_atoms) if name else "malformed entry: no id"
        ids.append(name or f"page-{number}-entry-{row + 1}")
        parsed.append(structure)
        n_sites = len(structure.atomic_numbers) if isinstance(structure, ParsedStructure) else 0
        for column in columns:
            value = read_value(column, _document(page, column, entry, name), n_sites)
            values[column.name].append(value if column.is_standard else as_text(value))
    return RawCrystals.from_parsed(
        np.array(ids, dtype=object), parsed, _frame(values, columns, len(ids))
    )


def _document(page: Page, column: Column, entry: Any, name: str | None) -> Mapping[str, Any]:
    """Give what holds a column's field: the entry's attributes, or what mp-api says of it."""
    if column.interface == "mp-api":
        return page.more.get(name or "", {})
    attributes = entry.get("attributes") if isinstance(entry, Mapping) else None
    return attributes if isinstance(attributes, Mapping) else {}


def _frame(values: dict[str, list[Any]], columns: Sequence[Column], n_rows: int) -> pd.DataFrame:
    kinds: dict[str, Any] = {c.name: np.float64 if c.is_standard else object for c in columns}
    found = {name: pd.Series(column, dtype=kinds[name]) for name, column in values.items()}
    return pd.DataFrame(found, index=range(n_rows))


def _kinds(page: Page, columns: Sequence[Column]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {c.name: set() for c in columns if not c.is_standard}
    for column in columns:
        for entry in page.entries if not column.is_standard else ():
            kind = kind_of_value(read_value(column, _document(page, column, entry, None), 0))
            if kind is not None:
                found[column.name].add(kind)
    return {name: sorted(kinds) for name, kinds in found.items()}


def _hash(data: Any) -> str:
    """Hash JSON whatever the order of its keys and its spaces."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
