"""An explanation run whose processes are killed ends as if nothing happened."""

import os
import signal
from pathlib import Path

import pytest
from processes import (
    PATIENCE_S,
    Raymat,
    assert_quiet,
    command,
    descendants,
    is_alive,
    log,
    of_kind,
    status,
)

OPTIONS = ("--data", "delta", "--target", "log10_bulk_modulus", "--labels", "period", "--no-full")
# More than one task per class, each of some seconds, so that a signal finds one at work.
SIZES = ("--per-class", "80", "--episodes", "4", "--epochs", "20", "--max-attempts", "1")
CHUNKS = 4  # 75 and 5 of either class
RESULTS = ("explanations.jsonl", "summary.csv")


def start(run: Path, folder: Path) -> Raymat:
    return Raymat("explain", *OPTIONS, *SIZES, "--concurrency", "1", "--out", run, folder=folder)


def grown(run: Path) -> list[tuple[int, int]]:
    return [(e["target_class"], e["first"]) for e in of_kind(log(run), "explanations_grown")]


def workers(raymat: Raymat, task: str) -> set[int]:
    return {pid for pid in descendants(raymat.pid) if command(pid).startswith(f"ray::{task}")}


def assert_whole(run: Path) -> None:
    assert status(run) == "complete"
    assert sorted(grown(run)) == [(0, 0), (0, 75), (1, 0), (1, 75)]  # each once
    assert len(of_kind(log(run), "classifier_ended")) == 1
    assert len(of_kind(log(run), "scored")) == 1
    assert not (run / "trials").exists()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_killed_worker_and_killed_driver(tmp_path: Path) -> None:
    calm, run = tmp_path / "calm", tmp_path / "run"
    undisturbed = start(calm, tmp_path)
    assert undisturbed.wait() == 0
    assert_quiet(undisturbed.text())
    assert_whole(calm)

    # The process that grows graphs: its task is begun again by another.
    first = start(run, tmp_path)
    first.wait_until(lambda: bool(workers(first, "grow_task")))
    (victim,) = workers(first, "grow_task")
    os.kill(victim, signal.SIGKILL)
    # The driver, after the first task has ended.
    first.wait_until(lambda: len(grown(run)) >= 1)
    first.kill()
    first.wait_for_children_to_end(PATIENCE_S)
    assert not is_alive(victim)
    assert 1 <= len(grown(run)) < CHUNKS

    second = Raymat("resume", run, folder=tmp_path)
    assert second.wait() == 0
    assert_quiet(second.text())
    assert_whole(run)
    for name in RESULTS:
        assert (run / name).read_bytes() == (calm / name).read_bytes()
    assert (run / "labels-period.png").exists() == (calm / "labels-period.png").exists()
