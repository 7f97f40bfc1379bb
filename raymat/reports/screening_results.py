"""What a finished screening tells about itself."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import RunError
from raymat.tracking.run_directory import read_header

Floats = NDArray[np.float64]

_FILES = ("screening.parquet", "excluded.csv", "probability_curve.csv")


@dataclass(frozen=True, eq=False)
class ScreeningResults:
    """A screening's results.

    Attributes:
        table: `screening.parquet`, by rank.
        n_excluded: rows of `excluded.csv`.
        curve: `probability_curve.csv`; empty where there is none.
    """

    table: pd.DataFrame
    n_excluded: int
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the pass probabilities: the columns that have an interval."""
        columns = set(self.table)
        return tuple(str(c) for c in self.table if {f"{c}_lo", f"{c}_hi"} <= columns)

    @property
    def title(self) -> str:
        """How many candidates stand in the table."""
        return f"{len(self.table):,} candidates ranked, {self.n_excluded:,} excluded"

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


def read_results(run: Path) -> ScreeningResults:
    """Read what a screening has written.

    Raises:
        RunError: the folder is not a finished screening run, or a file cannot be read.
    """
    header = read_header(run)
    if header.get("command") != "screen":
        raise RunError(f"{run}: a {header.get('command')} run, not a screening run")
    table, excluded, curve = (run / name for name in _FILES)
    for file in (table, excluded):
        if not file.exists():
            raise RunError(f"{run}: no {file.name}; the run is not finished")
    try:
        ranked = pd.read_parquet(table).sort_values("rank", ignore_index=True)
        n_excluded = len(pd.read_csv(excluded, usecols=["material_id"]))
        deviations = pd.read_csv(curve) if curve.exists() else pd.DataFrame()
    except (OSError, ValueError) as cause:
        raise RunError(f"{run}: its results cannot be read ({cause})") from cause
    return ScreeningResults(ranked, n_excluded, deviations)
