"""What a finished screening tells about itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.errors import RunError
from raymat.reading import read_json, regular_file
from raymat.tracking.run_directory import read_header

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Floats = NDArray[np.float64]

TOP = 15  # candidates that are shown by name
FLAT_CURVE = "All members agree on every candidate: more of them change nothing."
_FILES = ("screening.parquet", "excluded.csv", "probability_curve.csv")


@dataclass(frozen=True, eq=False)
class ScreeningResults:
    """A screening's results.

    Attributes:
        table: `screening.parquet`, by rank, all of it or evenly chosen candidates.
        n_excluded: rows of `excluded.csv`.
        curve: `probability_curve.csv`; empty where there is none.
        n_ranked: rows of `screening.parquet`; None for those of `table`.
        metrics: `metrics.json`; empty where there is none.
    """

    table: pd.DataFrame
    n_excluded: int
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)
    n_ranked: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

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
        scores = run / "metrics.json"
        metrics = read_json(scores) if scores.exists() else {}
    except (OSError, ValueError) as cause:
        raise RunError(f"{run}: its results cannot be read ({cause})") from cause
    known = metrics if isinstance(metrics, dict) else {}
    return ScreeningResults(ranked, n_excluded, deviations, n_ranked, known)


def nothing_passes(metrics: Mapping[str, Any]) -> bool:
    """Return whether no candidate passes by any member, as far as `metrics.json` says so."""
    passing = metrics.get("passing") or {}
    return bool(passing) and not any(passing.values())


def all_are_tied(metrics: Mapping[str, Any]) -> bool:
    """Return whether all of several candidates share the first rank."""
    first = (metrics.get("ranking") or {}).get("first", 0)
    return bool(first > 1 and first == metrics.get("ranked"))


def say_ranking(metrics: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the ranking does not tell: nobody passes, many share a rank."""
    ranking, n = metrics.get("ranking") or {}, metrics.get("ranked", 0)
    by, first, unknown = (ranking.get(key, 0) for key in ("by", "first", "unknown"))
    told = []
    if nothing_passes(metrics):
        names = " and ".join(metrics["passing"])
        verb = "are" if len(metrics["passing"]) > 1 else "is"
        told.append(f"No candidate passes: {names} {verb} 0 for all {n:,} ranked.")
    if all_are_tied(metrics):
        equal = f"none has a {by}" if unknown == n else f"equal {by}"
        told.append(f"All {n:,} share rank 1 ({equal}): they are listed by id, not ranked.")
    elif first > 1:
        told.append(f"The first {first:,} share rank 1 (equal {by}); they are ordered by id.")
    if 0 < unknown < n:
        told.append(f"{unknown:,} have no {by} and come last.")
    return told


def curve_is_flat(curve: pd.DataFrame, passes: Iterable[str]) -> bool:
    """Return whether fewer members give the same probabilities, so that there is no curve."""
    largest = curve[[f"{name}_largest" for name in passes]].to_numpy(np.float64)
    return not np.nan_to_num(largest).any()


def _read_every(file: "pq.ParquetFile", step: int, keep: Sequence[str]) -> pd.DataFrame:
    import pyarrow as pa

    parts, n_before = [file.schema_arrow.empty_table()], 0
    for batch in file.iter_batches():
        places = np.arange(n_before, n_before + len(batch))
        wanted = (places % step == 0) | (places < TOP)
        wanted |= np.isin(batch.column("material_id").to_numpy(zero_copy_only=False), list(keep))
        parts.append(pa.Table.from_batches([batch]).filter(pa.array(wanted)))
        n_before += len(batch)
    table: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return table.sort_values("rank", kind="stable", ignore_index=True)
