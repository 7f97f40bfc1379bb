"""A comparison that is interrupted or killed, whole or in part, ends as if nothing had happened."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from disturbed_jobs import TIMES
from disturbed_jobs import write_plan as write_any_plan
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

TRIALS, EPOCHS = 2, 30  # several seconds a trial, to be met within one
CELLS = [
    f"log10_bulk_modulus-r0-nall-{model}-{setting}"
    for setting in ("default", "tuned")
    for model in ("cgcnn", "soap_svr")
]
FIRST, _, THIRD, _ = CELLS  # those of cgcnn, which take their time


def compare(run: Path, folder: Path, *, concurrency: int) -> Raymat:
    plan = write_any_plan(folder, budget={"trials": TRIALS, "epochs": EPOCHS})
    options = ("--concurrency", str(concurrency), "--out", run)
    return Raymat("compare", "--plan", plan, *options, folder=folder)


def n_epochs(run: Path, cell: str) -> int:
    return len(of_kind(log(run / "cells" / cell), "epoch"))


def assert_whole(run: Path) -> pd.DataFrame:
    """No cell, no trial and no epoch was done or logged twice, and none is missing."""
    assert status(run) == "complete"
    assert [event["cell"] for event in of_kind(log(run), "cell_ended")] == CELLS
    for cell in CELLS:
        events = log(run / "cells" / cell)
        assert status(run / "cells" / cell) == "complete"
        is_closed = "soap_svr" in cell
        trials = range(1 if is_closed and cell.endswith("default") else TRIALS)
        for kind in ("trial_started", "trial_ended"):
            assert sorted(event["trial"] for event in of_kind(events, kind)) == list(trials)
        for trial in trials:
            epochs = [e["epoch"] for e in of_kind(events, "epoch") if e["trial"] == trial]
            assert epochs == list(range(1, 2 if is_closed else EPOCHS + 1))
        assert len(of_kind(events, "scored")) == 1
        assert not (run / "cells" / cell / "trials").exists()
        assert not (run / "cells" / cell / "ray").exists()
    table = pd.read_csv(run / "comparison.csv")
    assert (table["n_trials_complete"] == table["n_trials"]).all()
    return table


def kill(raymat: Raymat) -> None:
    """SIGKILL the driver, and wait for its Ray to end."""
    raymat.kill()
    raymat.wait_for_children_to_end(PATIENCE_S)


def cell_processes(raymat: Raymat) -> set[int]:
    return {pid for pid in descendants(raymat.pid) if command(pid).startswith("ray::run_cell")}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_comparison_gives_the_rows_of_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    calm = compare(tmp_path / "calm" / "run", tmp_path / "calm", concurrency=1)
    assert calm.wait() == 0
    expected = assert_whole(tmp_path / "calm" / "run")

    # Ctrl-C while the first cell trains.
    run = tmp_path / "run"
    first = compare(run, tmp_path, concurrency=1)
    first.wait_until(lambda: n_epochs(run, FIRST) >= 1)
    first.signal_group(signal.SIGINT)
    assert first.wait() == 130
    first.wait_for_children_to_end(PATIENCE_S)
    assert status(run) == "interrupted"
    assert f"interrupted; continue with: raymat resume {run}" in first.text()
    assert_quiet(first.text())
    assert not of_kind(log(run), "cell_ended")

    # SIGKILL, still in the first cell.
    known = n_epochs(run, FIRST)
    second = Raymat("resume", run, folder=tmp_path)
    second.wait_until(lambda: n_epochs(run, FIRST) > known)
    kill(second)

    # SIGKILL while the third cell trains.
    third = Raymat("resume", run, folder=tmp_path)
    third.wait_until(lambda: n_epochs(run, THIRD) >= 1)
    kill(third)
    assert [event["cell"] for event in of_kind(log(run), "cell_ended")] == CELLS[:2]
    finished = {cell: (run / "cells" / cell / "events.jsonl").read_bytes() for cell in CELLS[:2]}

    fourth = Raymat("resume", run, folder=tmp_path)
    assert fourth.wait() == 0
    assert_quiet(fourth.text())
    assert "comparison: 4 cells, 2 of them done before" in fourth.text()
    for cell, content in finished.items():
        assert (run / "cells" / cell / "events.jsonl").read_bytes() == content
    table = assert_whole(run)
    pd.testing.assert_frame_equal(
        table.drop(columns=TIMES), expected.drop(columns=TIMES), check_exact=True
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cell_survives_the_death_of_its_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    raymat = compare(run, tmp_path, concurrency=1)
    raymat.wait_until(lambda: n_epochs(run, FIRST) >= 1)
    (victim,) = cell_processes(raymat)
    os.kill(victim, signal.SIGKILL)
    assert raymat.wait() == 0
    assert not is_alive(victim)
    assert_quiet(raymat.text())
    assert "failed" not in raymat.text()
    assert len(of_kind(log(run / "cells" / FIRST), "search_started")) == 2
    assert_whole(run)
