"""The tables, figures and the model of a run that has ended, as W&B takes them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

MOST_ROWS = 5_000  # of a table; W&B shows no more than some thousands well
MOST_FIGURES = 50
_TABLES = (
    "trials.parquet",
    "members.parquet",
    "member_curve.csv",
    "predictions.parquet",
    "comparison.csv",
    "screening.parquet",
    "summary.csv",
    "trends.csv",
)
_FIGURES = ("*.png", "figures/*.png", "report/*.png")
_PARTS = ("test", "validation", "train")
_MODEL = "best"


@dataclass(frozen=True)
class Rows:
    """A table, or the beginning of a long one."""

    columns: list[str]
    rows: list[list[Any]]
    n_left_out: int = 0


@dataclass(frozen=True)
class Attachments:
    """What belongs to a run besides numbers.

    Attributes:
        tables: name -> rows.
        figures: name -> file.
        model: the files of the winner's model.
    """

    tables: dict[str, Rows] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)
    model: tuple[Path, ...] = ()


def read_attachments(path: Path) -> Attachments:
    """Read the tables of a run directory and find its figures and its model.

    Raises:
        OSError: a table that is there cannot be read; pyarrow's own errors are among them.
    """
    files = [path / name for name in _TABLES if (path / name).is_file()]
    tables = {file.stem: _read(file) for file in files}
    figures = [file for pattern in _FIGURES for file in sorted(path.glob(pattern))]
    return Attachments(
        {name: rows for name, rows in tables.items() if rows.rows},
        {str(f.relative_to(path).with_suffix("")): f for f in figures[:MOST_FIGURES]},
        tuple(sorted(f for f in (path / _MODEL).glob("*") if f.is_file())),
    )


# Ids and formulas are text whatever they look like: NaN is a compound, 007 an id.
_AS_WRITTEN = csv.ConvertOptions(column_types={"material_id": pa.string(), "formula": pa.string()})


def _read(file: Path) -> Rows:
    try:
        if file.suffix == ".csv":
            return _rows(csv.read_csv(file, convert_options=_AS_WRITTEN), None)
        return _read_parquet(file)
    except pa.ArrowInvalid as cause:  # an empty CSV, or a file cut off by a full disk
        raise OSError(f"{file}: cannot be read ({cause})") from cause


def _read_parquet(file: Path) -> Rows:
    """Read the first rows; of predictions those of the test rows before the others.

    Lists are left out: the members' own predictions of all rows would be a hundred tables more.
    """
    with pq.ParquetFile(file) as source:
        flat = [f.name for f in source.schema_arrow if not pa.types.is_nested(f.type)]
        n_rows = source.metadata.num_rows
        if "part" not in flat or n_rows <= MOST_ROWS:
            batches = source.iter_batches(batch_size=MOST_ROWS, columns=flat)
            first = next(batches, None)
            return Rows(flat, []) if first is None else _rows(first, n_rows)
        table = source.read(columns=flat)
    parts = table["part"].to_pylist()
    order = [k for part in _PARTS for k, own in enumerate(parts) if own == part]
    return _rows(table.take(order[:MOST_ROWS]), n_rows)


def _rows(table: Any, n_rows: int | None) -> Rows:
    kept = table.slice(0, MOST_ROWS)
    rows = zip(*(column.to_pylist() for column in kept.columns), strict=True)
    n_all = table.num_rows if n_rows is None else n_rows
    return Rows(list(kept.schema.names), _cells(rows), n_all - kept.num_rows)


def _cells(rows: Iterable[Iterable[Any]]) -> list[list[Any]]:
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
