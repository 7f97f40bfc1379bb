"""Ctrl-C, SIGTERM and SIGHUP end a run quickly and in order; `raymat resume` goes on."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from processes import (
    SLOW_TRIALS,
    Raymat,
    assert_quiet,
    assert_whole,
    descendants,
    epochs,
    log,
    of_kind,
    status,
    write_space,
)

TRIALS, EPOCHS = SLOW_TRIALS["budget"]["trials"], SLOW_TRIALS["budget"]["epochs"]
ENDS_WITHIN_S = 20.0  # measured: 2 s; a busy machine is slower


def end_with(command: Raymat, number: int, run: Path, *, group: bool) -> None:
    """Send a signal, and check how the command ends."""
    begun = time.monotonic()
    if group:
        command.signal_group(number)  # Ctrl-C reaches Ray's processes, too
    else:
        command.process.send_signal(number)
    assert command.wait() == 130
    assert time.monotonic() - begun < ENDS_WITHIN_S
    command.wait_for_children_to_end(ENDS_WITHIN_S)
    assert status(run) == "interrupted"
    assert f"interrupted; continue with: raymat resume {run}" in command.text()
    assert_quiet(command.text())


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_interrupted_run_is_resumed(tmp_path: Path) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    first = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    first.wait_until(lambda: len(epochs(log(run), 0)) >= 1)
    end_with(first, signal.SIGINT, run, group=True)

    n_known = len(epochs(log(run), 0))
    second = Raymat("resume", run, folder=tmp_path)
    second.wait_until(lambda: len(epochs(log(run), 0)) > n_known)
    end_with(second, signal.SIGTERM, run, group=False)

    third = Raymat("resume", run, folder=tmp_path)
    assert third.wait() == 0
    assert_quiet(third.text())
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment", ["begun", "data", "features_ready", "search_started", "refit_started"]
)
def test_signal_at_any_moment(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    command.wait_until(
        lambda: (
            (run / "run.json").exists() if moment == "begun" else bool(of_kind(log(run), moment))
        )
    )
    end_with(command, number, run, group=True)  # Ray's servers leave it to the driver


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    """As a service manager or a batch system sends it, or a terminal that is closed."""
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    command.wait_until(lambda: len(epochs(log(run), 0)) >= 1)
    begun = time.monotonic()
    for pid in [*descendants(command.pid), command.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    assert command.wait() == 130
    assert time.monotonic() - begun < ENDS_WITHIN_S
    command.wait_for_children_to_end(ENDS_WITHIN_S)
    assert status(run) == "interrupted"
    assert command.text().endswith(f"interrupted; continue with: raymat resume {run}\n")
    assert_quiet(command.text())


@pytest.mark.slow
def test_death_of_the_raylet_is_told_in_one_line(tmp_path: Path) -> None:
    """Such as by the kernel, when memory runs out; Ray would end the driver without a word."""
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    command.wait_until(lambda: len(epochs(log(run), 0)) >= 1)
    (raylet,) = [pid for pid in descendants(command.pid) if name_of(pid) == "raylet"]
    begun = time.monotonic()
    os.kill(raylet, signal.SIGKILL)
    assert command.wait() == 1
    assert time.monotonic() - begun < ENDS_WITHIN_S
    command.wait_for_children_to_end(ENDS_WITHIN_S)
    assert status(run) == "failed"
    last = command.text().splitlines()[-1]
    assert last.startswith("error: Ray on this machine has ended (its raylet died")
    assert last.endswith(f"`raymat resume` continues the run (run: {run})")
    assert_quiet(command.text().removesuffix(f"{last}\n"))
    second = Raymat("resume", run, folder=tmp_path)
    assert second.wait() == 0
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
