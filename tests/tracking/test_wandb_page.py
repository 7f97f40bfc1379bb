"""The recipes of docs/wandb.md, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileBackend

PAGE = (Path(__file__).parents[2] / "docs" / "wandb.md").read_text(encoding="utf-8")
RECIPES = {text.split()[1]: text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "study"
    path.mkdir()
    table = {
        "trial_id": ["0000", "0001", "0002"],
        "status": ["complete", "failed", "stopped"],
        "val_mae": [0.5, np.nan, 0.25],
        "epochs": [3, 0, 2],
        "config.training.lr": [0.01, 0.02, 0.005],
        "config.training.momentum": [np.nan, 0.5, 0.75],  # for one optimizer only
        "config.model.n_conv": [1, 2, 3],
        "config.training.optimizer": ["adam", "sgd", "sgd"],
        "config.training.epochs": [3, 3, 3],
    }
    pd.DataFrame(table).to_parquet(path / "trials.parquet")
    curves = {"trial_id": ["0000", "0000"], "epoch": [1, 2], "val_mae": [0.75, 0.5]}
    pd.DataFrame(curves).to_parquet(path / "curves.parquet")
    return path


def use(name: str, run: Path) -> None:
    command = [sys.executable, "-c", RECIPES[name], str(run)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_a_journal_for_optunas_dashboard(run):
    use("optuna_journal.py", run)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(run / "optuna.log")))
    study = optuna.load_study(study_name="study", storage=storage)
    assert study.best_value == 0.25
    assert study.best_params == {
        "training.lr": 0.005,
        "training.momentum": 0.75,
        "model.n_conv": 3,
        "training.optimizer": "sgd",
    }
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "training.momentum" not in study.trials[0].params


def test_curves_for_tensorboard(run):
    use("tensorboard_curves.py", run)
    (file,) = (run / "tensorboard" / "0000").glob("events.out.*")
    assert b"val_mae" in file.read_bytes()
