"""Kills at random instants: whatever dies whenever, a run ends as if nothing had happened.

Drivers and workers get a SIGKILL at instants that a seed decides, over the whole length of a run,
its start and its end included. Nothing is lost, nothing done twice, and the results are those of a
run that was left alone. RAYMAT_KILLS says how many for each command: 6 in all of CI's time.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from made_screening import BULK, SHEAR, write_candidates, write_ensemble
from processes import (
    PATIENCE_S,
    Raymat,
    assert_quiet,
    command,
    descendants,
    log,
    of_kind,
    status,
    write_space,
)
from test_killed_comparison import TIMES, write_plan
from test_killed_ensemble import CONFIG
from test_killed_screen import SHARD_SIZE, glass

from raymat.data.crystals import CrystalSet

KILLS = int(os.environ.get("RAYMAT_KILLS", "6"))
SEED = int(os.environ.get("RAYMAT_CHAOS_SEED", "0"))
# A task is tried four times in one session of its driver; more deaths would rightly fail it.
MOST_WORKERS_IN_A_ROW = 2
IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
N_SHARDS = 8

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
    epochs = [(e["trial"], e["epoch"], e["val_score"]) for e in of_kind(log(run), "epoch")]
    assert len({(trial, epoch) for trial, epoch, _ in epochs}) == len(epochs)  # none twice
    kept = ["trial_id", "status", "val_mae", "best_epoch", "epochs", "config.training.lr"]
    return {"trials": table[kept].to_dict("list"), "epochs": sorted(epochs)}


def ensemble(folder: Path) -> list[str | Path]:
    (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    sizes = ("--members", "3", "--concurrency", "1", "--gpus", "0")
    return ["ensemble", "--config", folder / "c.yaml", *sizes]


def trained(run: Path) -> Results:
    members = pd.read_parquet(run / "members.parquet").drop(columns="time_s")
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


class Chaos:
    """Runs a job and kills its processes until there have been enough kills."""

    def __init__(self, job: Job, folder: Path, seed: int) -> None:
        self.job, self.folder = job, folder
        self.random = random.Random(seed)
        self.kills = 0
        self.told: list[str] = []  # what was killed when, for the message of a failure

    def start(self, run: Path) -> Raymat:
        """Begin the run, or go on with it."""
        if (run / "run.json").exists():
            return Raymat("resume", run, folder=self.folder)
        return Raymat(*self.job.arguments(self.folder), "--out", run, folder=self.folder)

    def disturb(self, run: Path, seconds: float) -> None:
        """Run to the end, with kills on the way until there have been `KILLS` of them."""
        raymat, in_a_row = self.start(run), 0
        while self.kills < KILLS and not _ends_within(raymat, self.random.uniform(0.0, seconds)):
            workers = _at_work(raymat) if in_a_row < MOST_WORKERS_IN_A_ROW else []
            self.kills += 1
            if workers and self.random.random() < 0.5:
                victim = self.random.choice(workers)
                self.told.append(f"{run.name}: {command(victim)}")
                os.kill(victim, signal.SIGKILL)
                in_a_row += 1
                continue
            self.told.append(f"{run.name}: driver")
            raymat.kill()
            raymat.wait_for_children_to_end(PATIENCE_S)
            raymat, in_a_row = self.start(run), 0
        assert raymat.wait() == 0, (self.told, raymat.text())
        assert_quiet(raymat.text())


def _ends_within(raymat: Raymat, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if raymat.process.poll() is not None:
            return True
        raymat.children |= descendants(raymat.pid)
        time.sleep(0.05)
    return False


def _at_work(raymat: Raymat) -> list[int]:
    found = descendants(raymat.pid)
    return sorted(
        pid for pid in found if command(pid).startswith("ray::") and not _is_idle(command(pid))
    )


def _is_idle(text: str) -> bool:
    return any(text.startswith(name) for name in IDLE)


def check_each_once(run: Path, job: Job) -> set[Any]:
    kind, keys = job.unit
    ended = [tuple(event[key] for key in keys) for event in of_kind(log(run), kind)]
    assert len(set(ended)) == len(ended), "done twice"
    return set(ended)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_killed_at_any_instant(name: str, tmp_path: Path) -> None:
    job, seed = JOBS[name], SEED + 1000 * list(JOBS).index(name)
    chaos, calm = Chaos(job, tmp_path, seed), tmp_path / "calm"
    begun = time.monotonic()
    assert chaos.start(calm).wait() == 0
    seconds = time.monotonic() - begun
    units, expected = check_each_once(calm, job), job.results(calm)
    number = 0
    while chaos.kills < KILLS:
        run = tmp_path / f"run-{number}"
        chaos.disturb(run, seconds)
        assert status(run) == "complete"
        assert check_each_once(run, job) == units, chaos.told
        assert job.results(run) == expected, chaos.told
        number += 1
    assert chaos.kills == KILLS
