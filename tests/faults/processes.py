"""Real `raymat` processes, to be interrupted and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from disturbed_jobs import SLOW_TRIALS, write_space

from raymat.tracking.events import Event, read_events

__all__ = ["SLOW_TRIALS", "write_space"]  # which the tests here take from here

PATIENCE_S = 240.0  # for anything that only has to happen, on a busy machine
POLL_S = 0.02
# Ray's two helper processes wait a minute (a constant in Ray) for a server that died with the
# driver, doing nothing; all others end at once.
LATE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "dashboard/agent.py", "runtime_env/agent")
_RAYMAT = "from raymat.cli.main import main; main()"


class Raymat:
    """A `raymat` command in a process group of its own, as a terminal starts it."""

    def __init__(self, *arguments: str | Path, folder: Path, **environment: str) -> None:
        self.output = folder / f"output-{time.time_ns()}.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RAYMAT, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "RAYMAT_CACHE": str(folder / "cache"),
                    **environment,
                },
            )
        self.children: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Wait for the end and give the exit code; all it started must end with it."""
        self.wait_until(lambda: self.process.poll() is not None)
        return int(self.process.returncode)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is None:
                self.children |= descendants(self.pid)
            elif not condition():
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.text()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"nothing happened in {PATIENCE_S:.0f} s:\n{self.text()}")
            time.sleep(POLL_S)

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole process group, as a terminal does on Ctrl-C."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the process alone: what it started is not told."""
        self.children |= descendants(self.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait_for_children_to_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while left := [pid for pid in self.children if is_alive(pid) and not is_late(pid)]:
            assert time.monotonic() < deadline, f"left over: {[command(pid) for pid in left]}"
            time.sleep(POLL_S)


def descendants(root: int) -> set[int]:
    """Process ids of all that a process started, and what those started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    grown = {root}
    while grown:
        grown = {pid for pid, parent in parents.items() if parent in grown} - found
        found |= grown
    return found


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return "ended"


def is_late(pid: int) -> bool:
    return any(name in command(pid) for name in LATE)


def log(run: Path) -> list[Event]:
    return read_events(run / "events.jsonl")


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def epochs(events: list[Event], trial: int) -> list[int]:
    return [e["epoch"] for e in of_kind(events, "epoch") if e["trial"] == trial]


def ended_trials(events: list[Event]) -> list[int]:
    return [e["trial"] for e in of_kind(events, "trial_ended")]


def status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text(encoding="utf-8"))["status"])


def assert_whole(run: Path, *, trials: int, n_epochs: int) -> None:
    """A finished run in which every epoch of every trial was logged exactly once, in order."""
    events = log(run)
    assert status(run) == "complete"
    assert sorted(ended_trials(events)) == list(range(trials))
    for trial in range(trials):
        assert epochs(events, trial) == list(range(1, n_epochs + 1))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["winner"]["val_score_refitted"] == metrics["winner"]["val_score_in_search"]
    assert (run / "best" / "model.safetensors").exists()
    assert not (run / "trials").exists()
    assert not (run / "ray").exists()


def assert_quiet(text: str) -> None:
    """No word of Ray, no warning, no traceback."""
    for noise in ("Traceback", "(raylet)", "Warning", "ray.tune", "gcs_client", "core_worker"):
        assert noise not in text, text
