"""Small but slow runs of every long command, to be disturbed, and what must not depend on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from made_screening import BULK, SHEAR, glass, write_candidates, write_ensemble

from raymat.data.crystals import CrystalSet
from raymat.tracking.events import Event, read_events

# Processes of Ray that are no task at work; its names of tasks begin with ray::.
IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
TIMES = ["train_time_s", "featurize_time_s", "search_time_s"]
SHARD_SIZE, N_SHARDS = 8, 24

# Small but slow: an epoch takes some tenths of a second, so that a signal finds a trial within one.
SLOW_TRIALS = {
    "model": "cgcnn",
    "data": "delta",
    "target": "log10_bulk_modulus",
    "space": {"training.lr": {"log_uniform": [1.0e-3, 1.0e-2]}},
    "fixed": {"model.atom_dim": 128, "model.n_conv": 4, "training.batch_size": 4},
    "budget": {"trials": 3, "epochs": 4},
    "scheduler": {"name": "none"},
    "search": {"name": "random"},
}


def write_space(path: Path, **changes: Any) -> Path:
    """Write a search space."""
    content = {**SLOW_TRIALS, **changes}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


# Small but slow: an epoch takes some tenths of a second, so that a signal finds a member in one.
SLOW_MEMBER: dict[str, Any] = {
    "model": "cgcnn",
    "config": {
        "model.atom_dim": 128,
        "model.n_conv": 4,
        "training.batch_size": 4,
        "training.epochs": 8,
    },
    "data": "delta",
    "target": "log10_bulk_modulus",
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
}


def write_plan(folder: Path, **changes: Any) -> Path:
    space = write_space(folder / "slow.yaml")  # random search: no trial depends on another
    content = {
        "data": "delta",
        "properties": ["log10_bulk_modulus"],
        "models": {"cgcnn": {"space": str(space)}, "soap_svr": {}},
        "repetitions": 1,
        "scheduler": {"name": "none"},
        "search": {"name": "random"},
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}), encoding="utf-8")
    return path


Results = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A command, and what of its run must not depend on kills.

    Attributes:
        arguments: gives the command line, made in a folder, without ``--out``.
        results: reads what the run found.
        unit: event that ends a unit of work, and the keys that tell units apart.
    """

    arguments: Callable[[Path], list[str | Path]]
    results: Callable[[Path], Results]
    unit: tuple[str, tuple[str, ...]]


def tune(folder: Path) -> list[str | Path]:
    return ["tune", "--space", write_space(folder / "slow.yaml"), "--concurrency", "1"]


def tuned(run: Path) -> Results:
    table = pd.read_parquet(run / "trials.parquet").sort_values("trial_id")
    epochs = [(e["trial"], e["epoch"], e["val_score"]) for e in of_kind(run, "epoch")]
    assert len({(trial, epoch) for trial, epoch, _ in epochs}) == len(epochs)  # none twice
    kept = ["trial_id", "status", "val_mae", "best_epoch", "epochs", "config.training.lr"]
    return {"trials": table[kept].to_dict("list"), "epochs": sorted(epochs)}


def ensemble(folder: Path) -> list[str | Path]:
    (folder / "c.yaml").write_text(yaml.safe_dump(SLOW_MEMBER), encoding="utf-8")
    sizes = ("--members", "3", "--concurrency", "1", "--gpus", "0")
    return ["ensemble", "--config", folder / "c.yaml", *sizes]


def trained(run: Path) -> Results:
    members = pd.read_parquet(run / "members.parquet").drop(columns=["time_s", "host"])
    predictions = pd.read_parquet(run / "predictions.parquet")
    return {
        "members": members.to_dict("list"),
        "mean": predictions["mean"].tolist(),
        "metrics": (run / "metrics.json").read_bytes(),
    }


def compare(folder: Path) -> list[str | Path]:
    budget = {"trials": 2, "epochs": 6}
    plan = write_plan(folder, models={"cgcnn": {"space": str(folder / "slow.yaml")}}, budget=budget)
    return ["compare", "--plan", plan, "--concurrency", "1"]


def compared(run: Path) -> Results:
    table = pd.read_csv(run / "comparison.csv").drop(columns=TIMES)
    return {"comparison": table.to_csv()}  # nan equals nan


def screen(folder: Path) -> list[str | Path]:
    for name, target in (("K", BULK), ("G", SHEAR)):
        if not (folder / name).exists():
            write_ensemble(folder / name, target)
    crystals = [glass(f"glass-{n:02d}", n) for n in range(SHARD_SIZE * N_SHARDS)]
    file = folder / "glass.parquet"
    if not file.exists():
        gaps = pd.DataFrame({"band_gap": [2.0] * len(crystals)})
        write_candidates(file, CrystalSet.from_crystals(crystals, gaps))
    ensembles = ("--bulk", folder / "K", "--shear", folder / "G", "--candidates", file)
    sizes = ("--shard-size", str(SHARD_SIZE), "--gpus", "0", "--concurrency", "1")
    return ["screen", *ensembles, *sizes]


def screened(run: Path) -> Results:
    names = ("screening.csv", "metrics.json")
    return {name: (run / name).read_bytes() for name in names}


def explain(folder: Path) -> list[str | Path]:
    del folder
    asked = ("--data", "delta", "--target", "log10_bulk_modulus", "--labels", "period")
    sizes = ("--per-class", "80", "--episodes", "3", "--epochs", "12", "--max-attempts", "1")
    return ["explain", *asked, *sizes, "--no-full", "--concurrency", "1"]


def explained(run: Path) -> Results:
    names = ("explanations.jsonl", "summary.csv")
    return {name: (run / name).read_bytes() for name in names}


JOBS = {
    "tune": Job(tune, tuned, ("trial_ended", ("trial",))),
    "ensemble": Job(ensemble, trained, ("member_ended", ("member",))),
    "compare": Job(compare, compared, ("cell_ended", ("cell",))),
    "screen": Job(screen, screened, ("shard_ended", ("shard",))),
    "explain": Job(explain, explained, ("explanations_grown", ("target_class", "first"))),
}


def check_each_once(run: Path, job: Job) -> set[Any]:
    kind, keys = job.unit
    ended = [tuple(event[key] for key in keys) for event in of_kind(run, kind)]
    assert len(set(ended)) == len(ended), "done twice"
    return set(ended)


def of_kind(run: Path, kind: str) -> list[Event]:
    return [event for event in read_events(run / "events.jsonl") if event["event"] == kind]
