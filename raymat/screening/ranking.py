"""The order of judged candidates, however many they are, and the short list."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from raymat.errors import RaymatError, RunError
from raymat.reading import regular_file
from raymat.screening.candidates import numbers_of
from raymat.screening.criterion import Criterion
from raymat.screening.plain_columns import to_arrow

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ROWS_AT_ONCE = 10_000
_MEMORY = "512MB"  # what DuckDB cannot hold goes to the disk


@contextmanager
def ranked_candidates(
    tables: Iterable[pd.DataFrame], schema: "pa.Schema", criterion: Criterion, *, scratch: Path
) -> Iterator["Iterator[pa.RecordBatch]"]:
    """Give all candidates as the criterion orders them, ties by id, some thousand at a time.

    DuckDB sorts them on disk, so that memory does not grow with their number. Candidates without
    a number to be ranked by come last.

    Args:
        tables: judged candidates of every shard.
        schema: of all of them together.
        criterion: names the column to rank by, and its order.
        scratch: an empty folder for as much as all tables hold.

    Raises:
        RunError: they cannot be sorted, such as on a full disk.
    """
    import duckdb
    import pyarrow as pa

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(scratch),
        "threads": 1,
        "autoinstall_known_extensions": False,  # nothing is fetched from the network
    }
    try:
        with duckdb.connect(scratch / "candidates.duckdb", config=config) as database:
            _store(tables, schema, database)
            ordered = database.sql(_query(schema, criterion)).to_arrow_reader(ROWS_AT_ONCE)
            yield (pa.record_batch(batch.columns, schema.names).cast(schema) for batch in ordered)
    except RaymatError:  # such as of a shard's file; some are RuntimeErrors, too
        raise
    except (duckdb.Error, pa.ArrowException, RuntimeError) as cause:
        reason = str(cause).partition("\n")[0]
        if "nterrupted" in reason:  # DuckDB's word for Ctrl-C
            raise KeyboardInterrupt from cause
        raise RunError(f"{scratch}: the candidates cannot be ranked ({reason})") from cause


def short_list(table: pd.DataFrame, criterion: Criterion) -> pd.DataFrame:
    """Give the rows that the criterion lists; all of them where it does not say."""
    if criterion.list_if is None:
        return table
    values = {name: numbers_of(table, name) for name in criterion.list_if.names}
    listed = np.broadcast_to(criterion.list_if.evaluate(values) == 1, len(table))
    return table[listed].reset_index(drop=True)


def first_listed(ranking: Path, criterion: Criterion, n: int) -> pd.DataFrame:
    """Give the first `n` rows that the criterion lists of a run's ranking, a Parquet file."""
    import pyarrow.parquet as pq

    found: list[pd.DataFrame] = []
    with pq.ParquetFile(regular_file(ranking)) as file:
        nobody = file.schema_arrow.empty_table().to_pandas()
        for batch in file.iter_batches(ROWS_AT_ONCE):
            listed = short_list(batch.to_pandas(), criterion)
            found += [listed] if len(listed) else []
            if sum(map(len, found)) >= n:
                break
    return pd.concat(found, ignore_index=True).head(n) if found else nobody


# In the database columns go by their place: DuckDB takes names that differ in case for the same.


def _store(
    tables: Iterable[pd.DataFrame], schema: "pa.Schema", database: "duckdb.DuckDBPyConnection"
) -> None:
    places = [f"c{place}" for place in range(len(schema))]
    database.register("shard", schema.empty_table().rename_columns(places))
    database.execute("CREATE TABLE candidates AS FROM shard")
    database.begin()
    for table in tables:
        database.register("shard", to_arrow(table, schema).rename_columns(places))
        database.execute("INSERT INTO candidates FROM shard")
    database.commit()
    database.unregister("shard")


def _query(schema: "pa.Schema", criterion: Criterion) -> str:
    key, name = (schema.get_field_index(n) for n in (criterion.rank.by, "material_id"))
    order = "ASC" if criterion.rank.order == "ascending" else "DESC"
    # A column of the user's may hold its numbers as text.
    return f"FROM candidates ORDER BY TRY_CAST(c{key} AS DOUBLE) {order} NULLS LAST, c{name}"
