"""`raymat compare` as it is typed: what it refuses, what it says while it works and at the end."""

from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from raymat.cli import main
from raymat.cli.compare import score_tables
from raymat.cli.compare_progress import CompareProgress, say_cell

PLAN: dict[str, Any] = {
    "data": "delta",
    "properties": ["log10_bulk_modulus"],
    "models": ["soap_svr"],
    "settings": ["default"],
    "repetitions": 1,
    "budget": {"trials": 1, "epochs": 1},
}
ROW: dict[str, Any] = {
    "model": "cgcnn", "property": "y", "unit": "GPa", "setting": "default", "repetition": 0,
    "n_train": 1000, "n_test": 100, "mae": 0.25, "rmse": 0.4, "r2": 0.9, "train_time_s": 61.0,
    "featurize_time_s": 3.0, "n_parameters": 1000, "model_bytes": 4000, "device": "cpu",
    "task": "regression", "training_size": "all", "auc": None, "accuracy": None, "first_mae": 0.3,
    "n_trials": 4, "n_trials_complete": 4, "search_time_s": 200.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_plan(**changes: Any) -> None:
    content = {**PLAN, **changes}
    Path("plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the plan, which must be refused in one line and leave nothing; give that line."""
    assert main.run(["compare", "--plan", "plan.yaml", "--out", "run", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert not Path("run").exists()  # the corrected command may use it
    return lines[0]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert "plan.yaml: no such file" in refused(capsys)
    assert main.run(["compare"]) == 2
    assert "--plan" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"models": ["soap_svm"]},
            "plan.yaml: models: there is no model 'soap_svm'; did you mean 'soap_svr'?",
        ),
        (
            {"properties": ["log10_bulk_modulos"]},
            "plan.yaml: properties: 'log10_bulk_modulos' is not a column of delta;"
            " did you mean 'log10_bulk_modulus'?",
        ),
        (
            {"properties": {"log10_bulk_modulus": {"where": {"n_atoms": {"above": 0}}}}},
            "plan.yaml: properties: log10_bulk_modulus: where: 'n_atoms' is not a column of delta",
        ),
        (
            {"training_sizes": [20, 58]},
            "plan.yaml: training_sizes: 58 is more than the 57 training rows of log10_bulk_modulus;"
            " lower it, or say 'all'",
        ),
        (
            {"properties": {"log10_bulk_modulus": {"rows": 72}}},
            "property log10_bulk_modulus: asks for 72 rows, but 71 of 71 of delta are usable;"
            " lower 'rows' or widen 'where'",
        ),
        ({"data": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_plan_that_does_not_fit_the_data(
    changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(**changes)
    assert message in refused(capsys)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_what_the_machine_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    """Told before features are made, with a Ray that has been started."""
    write_plan(models={"soap_svr": {"resources": {"cpu": 4096}}})
    assert "no node has 4096 CPU and 0 GPU for one task" in refused(capsys)


@pytest.mark.usefixtures("folder")
def test_folder_of_another_run_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    write_plan()
    Path("run").mkdir()
    Path("run/precious.txt").touch()
    assert main.run(["compare", "--plan", "plan.yaml", "--out", "run"]) == 2
    assert "error: run: the folder exists and is not empty" in capsys.readouterr().err
    assert Path("run/precious.txt").exists()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["compare", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Example: raymat compare --plan comparisons/quick.yaml" in text
    assert "--concurrency" in text
    shipped = Path(__file__).parents[2] / "comparisons" / "quick.yaml"
    assert shipped.exists()


# --- what it says --------------------------------------------------------------------------------


def events(*, done: int = 0) -> list[dict[str, Any]]:
    return [
        {"event": "features", "done": 71, "total": 71},
        {"event": "warning", "text": "y: soap_svr: a fit will take about 2 min"},
        {"event": "comparison_started", "cells": done + 3, "done": done},
        {"event": "cell_started", "cell": "y-r0-nall-cgcnn-default"},
        {"event": "features", "done": 71, "total": 71},
        {"event": "cell_started", "cell": "y-r0-nall-soap_svr-default"},
        {"event": "cell_ended", "cell": "y-r0-nall-cgcnn-default", "row": ROW},
        {"event": "cell_failed", "cell": "y-r0-nall-soap_svr-default", "error": "no epoch"},
        {"event": "cell_started", "cell": "y-r0-nall-cgcnn-tuned"},
        {"event": "something_new"},
    ]


def said(*heard: dict[str, Any], **options: Any) -> list[str]:
    out = StringIO()
    with CompareProgress(console=Console(file=out, width=40), **options) as progress:
        for event in heard:
            progress(event)
    assert "\x1b" not in out.getvalue()
    return out.getvalue().splitlines()


def test_plain_lines() -> None:
    lines = said(*events())
    assert lines[0] == "warning: y: soap_svr: a fit will take about 2 min"
    assert lines[1] == "comparison: 3 cells"
    assert lines[-3] == (
        "y-r0-nall-cgcnn-default: test MAE 0.25 GPa (4 trials, 3 min 20 s of training)"
    )
    assert lines[-2] == "y-r0-nall-soap_svr-default failed: no epoch"
    assert lines[-1].startswith("1 of 3 cells done, 1 failed; ")
    assert " elapsed, about " in lines[-1]


def test_resumed_comparison_counts_what_was_done() -> None:
    lines = said(*events(done=5))
    assert "comparison: 8 cells, 5 of them done before" in lines
    assert lines[-1].startswith("6 of 8 cells done, 1 failed; ")


def test_classes_are_said_with_their_score() -> None:
    row = {**ROW, "task": "classification", "auc": 0.875, "mae": None, "n_trials": 1}
    event = {"event": "cell_ended", "cell": "c", "row": row}
    start = {"event": "comparison_started", "cells": 1, "done": 0}
    assert "c: test AUC 0.875 (1 trial, 3 min 20 s of training)" in said(start, event)


def test_quiet_is_silent() -> None:
    assert said(*events(), quiet=True) == []
    assert said() == []


def test_phase_does_not_go_back() -> None:
    progress = CompareProgress(quiet=True)
    phases = []
    for event in events():
        progress(event)
        phases.append(progress.phase)
    assert phases[0] == "preparing features: 71 of 71 crystals"
    assert set(phases[2:]) == {"running cells"}


def test_live_display() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with CompareProgress(console=console) as progress:
        for event in events():
            progress(event)
        shown = Console(width=80, file=StringIO())
        shown.print(progress.render())
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "compare  running cells" in text
    assert "1 of 3 cells done, 1 failed" in text
    assert "y-r0-nall-cgcnn-tuned" in text
    assert "y-r0-nall-cgcnn-default" not in text  # it does not run any more
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def printed(*rows: dict[str, Any]) -> str:
    out = StringIO()
    for shown in score_tables(pd.DataFrame([{**ROW, **row} for row in rows])):
        Console(file=out, width=100).print(shown)
    return out.getvalue()


def test_scores_at_the_end() -> None:
    text = printed({}, {"repetition": 1, "mae": 0.35}, {"setting": "tuned", "mae": 0.2})
    assert "y, 1,000 training and 100 test rows" in text
    assert "test MAE (GPa)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["cgcnn", "default", "0.3000", "±", "0.0707", "4", "1", "min", "01", "s"] in lines
    assert ["cgcnn", "tuned", "0.2000", "4", "1", "min", "01", "s"] in lines  # no spread of one


def test_each_training_size_and_property_has_its_table() -> None:
    text = printed(
        {},
        {"n_train": 100, "training_size": "100"},
        {"property": "z", "task": "classification", "auc": 0.9, "mae": None, "unit": ""},
    )
    assert text.count("test rows") == 3
    assert "y, 100 training and 100 test rows" in text
    assert "test AUC " in text


def test_score_that_is_not_estimated() -> None:
    row = {"task": "classification", "auc": None, "n_trials": 1, "search_time_s": 1.0}
    assert say_cell("cell", row).startswith("cell: test AUC not estimated (1 trial")
