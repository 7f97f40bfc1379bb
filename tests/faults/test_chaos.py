"""Kills at random instants: whatever dies whenever, a run ends as if nothing had happened.

Drivers and workers get a SIGKILL at instants that a seed decides, over the whole length of a run,
its start and its end included. Nothing is lost, nothing done twice, and the results are those of a
run that was left alone. RAYMAT_KILLS says how many for each command.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from disturbed_jobs import IDLE, JOBS, Job, check_each_once
from processes import PATIENCE_S, Raymat, assert_quiet, command, descendants, status

KILLS = int(os.environ.get("RAYMAT_KILLS", "6"))
SEED = int(os.environ.get("RAYMAT_CHAOS_SEED", "0"))
LATE_SHARE = 0.3  # of the kills come at any instant of a run's length, the others in its first half
# A task is tried four times in one session of its driver; more deaths would rightly fail it.
MOST_WORKERS_IN_A_ROW = 2


class Chaos:
    """Runs a job and kills its processes until there have been enough kills."""

    def __init__(self, job: Job, folder: Path, seed: int) -> None:
        self.job, self.folder = job, folder
        self.random = random.Random(seed)
        self.kills = 0
        self.told: list[str] = []  # what was killed when, for the message of a failure

    def instant(self, seconds: float) -> float:
        """Give when to kill next: early more often, or half of the time would be spent waiting."""
        share = 1.0 if self.random.random() < LATE_SHARE else 0.5
        return self.random.uniform(0.0, share * seconds)

    def start(self, run: Path) -> Raymat:
        """Begin the run, or go on with it."""
        if (run / "run.json").exists():
            return Raymat("resume", run, folder=self.folder)
        return Raymat(*self.job.arguments(self.folder), "--out", run, folder=self.folder)

    def disturb(self, run: Path, seconds: float) -> None:
        """Run to the end, with kills on the way until there have been `KILLS` of them."""
        raymat, in_a_row = self.start(run), 0
        while self.kills < KILLS and not _ends_within(raymat, self.instant(seconds)):
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
    tasks = {pid for pid in found if command(pid).startswith("ray::")}
    return sorted(pid for pid in tasks if not command(pid).startswith(IDLE))


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
