"""SIGKILL of the process that trains a trial: the trial goes on from its checkpoint."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
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


@pytest.mark.faults
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trial_whose_process_always_dies_is_given_up(tmp_path: Path) -> None:
    run, space = (
        tmp_path / "run",
        write_space(tmp_path / "slow.yaml", budget={"trials": 3, "epochs": 12}),
    )
    command = Raymat("tune", "--space", space, "--out", run, "--concurrency", "1", folder=tmp_path)
    for death in range(1, 5):
        command.wait_until(lambda n=death: len(epochs(log(run), 0)) >= n)
        last = [e for e in of_kind(log(run), "epoch") if e["trial"] == 0][-1]
        os.kill(last["facts"]["pid"], signal.SIGKILL)
    assert command.wait() == 0
    assert_quiet(command.text())
    trials = pd.read_parquet(run / "trials.parquet").set_index("trial_id")
    assert trials.loc["0000", "status"] == "failed"
    assert trials.loc["0000", "error"] == (
        "The actor is dead because its worker process has died"
        " (after 3 restarts; see errors/0000.txt)"
    )
    assert (run / "errors" / "0000.txt").stat().st_size > 100
    assert list(trials["status"])[1:] == ["complete"] * (TRIALS - 1)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert "default" not in metrics
    assert "The default configuration (trial 0) failed" in command.text()
