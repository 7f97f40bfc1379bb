"""Configurations that diverge, time that runs out, resources that are not there."""

import json
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from processes import Raymat, assert_quiet, log, of_kind, status, write_space

from raymat.tracking.events import Event

SMALL = {"model.atom_dim": 8, "model.n_conv": 1, "training.batch_size": 4}
LATE_S = 40.0  # the first epoch comes later than any budget on a very busy machine
GRID = {
    "space": {"training.lr": {"choice": [0.01, 10.0, 0.02]}},
    "fixed": SMALL,
    "search": {"name": "grid"},
    "budget": {"trials": 4, "epochs": 3},
    "resources": {"cpu": 1, "gpu": 0.25},
}


@pytest.mark.long
def test_diverging_configuration_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "grid.yaml", **GRID)
    command = Raymat("tune", "--space", space, "--out", run, "--concurrency", "1", folder=tmp_path)
    assert command.wait() == 0
    assert_quiet(command.text())
    trials = pd.read_parquet(run / "trials.parquet").set_index("config.training.lr")
    assert list(trials.index) == [0.01, 10.0, 0.02]  # the default is a point of the grid
    failed = trials.loc[10.0]
    assert failed["status"] == "failed"
    assert failed["error"].startswith(f"training diverged in epoch {failed['epochs'] + 1}: loss ")
    assert list(trials["status"]) == ["complete", "failed", "complete"]
    assert f"trial 1 failed after {failed['epochs']} epoch" in command.text()
    assert failed["error"] in command.text()
    assert not of_kind(log(run), "trial_resumed")  # a failed configuration is not tried again
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["winner"]["trial"] != 1


@pytest.mark.long
def test_run_in_which_everything_diverges_fails_with_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    space = write_space(
        tmp_path / "bad.yaml",
        space={"model.n_hidden": {"int": [1, 2]}},
        fixed={**SMALL, "training.lr": 10.0},
        budget={"trials": 2, "epochs": 3},
    )
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    assert command.wait() == 1
    assert_quiet(command.text())
    last = command.text().strip().splitlines()[-1]
    assert last.startswith("error: none of 2 trials finished an epoch; the first error was:")
    assert "training diverged in epoch " in last
    assert status(run) == "failed"
    # What was tried can still be looked up.
    trials = pd.read_parquet(run / "trials.parquet")
    assert list(trials["status"]) == ["failed", "failed"]
    assert list(trials["config.training.lr"]) == [10.0, 10.0]


@pytest.mark.faults
def test_time_budget_ends_the_run_with_a_winner(tmp_path: Path) -> None:
    run = tmp_path / "run"
    space = write_space(
        tmp_path / "long.yaml", fixed=SMALL, budget={"trials": 1000, "epochs": 100_000}
    )
    command = Raymat("tune", "--space", space, "--out", run, "--time-budget", "3s", folder=tmp_path)
    assert command.wait() == 0
    assert_quiet(command.text())
    events = log(run)
    times = {e["event"]: datetime.fromisoformat(e["time"]) for e in events}
    assert (times["search_ended"] - times["search_started"]).total_seconds() < LATE_S
    trials = pd.read_parquet(run / "trials.parquet")
    assert set(trials["status"]) == {"stopped"}
    assert len(trials) < 10
    assert status(run) == "complete"
    # Both are scored as they stand; training the default to its end would take an hour.
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["winner"]["val_score_refitted"] == trials["val_mae"].min()
    assert metrics["default"]["epoch"] == trials["best_epoch"].iloc[0]


@pytest.mark.slow
def test_resume_has_what_is_left_of_the_time_budget(tmp_path: Path) -> None:
    run = tmp_path / "run"
    space = write_space(
        tmp_path / "long.yaml", fixed=SMALL, budget={"trials": 1000, "epochs": 100_000}
    )
    first = Raymat("tune", "--space", space, "--out", run, "--time-budget", "30s", folder=tmp_path)
    first.wait_until(lambda: len(of_kind(log(run), "epoch")) > 20)
    first.kill()
    spent = seconds_between(of_kind(log(run), "search_started")[0], log(run)[-1])
    second = Raymat("resume", run, folder=tmp_path)
    assert second.wait() == 0
    events = log(run)
    again = of_kind(events, "search_started")[1]
    assert seconds_between(again, of_kind(events, "search_ended")[0]) < 30.0 - spent + 5.0


def seconds_between(first: Event, last: Event) -> float:
    times = [datetime.fromisoformat(event["time"]) for event in (first, last)]
    return (times[1] - times[0]).total_seconds()


@pytest.mark.slow
def test_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", fixed=SMALL, search={"name": "tpe"})
    found = []
    for name in ("first", "second"):
        run = tmp_path / name
        command = Raymat(
            "tune", "--space", space, "--out", run, "--concurrency", "1", folder=tmp_path
        )
        assert command.wait() == 0
        curves = pd.read_parquet(run / "curves.parquet").drop(columns=["time_s", "train_time_s"])
        found.append((curves, (run / "metrics.json").read_bytes()))
    pd.testing.assert_frame_equal(found[0][0], found[1][0], check_exact=True)
    assert found[0][1] == found[1][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "resources", "error"),
    [
        (["--gpus", "1"], {"cpu": 1}, "error: --gpus 1: Ray sees no GPU here"),
        ([], {"cpu": 4096}, "error: no node has 4096 CPU and 0 GPU for one task"),
        (["--address", "127.0.0.1:1"], {"cpu": 1}, "error: no Ray cluster answers at 127.0.0.1:1"),
        (["--address", "here"], {"cpu": 1}, "error: --address here: expected HOST:PORT"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    tmp_path: Path, options: list[str], resources: dict[str, float], error: str
) -> None:
    space = write_space(tmp_path / "space.yaml", resources=resources)
    command = Raymat("tune", "--space", space, "--out", tmp_path / "run", *options, folder=tmp_path)
    assert command.wait() == 2
    assert_quiet(command.text())
    assert command.text().strip().splitlines()[-1].startswith(error)
