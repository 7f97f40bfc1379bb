"""What a run starts from: checked crystals, a target, a split, and the line about leakage."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import SYMBOLS
from raymat.data.crystals import CrystalSet
from raymat.data.facts import DataSource
from raymat.data.leakage import Leakage, find_leakage
from raymat.data.readers import LoadedData, load_crystals
from raymat.data.scaling import TargetScaling
from raymat.data.splits import (
    PARTS,
    Split,
    SplitConfig,
    make_split,
    read_split,
    write_split,
)
from raymat.data.writers import write_csv
from raymat.errors import ConfigError, DataError, RunError
from raymat.features.store import FeatureStore
from raymat.features.table import FeatureTable
from raymat.properties import PROPERTIES, ZERO_ONE, Property
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import FitData

ClassRule = Literal["median", "none"] | float
"""How numbers become classes: class 1 lies above the median of the training rows, or a value;
"none" learns a column of 0 and 1 as a number."""


_USUAL_SIZES = (1e-6, 1e6)  # of a target in a unit that people use


@dataclass(frozen=True)
class RunInputs:
    """Crystals, target and split of one run.

    Attributes:
        crystals: all usable crystals.
        prop: the target.
        split: which part each crystal is in.
        source: where the crystals come from.
        leakage: test rows with near relatives among the training rows.
        rejected: rows that cannot be used (`material_id`, `reason`).
        classes: how a number becomes two classes; None for the target as it is.
    """

    crystals: CrystalSet
    prop: Property
    split: Split
    source: DataSource
    leakage: Leakage
    rejected: pd.DataFrame
    classes: ClassRule | None = None

    @property
    def threshold(self) -> float | None:
        """Of a number that is learned as classes: class 1 lies above it; else None."""
        if not isinstance(self.classes, str):
            return self.classes
        values = self.crystals.target(self.prop.name)
        return float(np.median(values[self.split.rows("train")]))

    @property
    def targets(self) -> NDArray[np.float64]:
        """(n_crystals,) in the target's unit, or classes as 0.0 and 1.0."""
        values, threshold = self.crystals.target(self.prop.name), self.threshold
        return values if threshold is None else (values > threshold).astype(np.float64)

    def fit_data(self, *tables: FeatureTable) -> FitData:
        """Give what training may see: the targets of all other rows are blanked out."""
        targets = np.full(len(self.crystals), np.nan)
        for part in ("train", "validation"):
            rows = self.split.rows(part)
            targets[rows] = self.targets[rows]
        return FitData(
            features=FeatureStore(self.crystals.without_properties(), tables),
            targets=targets,
            train=self.split.rows("train"),
            validation=self.split.rows("validation"),
            task=self.prop.task,
        )

    def elements(self) -> tuple[int, ...]:
        """Give the atomic numbers met in the training rows, ascending."""
        seen = self.crystals.take(self.split.rows("train")).atomic_numbers
        return tuple(int(z) for z in np.unique(seen))

    def unseen_elements(self) -> dict[str, int]:
        """Count the test rows with each element that no training row has."""
        test = self.crystals.take(self.split.rows("test"))
        known, counts = set(self.elements()), dict[str, int]()
        for row in range(len(test)):
            for z in set(test[row].atomic_numbers.tolist()) - known:
                counts[SYMBOLS[z - 1]] = counts.get(SYMBOLS[z - 1], 0) + 1
        return counts

    def facts(self) -> dict[str, Any]:
        """Give what `run.json` says of the data."""
        rows = {part: len(self.split.rows(part)) for part in PARTS}
        return {
            "data": asdict(self.source),
            "target": self.prop.name,
            "unit": self.prop.unit,
            "task": self.prop.task,
            "threshold": self.threshold,
            "class_names": self.prop.names,
            "split": {**self.split.config.model_dump(), "sha256": self.split.sha256, "rows": rows},
            "leakage": asdict(self.leakage),
            "unseen_elements": self.unseen_elements(),
        }


def load_inputs(
    run: RunDirectory,
    *,
    source: str,
    target: str,
    split_config: SplitConfig,
    max_rejected: float,
    classes: ClassRule | None = None,
    numbers_as: ClassRule | None = None,
) -> RunInputs:
    """Read and check the crystals, and make the split or read the one the run has.

    Writes `rejected.csv` and `split.parquet`, and the facts into `run.json`. A number for which
    `classes` has no rule is learned as `numbers_as` says.

    Raises:
        ConfigError: `classes` is given for what is a class already.
        DataError: the data cannot be used.
        RunError: the run was begun with other data.
    """
    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    with run.replacing("rejected.csv") as path:
        write_csv(loaded.rejected, path)
    crystals = loaded.crystals
    prop, classes = choose_task(loaded, classes, begun=run.header.get("task"))
    if prop.task == "regression":
        classes = numbers_as if classes is None else classes
    known = run.header.get("data", {}).get("sha256")
    if known not in (None, loaded.source.sha256):
        raise RunError(
            f"{source}: the data have changed since the run began (SHA-256"
            f" {loaded.source.sha256[:12]}, was {known[:12]}); start a new run"
        )
    split = _find_split(run.path / "split.parquet", crystals, split_config)
    inputs = RunInputs(
        crystals, prop, split, loaded.source, find_leakage(crystals, split), loaded.rejected
    )
    if classes is not None:
        inputs = as_classes(inputs, classes)
    check_learnable(inputs)
    run.update_header(**inputs.facts())
    run.emit("data", **inputs.facts(), leakage_line=inputs.leakage.line())
    text = say_odd_size(inputs.prop, inputs.targets)
    if text is not None:
        run.emit("warning", text=text)
    return inputs


def say_odd_size(prop: Property, targets: NDArray[np.float64]) -> str | None:
    """Return one line on targets of an unusual size, which is often that of another unit."""
    sizes = np.abs(targets[targets != 0])
    smallest, largest = _USUAL_SIZES
    if prop.task == "classification" or not len(sizes):
        return None
    typical = float(np.median(sizes))
    if smallest <= typical and sizes.max() <= largest:
        return None
    return (
        f"targets of '{prop.name}' are mostly near {typical:.2g} and at most {sizes.max():.2g} in"
        f" size, outside {smallest:g} to {largest:g}; check their unit (baselines and defaults"
        " scale them, a setting training.target_scaling 'none' does not)"
    )


def leave_out(
    inputs: RunInputs, unusable: dict[int, str], run: RunDirectory, *, max_rejected: float
) -> RunInputs:
    """Take rows that the model cannot read out of all parts of the split, and list them.

    Raises:
        DataError: they are more than `max_rejected` of all rows.
    """
    if not unusable:
        return inputs
    rejected = join_rejected(inputs.rejected, inputs.crystals, unusable, max_rejected=max_rejected)
    with run.replacing("rejected.csv") as path:
        write_csv(rejected, path)
    split = inputs.split.without(np.array(sorted(unusable), dtype=np.int64))
    write_split(split, run.path / "split.parquet")
    leakage = find_leakage(inputs.crystals, split)
    left = replace(inputs, split=split, rejected=rejected, leakage=leakage)
    check_learnable(left)
    run.update_header(**left.facts())
    first = rejected.iloc[len(inputs.rejected)]
    run.emit("left_out", count=len(unusable), first=f"{first['material_id']} {first['reason']}")
    return left


def join_rejected(
    rejected: pd.DataFrame, crystals: CrystalSet, unusable: dict[int, str], *, max_rejected: float
) -> pd.DataFrame:
    """Add rows that a model cannot read to those that were rejected before.

    Raises:
        DataError: they are more than `max_rejected` of all rows.
    """
    ids = crystals.material_ids
    listed = [(str(ids[row]), reason) for row, reason in sorted(unusable.items())]
    n_rows = len(rejected) + len(ids)
    if listed and len(rejected) + len(listed) > max_rejected * n_rows:
        before = f" and {len(rejected):,} by none" if len(rejected) else ""
        raise DataError(
            f"{len(listed):,} of {n_rows:,} crystals cannot be used by this model{before} (the"
            f" first: {' '.join(listed[0])}); choose another model, or raise"
            f" --max-rejected {max_rejected:g}"
        )
    added = pd.DataFrame(listed, columns=["material_id", "reason"])
    return pd.concat([rejected, added], ignore_index=True) if listed else rejected


def _find_split(path: Path, crystals: CrystalSet, config: SplitConfig) -> Split:
    if path.exists():
        split = read_split(path)
        if list(split.material_ids) == list(crystals.material_ids):
            return split
        raise RunError(f"{path}: its crystals are not those of the data; start a new run")
    split = make_split(crystals, config)
    write_split(split, path)
    return split


def as_classes(inputs: RunInputs, rule: ClassRule) -> RunInputs:
    """Give the same inputs with a number learned as two classes."""
    prop = replace(inputs.prop, task="classification", unit="", names=None)
    return replace(inputs, prop=prop, classes=rule)


def check_learnable(inputs: RunInputs) -> None:
    """Refuse before any trial starts what every trial would fail at.

    Raises:
        DataError: a part is empty, all targets are equal, or a part holds one class only.
    """
    targets, prop, split = inputs.targets, inputs.prop, inputs.split
    for part in PARTS:
        if not len(split.rows(part)):
            raise DataError(f"no {part} row is left; use more rows or {_say_other_split(split)}")
    if prop.task == "regression":
        TargetScaling.fit(targets[split.rows("train")])
        return
    for part in PARTS:
        if len(np.unique(targets[split.rows(part)])) < 2:
            raise DataError(
                f"the {part} rows hold one class of '{prop.name}' only, so there is no AUC; use"
                f" more rows, another split.seed{_say_other_ways(inputs)}"
            )


def _say_other_split(split: Split) -> str:
    """Return what else may help: the seed decides how many rows a part has only in groups."""
    is_by_row = split.config.kind in ("random", "kfold")
    return "other fractions under split" if is_by_row else "another split.seed"


def _say_other_ways(inputs: RunInputs) -> str:
    if inputs.prop.names == ZERO_ONE:
        return ", or --classes none to learn it as a number"
    if inputs.classes is None:
        return ""
    values = inputs.crystals.target(inputs.prop.name)
    return f" or other --classes (its values go from {values.min():.6g} to {values.max():.6g})"


def choose_task(
    loaded: LoadedData, rule: ClassRule | None, *, begun: str | None = None
) -> tuple[Property, ClassRule | None]:
    """Return what is learned of the target of loaded data, and the rule that makes it classes.

    Without a rule the values decide. A run that has `begun` as one of numbers stays one: earlier
    versions learned columns of 0 and 1 as numbers.

    Raises:
        ConfigError: `rule` is given for what is a class already.
        DataError: a class holds anything but 0 and 1.
    """
    prop = loaded.prop
    assert prop is not None  # the data were loaded with a target
    number = replace(prop, task="regression", names=None)
    if rule == "none" or (rule is None and begun == "regression"):
        if prop.holds_words:
            raise ConfigError(f"'{prop.name}' holds words, not numbers; leave --classes out")
        return number, None
    if rule is not None and prop.task == "classification":
        if prop.holds_words or prop.name in PROPERTIES:
            raise ConfigError(f"'{prop.name}' is a class already; leave --classes out")
        return number, rule
    values = np.unique(loaded.crystals.target(prop.name))
    if prop.task == "classification" and not np.array_equal(values, [0.0, 1.0]):
        raise DataError(
            f"'{prop.name}' is a class and must hold 0 and 1; it holds {values[:5].tolist()}"
        )
    return prop, rule
