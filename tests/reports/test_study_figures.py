"""The picture of a search, from the files of its run directory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raymat.errors import DataError, RunError
from raymat.reports.study_figures import save_study_figure, study_figure

SCORES = {"0000": [0.30, 0.25], "0001": [0.40, 0.35], "0002": [0.28, 0.20]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    header = {"task": "regression", "target": "y", "unit": "eV"}
    (tmp_path / "run.json").write_text(json.dumps(header), encoding="utf-8")
    status = {"0000": "complete", "0001": "failed", "0002": "stopped"}
    trials = [{"trial_id": t, "status": status[t], "val_mae": min(s)} for t, s in SCORES.items()]
    curves = [
        {"trial_id": t, "epoch": k, "val_mae": v}
        for t, s in SCORES.items()
        for k, v in enumerate(s, 1)
    ]
    parts = ["test"] * 5 + ["train"] * 5
    values = np.linspace(0.0, 1.0, 10)
    predictions = pd.DataFrame({"part": parts, "target": values, "prediction": values + 0.1})
    pd.DataFrame(trials).to_parquet(tmp_path / "trials.parquet")
    pd.DataFrame(curves).to_parquet(tmp_path / "curves.parquet")
    predictions.to_parquet(tmp_path / "predictions.parquet")
    return tmp_path


def test_figure_shows_what_the_run_holds(run: Path):
    curves, search, parity = study_figure(run).axes
    named = {line.get_label(): line.get_ydata().tolist() for line in curves.get_lines()}
    assert named["winner"] == SCORES["0002"]
    assert named["default"] == SCORES["0000"]
    shown = {dots.get_label(): len(dots.get_offsets()) for dots in search.collections}
    assert shown == {"complete": 1, "stopped": 1, "failed": 1}
    assert len(parity.collections[0].get_offsets()) == 5
    assert parity.get_title() == "5 test crystals"
    assert curves.get_ylabel() == "validation MAE (eV)"


def test_figure_is_written(run: Path):
    save_study_figure(run, run / "study.png")
    assert (run / "study.png").read_bytes().startswith(b"\x89PNG")


def test_figure_that_cannot_be_written_leaves_nothing(run: Path):
    with pytest.raises(DataError, match="cannot be written"):
        save_study_figure(run, run / "none" / "study.png")
    assert not (run / "none").exists()


def test_a_run_that_is_not_finished(run: Path):
    (run / "predictions.parquet").unlink()
    with pytest.raises(RunError, match="the run is not finished"):
        study_figure(run)


@pytest.mark.parametrize(
    ("task", "score", "worst"), [("regression", "val_mae", 1e6), ("classification", "val_auc", 0.0)]
)
def test_winner_is_in_the_frame_and_what_diverged_is_not(
    run: Path, task: str, score: str, worst: float
):
    header = {"task": task, "target": "y", "unit": ""}
    (run / "run.json").write_text(json.dumps(header), encoding="utf-8")
    rng = np.random.default_rng(0)
    values = [worst, *rng.uniform(0.80, 0.90, 30)]
    ids = [f"{number:04d}" for number in range(len(values))]
    best = max(values) if task == "classification" else min(values)
    trials = pd.DataFrame({"trial_id": ids, "status": "complete", score: values})
    trials.to_parquet(run / "trials.parquet")
    trials.assign(epoch=1).to_parquet(run / "curves.parquet")
    side = "below" if task == "classification" else "above"
    for axes, what in zip(study_figure(run).axes, ("epoch", "trial"), strict=False):
        low, high = axes.get_ylim()
        assert low < best < high
        assert not low < worst < high
        assert axes.get_legend().get_title().get_text() == f"1 {what} {side} the frame"
