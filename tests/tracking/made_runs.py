"""Run directories as the commands leave them, without any training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raymat.tracking.known_addresses import remember_address
from raymat.tracking.run_directory import RunDirectory

ODD_TEXT = 'diverged: α/β = "½" \\ Li₇La₃Zr₂O₁₂ <b> 🔥 \x00 end'
DATA = {
    "data": {"name": "made", "path": "/secret/place/made.parquet", "sha256": "d" * 64},
    "target": "log10_G_VRH",
    "unit": "log10(GPa)",
    "task": "regression",
    "threshold": None,
    "split": {"kind": "random", "sha256": "e" * 64},
}
FACTS = {"n_parameters": 1234, "host": "node-7", "device": "cuda", "pid": 5, "gpu_memory_gb": 2.5}
ADDRESS = "10.0.0.5:6379"  # of a cluster that is not there


@pytest.fixture(autouse=True)
def address_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the cluster of the made runs; for a module that imports it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path.with_name(f"{tmp_path.name}-config")))
    remember_address(ADDRESS)


def begin_search(path: Path, **options: Any) -> RunDirectory:
    space = {"model": "cgcnn", "budget": {"trials": 4, "epochs": 3}, "search": {"name": "tpe"}}
    arguments = {"space": space, "data": "/secret/place/made.parquet", "address": ADDRESS}
    header = {"command": "tune", "seed": 3, "arguments": arguments}
    run = RunDirectory.create(path, header, **options)
    run.emit("data", **DATA)
    run.update_header(**DATA)
    run.emit("search_started", trials=4)
    return run


def start_trial(run: RunDirectory, number: int) -> None:
    values = {"training.lr": 0.01 * (number + 1)}
    config = {**values, "model.n_conv": 3, "training.milestones": [100], "training.batch_size": 64}
    run.emit("trial_started", trial=number, seed=number, values=values, config=config)


def train(run: RunDirectory, number: int, first: int, last: int, **extra: Any) -> None:
    for epoch in range(first, last + 1):
        score = 1.0 / epoch + 0.1 * number + (0.5 if epoch == 3 else 0.0)
        metrics = {"train_loss": 2.0 / epoch, "val_score": score, "time_s": 0.5, **extra}
        run.emit("epoch", trial=number, epoch=epoch, **metrics, train_time_s=0.4, facts=FACTS)


def end_trial(run: RunDirectory, number: int, status: str, error: str | None = None) -> None:
    run.emit("trial_ended", durable=True, trial=number, status=status, error=error)


def whole_trial(run: RunDirectory, number: int, n_epochs: int = 4) -> None:
    start_trial(run, number)
    train(run, number, 1, n_epochs)
    end_trial(run, number, "complete")


def write_results(run: RunDirectory) -> None:
    """Write what a search leaves at its end."""
    metrics = {"target": "y", "test": {"mae": 0.25, "n": 2, "mae_ci95": [0.2, 0.3]}}
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    trials = {"trial_id": ["0000", "0001"], "val_mae": [0.25, np.nan], "error": [None, ODD_TEXT]}
    pd.DataFrame(trials).to_parquet(run.path / "trials.parquet", index=False)
    parts = ["train", "test"]
    predictions = {"material_id": ["a", "b"], "part": parts, "prediction": [0.5, 0.75]}
    pd.DataFrame({**predictions, "members": [[1.0], [2.0]]}).to_parquet(
        run.path / "predictions.parquet", index=False
    )
    (run.path / "best").mkdir()
    (run.path / "best/model.json").write_text(json.dumps({"model": "cgcnn"}), encoding="utf-8")
    (run.path / "best/model.safetensors").write_bytes(b"weights" * 100)
    Image.new("RGB", (8, 8), "red").save(run.path / "study.png")


def write_search(path: Path, n_trials: int = 4, n_epochs: int = 4) -> None:
    """Write a complete search: trial 1 failed, trial 2 began anew with smaller batches."""
    with begin_search(path) as run:
        for number in range(n_trials):
            start_trial(run, number)
            if number == 1:
                train(run, number, 1, 2)
                end_trial(run, number, "failed", ODD_TEXT)
                continue
            if number == 2:
                train(run, number, 1, 1)
                run.emit("batch_halved", durable=True, trial=number, batch_size=32)
            train(run, number, 1, n_epochs)
            end_trial(run, number, "stopped" if number == 3 else "complete")
        write_results(run)


def write_ensemble(path: Path, n_members: int = 3) -> None:
    header = {"command": "ensemble", "seed": 3, "arguments": {"configs": [{"model": "cgcnn"}]}}
    with RunDirectory.create(path, header) as run:
        run.emit("data", **DATA)
        run.update_header(**DATA)
        for member in range(n_members):
            run.emit("member_started", member=member, attempt=0, seed=member)
        for member in reversed(range(n_members)):
            row = {"seed": member, "val_score": 0.5 + member, "epochs": 7, "time_s": 2.0}
            run.emit("member_ended", durable=True, member=member, row={**row, "host": "node-7"})
        run.write_json("calibration.json", {"before": {"nll": 1.5}, "after": {"nll": 0.5}})
        run.write_json("metrics.json", {"test": {"mae": 0.25}})
        run.emit("scored", durable=True, metrics={"test": {"mae": 0.25}})
