"""CSV, JSON and JSON.GZ tables, their structures still text or dictionaries."""

import gzip
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.raw import ID_COLUMN
from raymat.errors import DataError, one_line
from raymat.reading import regular_file


def read_csv_table(path: Path, *, content: bytes | None = None, **options: Any) -> pd.DataFrame:
    """Read CSV, ids as text; `options` are those of `pandas.read_csv`.

    `content` stands for a file that is not on disk, such as a member of an archive.

    Raises:
        DataError: an empty file, or no CSV.
    """
    options.setdefault("dtype", {ID_COLUMN: str})
    try:
        source = regular_file(path) if content is None else io.BytesIO(content)
        table: pd.DataFrame = pd.read_csv(source, low_memory=False, **options)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as cause:
        problem = one_line(cause)
        raise DataError(f"{path}: not a readable CSV file ({problem})") from cause
    return table


def read_json_table(path: Path) -> pd.DataFrame:
    """Read JSON or JSON.GZ: records, or columns + index + data as Matbench writes them.

    Raises:
        DataError: no such JSON.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(regular_file(path), "rt", encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as cause:
        raise DataError(f"{path}: not a readable JSON file ({cause})") from cause
    return _json_table(content, path)


def _json_table(content: Any, path: Path) -> pd.DataFrame:
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return pd.DataFrame(content)
    if not (isinstance(content, dict) and {"columns", "data"} <= content.keys()):
        found = f"a {type(content).__name__}"
        wanted = "a list of records, or 'columns', 'index' and 'data'"
        raise DataError(f"{path}: expected {wanted}, found {found}")
    try:
        table = pd.DataFrame(content["data"], columns=content["columns"])
    except (ValueError, TypeError) as cause:
        raise DataError(f"{path}: 'columns' and 'data' do not fit ({cause})") from cause
    index = content.get("index", [])
    # Matbench's own names (mb-log-gvrh-00001) are ids; a running number is not.
    if ID_COLUMN not in table and len(index) == len(table) and all(map(_is_name, index)):
        table.insert(0, ID_COLUMN, index)
    return table


def _is_name(entry: object) -> bool:
    return isinstance(entry, str) and not entry.isdigit()


TABLE_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": read_csv_table,
    ".csv.gz": read_csv_table,
    ".json": read_json_table,
    ".json.gz": read_json_table,
}
"""How a table is read, by the ending of its file."""
