"""What the event log says, arranged as runs of W&B: no process, no file of W&B."""

from pathlib import Path

import pandas as pd
import pytest
from made_runs import (
    address_was_named,  # noqa: F401  used by every test here
    begin_search,
    whole_trial,
    write_search,
)

from raymat.tracking import wandb_attachments
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory, read_header
from raymat.tracking.wandb_attachments import read_attachments
from raymat.tracking.wandb_runs import WandbRuns, flat, nested, plain, run_id
from raymat.tuning.study import Study


def arranged(path: Path) -> WandbRuns:
    runs = WandbRuns(read_header(path), path.name)
    for event in read_events(path / "events.jsonl"):
        runs.take(event)
    return runs


def test_trials_are_what_the_study_says(tmp_path):
    """The study is rebuilt twice from one log, here without what knows of training."""
    write_search(tmp_path / "study")
    study = Study.from_events(read_events(tmp_path / "study/events.jsonl"), "regression")
    runs = {run.key: run for run in arranged(tmp_path / "study")}
    for number, key in {0: "0000", 1: "0001", 2: "0002-2", 3: "0003"}.items():
        trial, run = study.trials[number], runs[key]
        assert [step for step, _ in run.rows] == [m.epoch for m in trial.epochs]
        assert [row["val_mae"] for _, row in run.rows] == [m.val_score for m in trial.epochs]
        assert run.summary["status"] == trial.status
        assert run.summary["best_epoch"] == trial.best("regression").epoch
        assert run.summary["total_time_s"] == trial.time_s
        assert {row["gpu_memory_gb"] for _, row in run.rows} <= {2.5}


def test_classes_are_scored_by_auc(tmp_path):
    with begin_search(tmp_path / "study") as run:
        run.emit("data", task="classification")
        whole_trial(run, 0)
    (trial,) = (run for run in arranged(tmp_path / "study") if run.kind == "trial")
    assert trial.summary["best_val_auc"] == 1.0
    assert "val_mae" not in trial.rows[0][1]


def test_epoch_that_diverged_has_no_numbers(tmp_path):
    with begin_search(tmp_path / "study") as run:
        run.emit("trial_started", trial=0, seed=0, values={}, config={})
        nan = float("nan")
        scores = {"train_loss": nan, "val_score": nan, "time_s": 0.1}
        run.emit("epoch", trial=0, epoch=1, **scores, lr=0.01, facts={})
        run.emit("trial_ended", trial=0, status="failed", error="training diverged")
    (trial,) = (run for run in arranged(tmp_path / "study") if run.kind == "trial")
    ((step, row),) = trial.rows
    assert (step, row["lr"]) == (1, 0.01)  # whatever an epoch tells comes along
    assert not {"train_loss", "val_mae"} & set(row)
    assert "best_val_mae" not in trial.summary
    assert trial.has_failed


def test_a_comparison_has_a_run_for_each_cell(tmp_path):
    with RunDirectory.create(tmp_path / "c", {"command": "compare"}) as run:
        row = {"model": "cgcnn", "property": "K", "repetition": 1, "mae": 0.5, "device": "cpu"}
        run.emit("cell_started", cell="cgcnn-K-tuned-1")
        run.emit("cell_ended", cell="cgcnn-K-tuned-1", row=row)
    (cell,) = (run for run in arranged(tmp_path / "c") if run.kind == "cell")
    assert cell.key == "cell-cgcnn-K-tuned-1"
    assert (cell.config["property"], cell.config["repetition"]) == ("K", 1)
    assert (cell.summary["mae"], cell.has_ended) == (0.5, True)


def test_an_id_stays_with_its_run(tmp_path):
    for name in ("a", "b"):
        write_search(tmp_path / name, n_trials=1)
    first = run_id(read_header(tmp_path / "a"), tmp_path / "a/events.jsonl")
    with RunDirectory.reopen(tmp_path / "a"):
        pass
    moved = (tmp_path / "a").rename(tmp_path / "moved")
    assert run_id(read_header(moved), moved / "events.jsonl") == first
    assert run_id(read_header(tmp_path / "b"), tmp_path / "b/events.jsonl") != first


def test_nested_and_flat_values():
    dotted = {"model.name": "cgcnn", "model.n_conv": 3, "trial": 1}
    assert nested(dotted) == {"model": {"name": "cgcnn", "n_conv": 3}, "trial": 1}
    assert flat({"test": {"mae": 1.0, "mae_ci95": [0.5, 1.5]}, "n": None, "l": [1, 2, 3]}) == {
        "test/mae": 1.0,
        "test/mae_ci95_low": 0.5,
        "test/mae_ci95_high": 1.5,
    }
    assert plain({"a": float("inf"), "b": [1], "c": True, "d": None}) == {"b": "[1]", "c": True}


def test_long_tables_are_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_attachments, "MOST_ROWS", 3)
    parts = ["train"] * 6 + ["test"] * 2
    table = {"part": parts, "prediction": range(8), "members": [[1.0]] * 8}
    pd.DataFrame(table).to_parquet(tmp_path / "predictions.parquet")
    pd.DataFrame({"rank": range(1, 9)}).to_parquet(tmp_path / "screening.parquet")
    found = read_attachments(tmp_path).tables
    assert found["predictions"].columns == ["part", "prediction"]
    assert found["predictions"].rows == [["test", 6], ["test", 7], ["train", 0]]
    assert found["predictions"].n_left_out == 5
    assert found["screening"].rows == [[1], [2], [3]]


def test_a_table_that_is_cut_off(tmp_path):
    (tmp_path / "trials.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(OSError, match=r"trials\.parquet: cannot be read"):
        read_attachments(tmp_path)
