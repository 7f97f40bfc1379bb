"""Tiny ensembles of the built-in data, trained for real."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.cluster.ensemble import EnsembleRequest, ensemble
from raymat.data.splits import SplitConfig
from raymat.tracking.events import Event, read_events

MEMBERS, EPOCHS = 4, 2
TARGET = "log10_bulk_modulus"
SPLIT = SplitConfig(train=0.6, validation=0.2, test=0.2)  # 43, 14 and 14 rows of 71
N_TRAIN, N_SHARE = 43, 26
TINY = {
    "model.atom_dim": 8,
    "model.n_conv": 1,
    "model.hidden_dim": 8,
    "training.batch_size": 16,
    "training.epochs": EPOCHS,
}
GOOD = {"model": "cgcnn", "config": TINY}
# Every step takes the weights times 1 - 10 * 10, whatever the crystals are.
_DIVERGES = {"training.lr": 10.0, "training.weight_decay": 10.0, "training.batch_size": 2}
BAD = {"model": "cgcnn", "config": {**TINY, **_DIVERGES}}


@dataclass
class Run:
    """A run and what was heard of it."""

    path: Path
    metrics: dict[str, Any]
    heard: list[Event]

    @property
    def events(self) -> list[Event]:
        return read_events(self.path / "events.jsonl")

    @property
    def members(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "members.parquet").set_index("member")

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "predictions.parquet")

    @property
    def calibration(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "calibration.json").read_text("utf-8"))
        return content

    def weights(self, member: int) -> bytes:
        return (self.path / "members" / f"{member:04d}" / "model.safetensors").read_bytes()


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def request_for(*configs: dict[str, Any], **changes: Any) -> EnsembleRequest:
    values = {"data": "delta", "target": TARGET, "split": SPLIT, "members": MEMBERS, "gpus": 0.0}
    base = {"configs": configs or (GOOD,), "config_path": "c.yaml", **values}
    return EnsembleRequest(**{**base, **changes})  # type: ignore[arg-type]


def run_ensemble(path: Path, *configs: dict[str, Any], **changes: Any) -> Run:
    heard: list[Event] = []
    metrics = ensemble(request_for(*configs, **changes), path, listeners=(heard.append,))
    return Run(path, metrics, heard)
