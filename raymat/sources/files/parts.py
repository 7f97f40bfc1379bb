"""Finished parts of an import, beside its output: what a killed import leaves to the next.

``OUT.parquet.partial/`` holds ``command.json``, which says what is imported, and one file for each
chunk that was parsed. A file appears whole or not at all: any instant is as good to be killed at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raymat.data.checks import structure_reasons
from raymat.data.crystals import offsets_of
from raymat.data.raw import ID_COLUMN, RawCrystals
from raymat.data.writers import atomic_file
from raymat.errors import DataError
from raymat.sources.partial_folder import hold_partial, remove_partial

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # of the layout of parts and of how sources are cut into them
PREFIX = "property:"
"""What begins the name of a property's column, which may be called like one of ours."""
REASON, IS_SINGLE = "reason", "is_single"


@dataclass(frozen=True)
class PartFolder:
    """The parts of one import."""

    path: Path

    def part(self, number: int) -> Path:
        """Give where a part lies, or will lie."""
        return self.path / f"part-{number:06}.parquet"

    def has(self, number: int) -> bool:
        """Say whether a part is finished."""
        return self.part(number).exists()

    def read(self, number: int) -> "pa.Table":
        """Read a finished part.

        Raises:
            DataError: it is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.part(number)).read()
        except (pa.ArrowException, OSError) as cause:
            problem = f"not a readable part ({str(cause).splitlines()[0]})"
            raise DataError(f"{self.part(number)}: {problem}; remove it and go on") from cause

    def remove(self) -> None:
        """Remove everything: the output is there."""
        remove_partial(self.path)


@contextmanager
def open_parts(out: Path, facts: dict[str, Any]) -> Iterator[PartFolder]:
    """Give the folder of parts for an output, new or left by an import of the same source.

    `facts` say what is imported and how; they must be those of the parts that are there.

    Raises:
        DataError: the parts are of another source, or the folder cannot be written.
        RunError: another process is importing to the same output.
    """
    with hold_partial(out, {"version": VERSION, **facts}, finished="part-*.parquet") as folder:
        yield PartFolder(folder)


def write_part(raw: RawCrystals, path: Path) -> tuple[int, int]:
    """Check the structures of some rows and write them; give how many, and how many are good."""
    import pyarrow.parquet as pq

    table = _to_table(raw, structure_reasons(raw))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return len(raw), int(np.sum(table[REASON].to_numpy() == ""))


def _to_table(raw: RawCrystals, reasons: Any) -> "pa.Table":
    """Give the rows in Arrow; those with a reason have no atoms.

    ``is_single`` says whether 32 bits hold a row's coordinates without loss.
    """
    import pyarrow as pa

    is_good = reasons == ""
    n_sites = np.diff(raw.offsets)
    keeps = np.repeat(is_good, n_sites)
    coords = raw.frac_coords[keeps]
    offsets = offsets_of(np.where(is_good, n_sites, 0))
    lossy = np.any(coords.astype(np.float32) != coords, axis=1)
    n_lossy = np.diff(np.concatenate([[0], np.cumsum(lossy)])[offsets])
    lattices = np.where(is_good[:, None, None], raw.lattices, np.eye(3))
    columns = {
        ID_COLUMN: pa.array(raw.material_ids.tolist(), pa.string()),
        REASON: pa.array(reasons.tolist(), pa.string()),
        IS_SINGLE: pa.array(n_lossy == 0),
        "lattice": pa.FixedSizeListArray.from_arrays(pa.array(lattices.ravel()), 9),
        "atomic_numbers": _lists(offsets, raw.atomic_numbers[keeps].astype(np.uint8)),
        "frac_coords": _lists(3 * offsets, coords.ravel()),
    }
    for name in raw.properties.columns:
        columns[f"{PREFIX}{name}"] = to_arrow(raw.properties[name])
    return pa.table(columns)


def to_arrow(column: "pd.Series[Any]") -> "pa.Array":
    """Give a column; one that mixes numbers and words, which Arrow cannot hold, as words."""
    import pyarrow as pa

    try:
        return pa.Array.from_pandas(column)
    except (pa.ArrowException, OverflowError):
        words = [None if pd.api.types.is_scalar(v) and pd.isna(v) else str(v) for v in column]
        return pa.array(words, pa.string())


def _lists(offsets: Any, values: Any) -> "pa.Array":
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
