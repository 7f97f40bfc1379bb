"""CSV, JSON and JSON.GZ tables, their structures still text or dictionaries.

CSV is what spreadsheets of any country write: commas, semicolons or tabs between cells, decimal
commas where commas do not stand between cells, UTF-8, UTF-16 or Latin-1. Ids and formulas stay as
they are written, for NaN is a compound and 007 an id.
"""

import codecs
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from raymat.data.raw import ID_COLUMN, is_text_name, refuse_equal_columns
from raymat.errors import DataError, one_line
from raymat.reading import regular_file
from raymat.text import plain

_HEAD = 1 << 20  # bytes of a file by which its separator is found, and that are read at once
_LINES = 20  # of a file without a header by which its separator is found
_MISSING = frozenset(
    (
        *("NaN", "nan", "-NaN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "#NA"),
        *("NULL", "null", "None", "1.#IND", "-1.#IND", "1.#QNAN"),
    )
)
"""Words for a missing value in a column of numbers."""
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_COMMA_NUMBER = r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*"
_POINT_NUMBER = r"\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*"
_CELL_NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_csv_table(path: Path) -> pd.DataFrame:
    """Read a whole CSV file with a header.

    Raises:
        DataError: an empty file, no CSV, or two columns of one name.
    """
    return CsvFile.open(path).table()


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose encoding, separator and columns are known.

    Attributes:
        path: the file; of a member of an archive, what to call it.
        content: its bytes where it is not on disk.
        encoding: as Python calls it.
        separator: between cells; a regular expression for any white space.
        names: of the columns; None for a file without a header.
    """

    path: Path
    content: bytes | None
    encoding: str
    separator: str
    names: list[str] | None

    @classmethod
    def open(
        cls, path: Path, content: bytes | None = None, *, has_header: bool = True
    ) -> "CsvFile":
        """Look at a file, or at the `content` of one that is not on disk.

        Raises:
            DataError: it is empty, no text, or has two columns of one name.
        """
        encoding = _find_encoding(path, content)
        separator = _find_separator(_first_lines(path, content, encoding), has_header=has_header)
        found = cls(path, content, encoding, separator, None)
        if not has_header:
            return found
        row = found._read(header=None, nrows=1, dtype=str).iloc[0]
        names = [str(cell).strip() for cell in row.fillna("").tolist()]
        refuse_equal_columns([name for name in names if name], str(path))
        names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
        return cls(path, content, encoding, separator, names)

    def table(
        self,
        *,
        columns: list[str] | None = None,
        texts: Collection[str] = (),
        skip: int = 0,
    ) -> pd.DataFrame:
        """Read the file: numbers as numbers, ids, formulas and words as text.

        Args:
            columns: those to read; all unless given.
            texts: further columns that are text whatever they hold.
            skip: rows after the header that are passed over.

        Raises:
            DataError: it is no CSV.
        """
        if self.names is None:
            read: pd.DataFrame = self._read(header=None, dtype={0: str}, skipinitialspace=True)
            as_text: set[Any] = {0}
        else:
            as_text = {n for n in self.names if n in texts or is_text_name(n)}
            options = {"names": self.names, "header": 0, "skiprows": range(1, skip + 1)}
            read = self._read(**options, usecols=columns, dtype=dict.fromkeys(as_text, str))
        if not isinstance(read.index, pd.RangeIndex):
            raise self._refused("its lines have more cells than its header has names")
        for name in read.columns:
            if name in as_text:
                continue
            if pd.api.types.infer_dtype(read[name]) == "integer" and read[name].dtype == object:
                read[name] = read[name].map(_as_float)  # beyond 64 bits, perhaps infinite
            elif pd.api.types.is_string_dtype(read[name]):
                read[name] = as_numbers(read[name], has_commas=self.separator != ",")
        return read

    def first_row(self) -> dict[str, str]:
        """Return the cells of the row below the header as text, without empty ones."""
        row = self._read(names=self.names, header=0, nrows=1, dtype=str)
        return {} if row.empty else row.iloc[0].dropna().to_dict()

    def iter_texts(self, column: str, size: int) -> Iterator["pd.Series[Any]"]:
        """Read one column as text, `size` rows at a time."""
        options: dict[str, Any] = {"names": self.names, "header": 0, "dtype": str}
        with self._read(**options, usecols=[column], chunksize=size) as reader:
            for cells in reader:
                yield cells[column]

    def _read(self, **options: Any) -> Any:
        source = self.path if self.content is None else io.BytesIO(self.content)
        options |= {"sep": self.separator, "encoding": self.encoding}
        try:
            # Only an empty cell is missing; `as_numbers` knows of the words for it.
            return pd.read_csv(
                source, low_memory=False, keep_default_na=False, na_values=[""], **options
            )
        except pd.errors.EmptyDataError:
            raise DataError(f"{self.path}: the file is empty") from None
        except (ValueError, OSError, EOFError, zlib.error, OverflowError) as cause:
            raise self._refused(_in_our_words(cause)) from cause

    def _refused(self, problem: str) -> DataError:
        return DataError(
            f"{self.path}: not a readable CSV file ({problem}); write it anew, one line for each"
            " row, with quotation marks around cells that hold separators or line breaks"
        )


def _open_bytes(path: Path, content: bytes | None) -> IO[bytes]:
    if content is not None:
        return io.BytesIO(content)
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    opened: IO[bytes] = opener(regular_file(path), "rb")
    return opened


def _find_encoding(path: Path, content: bytes | None) -> str:
    """Return UTF-16 where the first bytes say so, UTF-8 where all are, else Latin-1."""
    try:
        with _open_bytes(path, content) as file:
            block = file.read(_HEAD)
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            if b"\0" in block:
                raise DataError(f"{path}: not a readable CSV file (it holds zero bytes, no text)")
            decoder = codecs.getincrementaldecoder("utf-8-sig")()
            while block:
                decoder.decode(block)
                block = file.read(_HEAD)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    except (OSError, EOFError, zlib.error) as cause:
        raise DataError(f"{path}: not a readable CSV file ({_in_our_words(cause)})") from cause
    return "utf-8-sig"


def _first_lines(path: Path, content: bytes | None, encoding: str) -> list[str]:
    with _open_bytes(path, content) as file:
        text = file.read(_HEAD).decode(encoding, errors="ignore")
    return [line for line in text.splitlines() if line.strip()][:_LINES]


def _find_separator(lines: list[str], *, has_header: bool) -> str:
    """Return what parts the cells: what a header holds most of, or what every line holds."""
    bare = [re.sub(r'"[^"]*"?', "", line) for line in lines]
    if has_header:
        return max((",", ";", "\t"), key=lambda sign: bare[0].count(sign)) if bare else ","
    # Without a header a comma may be a decimal one: the others come first.
    shared = [sign for sign in ("\t", ";", ",") if bare and all(sign in line for line in bare)]
    rows = [line.split() for line in bare]
    has_numbers = all(
        len(row) > 1 and "," not in row[0] and all(map(_CELL_NUMBER.fullmatch, row[1:]))
        for row in rows[1:] or rows
    )
    if has_numbers and shared in ([], [","]):
        return r"\s+"
    return shared[0] if shared else ","


def _in_our_words(cause: BaseException) -> str:
    """Say what pandas or the standard library found wrong."""
    text = one_line(cause)
    counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text)
    if counts:
        return f"line {counts[2]} has {counts[3]} cells, those before it {counts[1]}"
    if "EOF inside string" in text:
        return "a quotation mark is opened and never closed"
    if isinstance(cause, UnicodeError):
        return "its bytes are no text in the encoding that its first bytes name"
    if isinstance(cause, EOFError | zlib.error) or "gzip" in text or "CRC" in text:
        return "its compressed bytes are damaged or end too early"
    return plain(text)


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def as_numbers(column: "pd.Series[Any]", *, has_commas: bool = False) -> "pd.Series[Any]":
    """Return a column of text as numbers or booleans where that is what it holds.

    Words for a missing value are missing beside numbers; in a column of words they are words.
    """
    cells = column.mask(column.isin(_MISSING))
    given = cells.dropna()
    if has_commas and not given.str.fullmatch(_POINT_NUMBER).any():
        with_comma = cells.str.fullmatch(_COMMA_NUMBER).fillna(value=False).astype(bool)
        cells = cells.mask(with_comma, cells.str.replace(",", "."))
        given = cells.dropna()
    is_number = pd.to_numeric(given, errors="coerce").notna()
    if is_number.all():
        return pd.to_numeric(cells, errors="coerce")
    if given.isin((*_TRUE, *_FALSE)).all():
        return cells.astype(object).map(lambda cell: cell in _TRUE, na_action="ignore")
    return cells if is_number.any() else column


def read_json_table(path: Path) -> pd.DataFrame:
    """Read JSON or JSON.GZ: records, or columns + index + data as Matbench writes them.

    Raises:
        DataError: no such JSON.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(regular_file(path), "rt", encoding="utf-8-sig") as file:
            text = file.read()
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: not a readable JSON file (it is nested too deeply)") from None
    except (ValueError, OSError, EOFError, zlib.error) as cause:
        raise DataError(f"{path}: not a readable JSON file ({plain(cause)})") from cause
    return _json_table(_writable(content) if _SURROGATE.search(text) else content, path)


def _writable(content: Any) -> Any:
    """Return the same content without halves of surrogate pairs, which no encoding can write."""
    if isinstance(content, str):
        return content.encode("utf-8", errors="replace").decode()
    if isinstance(content, dict):
        return {_writable(key): _writable(value) for key, value in content.items()}
    return list(map(_writable, content)) if isinstance(content, list) else content


def _json_table(content: Any, path: Path) -> pd.DataFrame:
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return pd.DataFrame(content)
    if not (isinstance(content, dict) and {"columns", "data"} <= content.keys()):
        found = f"a {type(content).__name__}"
        wanted = "a list of records, or 'columns', 'index' and 'data'"
        raise DataError(f"{path}: expected {wanted}, found {found}")
    try:
        table = pd.DataFrame(content["data"], columns=content["columns"])
    except (ValueError, TypeError, AssertionError) as cause:
        raise DataError(f"{path}: 'columns' and 'data' do not fit ({plain(cause)})") from cause
    refuse_equal_columns(list(table.columns), str(path))
    index = content.get("index", [])
    # Matbench's own names (mb-log-gvrh-00001) are ids; a running number is not.
    is_named = isinstance(index, list) and len(index) == len(table) and all(map(_is_name, index))
    if ID_COLUMN not in table and is_named:
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
