"""What the tests of comparisons share: small spaces, and a comparison with all it wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from raymat.cluster.compare import CompareRequest, compare
from raymat.errors import RunError
from raymat.tracking.events import Event, read_events
from raymat.tracking.run_directory import Listener
from raymat.tuning.comparison_cells import ComparisonPlan

TRIALS, EPOCHS = 2, 2
TARGET = "log10_bulk_modulus"
CONTRACT = [
    *("model", "property", "unit", "setting", "repetition", "n_train", "n_test", "mae", "rmse"),
    *("r2", "train_time_s", "featurize_time_s", "n_parameters", "model_bytes", "device"),
]
TINY_CGCNN = {"model.atom_dim": 8, "model.n_conv": 1, "model.hidden_dim": 8}


def write_space(path: Path, model: str, searched: Any, **fixed: Any) -> str:
    content = {
        "model": model,
        "space": searched,
        "fixed": fixed,
        "budget": {"trials": TRIALS, "epochs": EPOCHS},
        "scheduler": {"name": "none"},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def searched_lr(low: float, high: float) -> dict[str, Any]:
    return {"training.lr": {"log_uniform": [low, high]}}


@dataclass
class Comparison:
    """A comparison in its run directory, and what was heard of it."""

    plan: ComparisonPlan
    path: Path
    failure: str
    first_table: pd.DataFrame
    heard: list[Event]

    @property
    def events(self) -> list[Event]:
        return read_events(self.path / "events.jsonl")

    def cell(self, name: str) -> Path:
        return self.path / "cells" / name

    def log(self, name: str) -> list[Event]:
        return read_events(self.cell(name) / "events.jsonl")

    def trials(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.cell(name) / "trials.parquet")

    def predictions(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.cell(name) / "predictions.parquet")

    def ids(self, name: str, part: str) -> list[str]:
        table = self.predictions(name)
        return sorted(table.loc[table["part"] == part, "material_id"])


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def failure_of(request: CompareRequest, path: Path, *listeners: Listener) -> str:
    with pytest.raises(RunError, match=r"cells failed") as caught:
        compare(request, path, listeners=listeners)
    return str(caught.value)
