"""SIGKILL of the process that trains a trial: the trial goes on from its checkpoint."""

import os
import signal
from pathlib import Path

from processes import (
    SLOW_TRIALS,
    Raymat,
    assert_quiet,
    assert_whole,
    epochs,
    log,
    of_kind,
    write_space,
)

TRIALS, EPOCHS = SLOW_TRIALS["budget"]["trials"], SLOW_TRIALS["budget"]["epochs"]


def test_trial_survives_the_death_of_its_process(tmp_path: Path) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    command.wait_until(lambda: len(epochs(log(run), 0)) >= 2)
    before = [e for e in of_kind(log(run), "epoch") if e["trial"] == 0]
    os.kill(before[-1]["facts"]["pid"], signal.SIGKILL)
    assert command.wait() == 0
    events = log(run)
    assert [e["trial"] for e in of_kind(events, "trial_resumed")] == [0]
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)  # nothing twice, nothing missing
    pids = [e["facts"]["pid"] for e in of_kind(events, "epoch") if e["trial"] == 0]
    assert pids[0] != pids[-1]
    assert_quiet(command.text())
    assert "failed" not in command.text()
