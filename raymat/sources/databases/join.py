"""The pages of a fetch to one Parquet file that says where everything in it came from."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raymat.data.parquet_reader import open_parquet
from raymat.data.raw import ID_COLUMN
from raymat.data.writers import atomic_file, write_rejected
from raymat.errors import DataError
from raymat.sources.databases.columns import Column, common_kind, from_text
from raymat.sources.databases.state import FetchState

if TYPE_CHECKING:
    import pyarrow as pa

PROVENANCE_KEY = b"raymat.fetch"
_ROWS = 8_192  # of a row group, at least
_DUPLICATE = "duplicate id: an earlier entry has this id"


@dataclass(frozen=True)
class Joined:
    """What came of a fetch.

    Attributes:
        n_rows: crystals in the file.
        n_entries: entries that the server sent.
        rejected: ``material_id``, ``reason`` of the others.
        filled: for each column, how many crystals have a value.
        provenance: as in the file's metadata.
    """

    n_rows: int
    n_entries: int
    rejected: pd.DataFrame
    filled: dict[str, int]
    provenance: dict[str, Any]


def join_pages(
    state: FetchState,
    columns: Sequence[Column],
    out: Path,
    *,
    rejected_file: Path,
    about: dict[str, Any],
) -> Joined:
    """Write the usable crystals of all pages, in their order, each id once, and list the others.

    The list is there before the file takes its name: where the file is, nothing is missing.

    Args:
        state: with every page finished.
        columns: of the file, besides id and structure.
        out: file to write; appears whole or not at all.
        rejected_file: list to write, ``material_id, reason``.
        about: facts of the query and the server, for the provenance.

    Raises:
        DataError: the file cannot be written, or a page cannot be read.
    """
    import pyarrow.parquet as pq

    pages = _Pages(state, columns)
    provenance = {**about, **_facts(state)}
    schema = pages.schema().with_metadata({PROVENANCE_KEY: json.dumps(provenance).encode()})
    with atomic_file(out) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as to:
            for table in _in_groups(pages.tables(), schema):
                to.write_table(table)
        rejected = pd.DataFrame(pages.rejected, columns=[ID_COLUMN, "reason"], dtype=object)
        write_rejected(rejected, rejected_file)
    return Joined(pages.n_rows, state.n_entries, rejected, pages.filled, provenance)


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Give the provenance of a fetched file; None for another Parquet file.

    Raises:
        DataError: no Parquet file, or its provenance is damaged.
    """
    with open_parquet(path) as file:
        found = (file.schema_arrow.metadata or {}).get(PROVENANCE_KEY)
    if found is None:
        return None
    try:
        return dict(json.loads(found))
    except (ValueError, TypeError) as cause:
        raise DataError(f"{path}: its metadata '{PROVENANCE_KEY.decode()}' are damaged") from cause


def _facts(state: FetchState) -> dict[str, Any]:
    hashes = [page.data_sha256 for page in state.pages]
    return {
        "fetched_from": state.pages[0].fetched,
        "fetched_until": state.pages[-1].fetched,
        "n_pages": len(hashes),
        "n_entries": state.n_entries,
        "n_found": state.pages[-1].n_found,
        "sha256": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        "page_sha256": hashes,
    }


class _Pages:
    """Reads the pages one by one, and counts."""

    def __init__(self, state: FetchState, columns: Sequence[Column]) -> None:
        self.state, self.columns = state, columns
        self.kinds = {c.name: self._kind_of(c) for c in columns if not c.is_standard}
        self.rejected: list[tuple[str, str]] = []
        self.filled = {column.name: 0 for column in columns}
        self.n_rows = 0
        self._ids: set[str] = set()

    def _kind_of(self, column: Column) -> str:
        return common_kind(k for page in self.state.pages for k in page.kinds.get(column.name, []))

    def schema(self) -> "pa.Schema":
        import pyarrow as pa

        coords = pa.list_(pa.float64())
        return pa.schema(
            [
                pa.field(ID_COLUMN, pa.string()),
                pa.field(
                    "lattice", pa.list_(pa.float64(), 9), metadata={"unit": "Å, 3x3 row-major"}
                ),
                pa.field("atomic_numbers", pa.list_(pa.uint8())),
                pa.field("frac_coords", coords),
                *[self._field(column) for column in self.columns],
            ]
        )

    def _field(self, column: Column) -> "pa.Field":
        import pyarrow as pa

        types = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
        kind = (
            pa.float64() if column.is_standard else types.get(self.kinds[column.name], pa.string())
        )
        words = {
            "unit": column.unit,
            "field": column.field,
            "method": column.method,
            "conversion": column.conversion,
            "interface": column.interface,
        }
        return pa.field(column.name, kind, metadata={k: v for k, v in words.items() if v})

    def tables(self) -> Iterator["pa.Table"]:
        schema = self.schema()
        for page in self.state.pages:
            self.rejected += [(name, reason) for name, reason in page.rejected]
            with open_parquet(self.state.page_file(page.number)) as file:
                table = file.read()
            table = self._without_known(table)
            for column in self.columns:
                self.filled[column.name] += len(table) - table[column.name].null_count
            self.n_rows += len(table)
            yield self._typed(table, schema)

    def _without_known(self, table: "pa.Table") -> "pa.Table":
        """Leave out ids of earlier pages: a database that grows meanwhile shifts its pages."""
        import pyarrow as pa

        ids = table[ID_COLUMN].to_pylist()
        is_new = [name not in self._ids for name in ids]
        self.rejected += [(n, _DUPLICATE) for n, new in zip(ids, is_new, strict=True) if not new]
        self._ids.update(ids)
        return table if all(is_new) else table.filter(pa.array(is_new))

    def _typed(self, table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
        import pyarrow as pa

        columns = []
        for field in schema:
            column = table[field.name]
            if field.name in self.kinds:
                kind = self.kinds[field.name]
                values = [from_text(text, kind) for text in column.to_pylist()]
                columns.append(pa.array(values, field.type))
            else:
                columns.append(column.cast(field.type))
        return pa.table(columns, schema=schema)


def _in_groups(tables: Iterator["pa.Table"], schema: "pa.Schema") -> Iterator["pa.Table"]:
    """Join small tables, so that a row group is worth reading."""
    import pyarrow as pa

    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        if sum(map(len, pending)) >= _ROWS:
            yield pa.concat_tables(pending)
            pending = []
    yield pa.concat_tables(pending) if pending else schema.empty_table()
