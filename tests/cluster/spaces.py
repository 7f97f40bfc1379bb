"""Small search spaces, and what an interrupted run's log would hold of them."""

from pathlib import Path
from typing import Any

import yaml

from raymat.tracking.events import Event
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space import parse_space

TINY_MODEL = {
    "model.atom_dim": 8,
    "model.n_conv": 1,
    "model.hidden_dim": 8,
    "training.batch_size": 32,
}
SEARCHED = {
    "training.lr": {"log_uniform": [1.0e-3, 1.0e-1]},
    "model.dropout": {"uniform": [0.0, 0.2]},
    "model.n_hidden": {"int": [1, 3]},
    "training.optimizer": {"choice": ["adam", "sgd"]},
    "training.momentum": {
        "uniform": [0.5, 0.95],
        "when": {"training.optimizer": "sgd"},
    },
}


def content(**changes: Any) -> dict[str, Any]:
    """The YAML form of a small space of the default data; a change replaces a whole section."""
    base = {
        "model": "cgcnn",
        "data": "delta",
        "target": "log10_bulk_modulus",
        "space": SEARCHED,
        "fixed": TINY_MODEL,
        "budget": {"trials": 5, "epochs": 3},
        "scheduler": {"name": "none"},
        "search": {"name": "tpe", "startup_trials": 2},
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def small_space(**changes: Any) -> SearchSpace:
    return parse_space(content(**changes), path="small.yaml")


def write_space(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(content(**changes), sort_keys=False), encoding="utf-8")
    return path


def started(asked: dict[str, Any]) -> Event:
    return {"event": "trial_started", "config": {}, **asked}


def epoch(trial: int, number: int, score: float) -> Event:
    return {
        "event": "epoch",
        "trial": trial,
        "epoch": number,
        "train_loss": 1.0,
        "val_score": score,
        "time_s": 0.1,
        "facts": {},
    }


def ended(trial: int, status: str, error: str | None = None) -> Event:
    return {"event": "trial_ended", "trial": trial, "status": status, "error": error}
