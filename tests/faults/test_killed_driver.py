"""SIGKILL of the driver, in every phase of one run; `raymat resume` goes on each time."""

from pathlib import Path

import pytest
import torch
from processes import (
    SLOW_TRIALS,
    Raymat,
    assert_quiet,
    assert_whole,
    ended_trials,
    epochs,
    log,
    of_kind,
    status,
    write_space,
)

from raymat.tracking.run_directory import RunDirectory

TRIALS, EPOCHS = SLOW_TRIALS["budget"]["trials"], SLOW_TRIALS["budget"]["epochs"]
RAY_ENDS_WITHIN_S = 30.0  # measured: 2 s; a busy machine is slower
OTHER = ("trial_started", "trial_resumed", "epoch", "trial_ended")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


def checkpoint(run: Path, trial: int) -> list[dict[str, float]]:
    """What the workers wrote down of a trial: one row an epoch."""
    path = run / "trials" / f"{trial:04d}" / "last.pt"
    rows: list[dict[str, float]] = torch.load(path, weights_only=True)["history"]
    return rows


@pytest.mark.slow  # a minute or two: five kills, five starts of Ray
@pytest.mark.timeout(900)
def test_run_killed_in_every_phase_ends_whole(folder: Path) -> None:
    run, space = folder / "run", write_space(folder / "slow.yaml")

    # While it reads, before there are graphs.
    first = Raymat("tune", "--space", space, "--out", run, folder=folder)
    first.wait_until(lambda: bool(of_kind(log(run), "data")))
    first.kill()
    assert not of_kind(log(run), "features_ready")
    first.wait_for_children_to_end(RAY_ENDS_WITHIN_S)
    assert status(run) == "running"  # nobody was left to say otherwise

    # While trial 0 trains.
    second = Raymat("resume", run, folder=folder)
    second.wait_until(lambda: len(epochs(log(run), 0)) >= 2)
    second.kill()
    second.wait_for_children_to_end(RAY_ENDS_WITHIN_S)
    killed = log(run)
    assert 0 not in ended_trials(killed)
    for started in of_kind(killed, "trial_started"):
        known = len(epochs(killed, started["trial"]))
        path = run / "trials" / f"{started['trial']:04d}" / "last.pt"
        kept = len(checkpoint(run, started["trial"])) if path.exists() else 0
        assert kept - known in (0, 1)  # every epoch that was heard of is kept
    running = {e["trial"] for e in of_kind(killed, "trial_started")}
    kept_of_0 = checkpoint(run, 0)

    # After trial 0 has ended.
    third = Raymat("resume", run, folder=folder)
    third.wait_until(lambda: 0 in ended_trials(log(run)))
    third.kill()
    third.wait_for_children_to_end(RAY_ENDS_WITHIN_S)
    events = log(run)
    resumed = {e["trial"] for e in of_kind(events[len(killed) :], "trial_resumed")}
    assert resumed == running
    times = [e["time_s"] for e in of_kind(events, "epoch") if e["trial"] == 0]
    assert [row["time_s"] for row in checkpoint(run, 0)] == times  # no epoch was trained twice
    assert checkpoint(run, 0)[: len(kept_of_0)] == kept_of_0
    ended = set(ended_trials(events))

    # While the winner is trained again.
    fourth = Raymat("resume", run, folder=folder)
    fourth.wait_until(lambda: bool(of_kind(log(run), "refit_started")))
    fourth.kill()
    fourth.wait_for_children_to_end(RAY_ENDS_WITHIN_S)
    after = log(run)[len(events) :]
    assert not ended & {e["trial"] for e in after if e["event"] in OTHER}
    n_known = len(log(run))

    fifth = Raymat("resume", run, folder=folder)
    assert fifth.wait() == 0
    fifth.wait_for_children_to_end(RAY_ENDS_WITHIN_S)
    assert not [e for e in log(run)[n_known:] if e["event"] in OTHER]
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)
    assert_quiet(fifth.text())


@pytest.mark.slow
def test_nothing_is_left_to_do(folder: Path) -> None:
    """Looks at the run of the test before."""
    run = folder / "run"
    before = (run / "events.jsonl").read_bytes()
    again = Raymat("resume", run, folder=folder)
    assert again.wait() == 0
    assert "the run is complete, nothing is left to do" in again.text()
    assert (run / "events.jsonl").read_bytes() == before


def test_two_processes_cannot_work_in_one_folder(tmp_path: Path) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    with RunDirectory.create(run, {"command": "tune"}) as held:
        second = Raymat("resume", run, folder=tmp_path)
        assert second.wait() == 2
        assert f"error: {run}: another raymat process is at work in this folder" in second.text()
        third = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
        assert third.wait() == 2
        assert f"error: {run}: the folder exists and is not empty" in third.text()
        held.emit("data")  # and the first goes on
    assert status(run) == "complete"
