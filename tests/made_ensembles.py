"""Finished ensemble runs without any training: untrained networks, and predictions as asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, make_crystal
from numpy.typing import NDArray

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals
from raymat.ensembles.finish import finish_ensemble
from raymat.ensembles.record import MEMBER_ENDED, MEMBER_FAILED, EnsembleRecord
from raymat.ensembles.stored import store_member
from raymat.ensembles.validation import Weighting
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training import baselines
from raymat.training.fit import EpochMetrics
from raymat.training.inputs import ClassRule, RunInputs, load_inputs
from raymat.training.results import FitResult, to_trained_model

Floats = NDArray[np.float64]
Values = Callable[[RunInputs], Floats]  # (n_members, n_crystals)

N_VOLUMES = 15
SPLIT = SplitConfig(train=0.5, validation=0.25, test=0.25)  # 30, 15 and 15 rows
TINY_CGCNN = {"atom_dim": 4, "n_conv": 1, "hidden_dim": 4}


def sixty_crystals() -> CrystalSet:
    """The tiny crystals at 15 volumes, with a target `y`."""
    crystals, targets = [], []
    for number, scale in enumerate(np.linspace(0.93, 1.07, N_VOLUMES)):
        for name in TINY:
            c = make_crystal(name, float(scale))
            crystals.append(Crystal(f"{name}-{number}", c.lattice, c.atomic_numbers, c.frac_coords))
            targets.append(float(c.atomic_numbers.mean()) / 20.0 + 4.0 * (float(scale) - 1.0))
    return CrystalSet.from_crystals(crystals, pd.DataFrame({"y": targets}))


def write_sixty(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> Path:
    """Write the crystals; `change` may give them other targets."""
    crystals = sixty_crystals()
    if change is not None:
        changed = change(crystals.properties.assign(material_id=crystals.material_ids))
        crystals = CrystalSet.from_crystals(
            [crystals[row] for row in range(len(crystals))], changed[["y"]]
        )
    write_crystals(crystals, path)
    return path


@dataclass(frozen=True)
class Made:
    """A run that was made, and what it was made of."""

    path: Path
    metrics: dict[str, Any]
    inputs: RunInputs
    table: FeatureTable

    def rows(self, part: Any) -> NDArray[np.int64]:
        return self.inputs.split.rows(part)

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "predictions.parquet")

    @property
    def members(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "members.parquet")


def make_ensemble(
    path: Path,
    data: Path,
    *,
    members: tuple[int, ...] = (0, 1, 2, 3),
    values: Values | None = None,
    noise: Values | None = None,
    without_noise: tuple[int, ...] = (),
    weighting: Weighting = "equal",
    classes: ClassRule | None = None,
    split: SplitConfig = SPLIT,
    failed: tuple[tuple[int, int], ...] = (),
    finish: bool = True,
    listeners: tuple[Listener, ...] = (),
) -> Made:
    """Make the run directory of an ensemble.

    Args:
        path: the run directory.
        data: what `write_sixty` wrote.
        members: numbers of those that have ended.
        values: what members predict of all crystals; what their networks give if None.
        noise: predicted noise; makes the networks heteroscedastic.
        without_noise: members that predict none all the same.
        weighting: of the members.
        classes: how the target is made into classes.
        split: of the crystals.
        failed: (member, attempt) that failed.
        finish: whether it is scored and described, or left as an interrupted run is.
        listeners: hear the events.
    """
    header = {"command": "ensemble", "arguments": {}, "seed": 0}
    with RunDirectory.create(path, header, listeners=listeners) as run:
        inputs = load_inputs(
            run, source=str(data), target="y", split_config=split, max_rejected=0.0, classes=classes
        )
        spec = load_spec("cgcnn")
        config = spec.config(**TINY_CGCNN)
        table = spec.reads(config).table_config.build(inputs.crystals.without_properties())
        record = EnsembleRecord(max((*members, *(number for number, _ in failed))) + 1)
        started = {"members": record.n_planned, "done": 0, "failed": 0, "epochs": 1, "n_train": 18}
        run.emit("ensemble_started", **started)
        for number, attempt in failed:
            attempt_of = {"attempt": attempt, "seed": number, "error": "training diverged"}
            run.emit(MEMBER_FAILED, member=number, **attempt_of)
        for place, number in enumerate(members):
            torch.manual_seed(number)
            is_noisy = noise is not None and number not in without_noise
            output = "gaussian" if is_noisy else inputs.prop.task
            result = FitResult(
                best=EpochMetrics(1, 0.1, 0.1 * (number + 1), 0.1),
                network=spec.build(config, output).eval(),
                scaling=TargetScaling(),
                predictions=np.zeros(0) if values is None else values(inputs)[place],
                noise=noise(inputs)[place] if noise is not None and is_noisy else None,
                epochs=1,
                train_time_s=0.1,
                featurize_time_s=0.0,
                n_parameters=1,
            )
            model = to_trained_model("cgcnn", config, result, inputs, {"seed": number})
            if values is None:
                result.__dict__["predictions"] = model.predict(table)  # frozen, but ours
            store_member(model, result, number, run)
            attempts = 1 + sum(1 for other, _ in failed if other == number)
            row = {"seed": number, "n_train": 18, "val_score": result.best.val_score}
            run.emit(MEMBER_ENDED, member=number, row={**row, "attempts": attempts})
        record = EnsembleRecord.from_events(run.events(), record.n_planned)
        metrics = {}
        if finish:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(baselines, "N_TREES", 5)  # most of the time, otherwise
                metrics = finish_ensemble(
                    record, inputs, tables=[table], run=run, weighting=weighting
                )
    return Made(path, metrics, inputs, table)
