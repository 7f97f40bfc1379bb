"""What a run starts from: checked crystals, a target, a split, and the line about leakage."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.data.leakage import Leakage, find_leakage
from raymat.data.readers import DataSource, load_crystals
from raymat.data.scaling import TargetScaling
from raymat.data.splits import PARTS, Split, SplitConfig, make_split, read_split, write_split
from raymat.errors import DataError, RunError
from raymat.features.neighbor_table import NeighborTable
from raymat.properties import Property, find_property
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import FitData


@dataclass(frozen=True)
class RunInputs:
    """Crystals, target and split of one run.

    Attributes:
        crystals: all usable crystals.
        prop: the target.
        split: which part each crystal is in.
        source: where the crystals come from.
        leakage: test rows with near relatives among the training rows.
    """

    crystals: CrystalSet
    prop: Property
    split: Split
    source: DataSource
    leakage: Leakage

    @property
    def targets(self) -> NDArray[np.float64]:
        """(n_crystals,) in the target's unit."""
        return self.crystals.target(self.prop.name)

    def fit_data(self, table: NeighborTable) -> FitData:
        """Give what training may see: the targets of all other rows are blanked out."""
        targets = np.full(len(self.crystals), np.nan)
        for part in ("train", "validation"):
            rows = self.split.rows(part)
            targets[rows] = self.targets[rows]
        return FitData(
            table=table,
            targets=targets,
            train=self.split.rows("train"),
            validation=self.split.rows("validation"),
            task=self.prop.task,
        )

    def elements(self) -> tuple[int, ...]:
        """Give the atomic numbers met in the training rows, ascending."""
        seen = self.crystals.take(self.split.rows("train")).atomic_numbers
        return tuple(int(z) for z in np.unique(seen))

    def facts(self) -> dict[str, Any]:
        """Give what `run.json` says of the data."""
        rows = {part: len(self.split.rows(part)) for part in PARTS}
        return {
            "data": asdict(self.source),
            "target": self.prop.name,
            "unit": self.prop.unit,
            "task": self.prop.task,
            "split": {**self.split.config.model_dump(), "sha256": self.split.sha256, "rows": rows},
            "leakage": asdict(self.leakage),
        }


def load_inputs(
    run: RunDirectory,
    *,
    source: str,
    target: str,
    split_config: SplitConfig,
    max_rejected: float,
) -> RunInputs:
    """Read and check the crystals, and make the split or read the one the run has.

    Writes `rejected.csv` and `split.parquet`, and the facts into `run.json`.

    Raises:
        DataError: the data cannot be used.
        RunError: the run was begun with other data.
    """
    prop = find_property(target)
    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    with run.replacing("rejected.csv") as path:
        loaded.rejected.to_csv(path, index=False)
    crystals = loaded.crystals
    _check_classes(crystals, prop)
    known = run.header.get("data", {}).get("sha256")
    if known not in (None, loaded.source.sha256):
        raise RunError(
            f"{source}: the data have changed since the run began (SHA-256"
            f" {loaded.source.sha256[:12]}, was {known[:12]}); start a new run"
        )
    split = _find_split(run.path / "split.parquet", crystals, split_config)
    _check_learnable(crystals, prop, split)
    inputs = RunInputs(crystals, prop, split, loaded.source, find_leakage(crystals, split))
    run.update_header(**inputs.facts())
    run.emit("data", **inputs.facts(), leakage_line=inputs.leakage.line())
    return inputs


def _find_split(path: Path, crystals: CrystalSet, config: SplitConfig) -> Split:
    if path.exists():
        split = read_split(path)
        if list(split.material_ids) == list(crystals.material_ids):
            return split
        raise RunError(f"{path}: its crystals are not those of the data; start a new run")
    split = make_split(crystals, config)
    write_split(split, path)
    return split


def _check_learnable(crystals: CrystalSet, prop: Property, split: Split) -> None:
    """Refuse before any trial starts what every trial would fail at."""
    targets = crystals.target(prop.name)
    if prop.task == "regression":
        TargetScaling.fit(targets[split.rows("train")])
        return
    for part in PARTS:
        if len(np.unique(targets[split.rows(part)])) < 2:
            raise DataError(
                f"the {part} rows hold one class of '{prop.name}' only, so there is no AUC; use"
                " more rows or another --seed"
            )


def _check_classes(crystals: CrystalSet, prop: Property) -> None:
    if prop.task != "classification":
        return
    values = np.unique(crystals.target(prop.name))
    if not np.array_equal(values, [0.0, 1.0]):
        raise DataError(
            f"'{prop.name}' is a class and must hold 0 and 1; it holds {values[:5].tolist()}"
        )
