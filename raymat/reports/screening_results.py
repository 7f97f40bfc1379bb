"""What a finished screening tells about itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import RunError
from raymat.reading import regular_file
from raymat.tracking.run_directory import read_header

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Floats = NDArray[np.float64]

TOP = 15  # candidates that are shown by name
_FILES = ("screening.parquet", "excluded.csv", "probability_curve.csv")


@dataclass(frozen=True, eq=False)
class ScreeningResults:
    """A screening's results.

    Attributes:
        table: `screening.parquet`, by rank, all of it or evenly chosen candidates.
        n_excluded: rows of `excluded.csv`.
        curve: `probability_curve.csv`; empty where there is none.
        n_ranked: rows of `screening.parquet`; None for those of `table`.
    """

    table: pd.DataFrame
    n_excluded: int
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)
    n_ranked: int | None = None

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the pass probabilities: the columns that have an interval."""
        columns = set(self.table)
        return tuple(str(c) for c in self.table if {f"{c}_lo", f"{c}_hi"} <= columns)

    @property
    def title(self) -> str:
        """How many candidates were ranked, how many of them stand in the table, and excluded."""
        n, shown = self.n_ranked or len(self.table), len(self.table)
        every = "" if shown == n else f" ({shown:,} of them drawn)"
        return f"{n:,} candidates ranked{every}, {self.n_excluded:,} excluded"

    @property
    def labels(self) -> list[str]:
        """Formula and id of every candidate, and why it is unlike others."""
        is_dft, is_outside = self.is_dft, ~self.is_inside
        names = self.table.get("formula", pd.Series("", index=self.table.index)).fillna("")
        return [
            " ".join(filter(None, [name, material_id, dft * "(DFT)", outside * "(outside domain)"]))
            for name, material_id, dft, outside in zip(
                names, self.table["material_id"], is_dft.tolist(), is_outside.tolist(), strict=True
            )
        ]

    @property
    def is_dft(self) -> NDArray[np.bool_]:
        """(n_candidates,) whether DFT values took the members' place."""
        return np.asarray(self._column("source") == "dft", dtype=np.bool_)

    @property
    def is_inside(self) -> NDArray[np.bool_]:
        """(n_candidates,) inside the domain of the training crystals, or not known to be out."""
        column = self._column("in_domain").astype("boolean")
        return np.asarray(column.fillna(value=True), dtype=np.bool_)

    def numbers(self, name: str) -> Floats:
        """Give a column as (n_candidates,) float64."""
        return np.asarray(self.table[name].to_numpy(np.float64, na_value=np.nan))

    def first(self, n: int) -> "ScreeningResults":
        """Give the first candidates."""
        return replace(self, table=self.table.head(n).reset_index(drop=True))

    def _column(self, name: str) -> "pd.Series[Any]":
        empty = pd.Series([None] * len(self.table), dtype=object)
        return self.table.get(name, empty)


def read_results(
    run: Path, *, most: int | None = None, keep: Sequence[str] = ()
) -> ScreeningResults:
    """Read what a screening has written.

    Args:
        run: its run directory.
        most: candidates to be read, evenly chosen by rank, beside the first `TOP`; None for all.
        keep: ids of others that are read in any case.

    Raises:
        RunError: the folder is not a finished screening run, or a file cannot be read.
    """
    import pyarrow.parquet as pq

    header = read_header(run)
    if header.get("command") != "screen":
        raise RunError(f"{run}: a {header.get('command')} run, not a screening run")
    table, excluded, curve = (run / name for name in _FILES)
    for file in (table, excluded):
        if not file.exists():
            raise RunError(f"{run}: no {file.name}; the run is not finished")
    try:
        with pq.ParquetFile(regular_file(table)) as file:
            n_ranked = file.metadata.num_rows
            step = 1 if most is None else max(1, -(-n_ranked // most))
            ranked = _read_every(file, step, keep)
        n_excluded = sum(
            map(len, pd.read_csv(regular_file(excluded), usecols=[0], chunksize=100_000))
        )
        deviations = pd.read_csv(regular_file(curve)) if curve.exists() else pd.DataFrame()
    except (OSError, ValueError) as cause:
        raise RunError(f"{run}: its results cannot be read ({cause})") from cause
    return ScreeningResults(ranked, n_excluded, deviations, n_ranked)


def _read_every(file: "pq.ParquetFile", step: int, keep: Sequence[str]) -> pd.DataFrame:
    import pyarrow as pa

    parts = [file.schema_arrow.empty_table()]
    for batch in file.iter_batches():
        ranks = batch.column("rank").to_numpy()
        wanted = (ranks % step == 1 % step) | (ranks <= TOP)
        wanted |= np.isin(batch.column("material_id").to_numpy(zero_copy_only=False), list(keep))
        parts.append(pa.Table.from_batches([batch]).filter(pa.array(wanted)))
    table: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return table.sort_values("rank", ignore_index=True)
