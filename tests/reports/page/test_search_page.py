"""The page of a search: its numbers are those of the run, whatever state that is in."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from search_run import cut, read_rows, write_search_run

from raymat.cli import main
from raymat.errors import RunError
from raymat.reports.page import charts
from raymat.reports.page.build import build_page
from raymat.reports.page.facts import facts
from raymat.reports.page.importance import importances
from raymat.reports.page.parts import Picture, RunView, Section
from raymat.reports.page.render import render
from raymat.reports.page.run_files import RunFiles
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory
from raymat.tuning.study import Study

TRIALS = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search_run(tmp_path_factory.mktemp("page") / "run", trials=TRIALS)


def part(page: str, title: str) -> pd.DataFrame:
    (found,) = [p for p in read_rows(page).values() if p.get("title") == title]
    return pd.DataFrame(found["rows"], columns=found["columns"])


def titles(page: str) -> list[str]:
    return [content["title"] for content in read_rows(page).values() if content]


def test_numbers_are_those_of_the_run(run: Path) -> None:
    page, warnings = build_page([run])
    assert warnings == []
    trials = pd.read_parquet(run / "trials.parquet").set_index("trial_id")
    shown = part(page, "Leaderboard").set_index("trial_id")
    assert set(shown.index) == set(trials.index)
    scores = shown["val_mae"].dropna()
    assert scores.is_monotonic_increasing
    np.testing.assert_allclose(scores, trials.loc[scores.index, "val_mae"], rtol=1e-5)
    assert shown.index[-1] == "0001"  # the one that failed
    curves = pd.read_parquet(run / "curves.parquet")
    assert len(part(page, "Learning curves")) == len(curves)
    tests = pd.read_parquet(run / "predictions.parquet").query("part == 'test'")
    assert len(part(page, "Predictions of the test rows")) == len(tests)
    errors = part(page, "Errors of the test rows")["error"]
    expected = (tests["prediction"] - tests["target"]).abs().mean()
    np.testing.assert_allclose(errors.abs().mean(), expected, rtol=1e-4)
    training = part(page, "Training")
    assert training["epochs"].sum() == len(curves)
    assert training["gpu_memory_gb"].max() == trials["gpu_memory_gb"].max()
    assert part(page, "Failed trials")["error"][0].startswith("training diverged")
    assert "0 of the test rows" in page
    assert "http" not in page.replace("https://vega.github.io/schema", "").partition("<main>")[0]


def test_prediction_without_bound(tmp_path: Path) -> None:
    """It is left out of the charts; the page is whole."""
    run = write_search_run(tmp_path / "run", trials=3)
    predictions = pd.read_parquet(run / "predictions.parquet")
    row = predictions.index[predictions["part"] == "test"][0]
    predictions.loc[row, "prediction"] = np.inf
    predictions.to_parquet(run / "predictions.parquet")
    page, warnings = build_page([run])
    assert warnings == []
    n_test = (predictions["part"] == "test").sum()
    assert len(part(page, "Predictions of the test rows")) == n_test - 1


def test_axis_whose_ends_are_no_numbers() -> None:
    rows = pd.DataFrame(
        {"target": [1.0, 2.0], "prediction": [1.0, np.inf], "material_id": ["a", "b"]}
    )
    chart = charts.parity(rows, "y")
    view = RunView("made", "tune", "complete", sections=[Section("Accuracy", [chart])])
    page = render([view], "made")
    assert part(page, "Predictions of the test rows")["prediction"].tolist()[0] == 1.0


def test_picture_that_has_gone(tmp_path: Path) -> None:
    gone = Picture("A map", tmp_path / "gone.svg")
    page = render([RunView("made", "tune", "complete", sections=[Section("Maps", [gone])])], "made")
    assert 'alt="A map"' in page


def test_parameter_that_decides_is_the_most_important(tmp_path: Path) -> None:
    path = write_search_run(tmp_path / "run", trials=60, epochs=4)
    found = importances(Study.from_events(read_events(path / "events.jsonl"), "regression"))
    assert found["parameter"][0] == "training.lr"
    assert found["importance"].sum() == pytest.approx(1.0)
    page, _ = build_page([path])
    assert list(part(page, "Importance of the parameters")["parameter"]) == list(found["parameter"])


def test_search_at_work(tmp_path: Path) -> None:
    """No table is written yet, and its log ends within a trial."""
    path = write_search_run(tmp_path / "run", is_complete=False)
    log = path / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-150])
    page, warnings = build_page([path])
    assert warnings == []
    assert "Leaderboard" in titles(page)
    assert "Test scores" not in titles(page)


def test_search_without_a_finished_trial(tmp_path: Path) -> None:
    path = write_search_run(tmp_path / "run", trials=0, is_complete=False)
    page, warnings = build_page([path])
    assert warnings == []
    assert "No trial has begun yet." in page


@pytest.mark.parametrize("name", ["predictions.parquet", "metrics.json", "events.jsonl"])
def test_damaged_file_is_told_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    path = write_search_run(tmp_path / "run")
    if name == "events.jsonl":  # damage in the middle; an end that is cut off is no damage
        lines = (path / name).read_bytes().splitlines(keepends=True)
        (path / name).write_bytes(b"".join([*lines[:3], b'{"event": \n', *lines[4:]]))
    else:
        cut(path / name)
    page, warnings = build_page([path])
    assert len(warnings) >= 1
    assert all(name in warning for warning in warnings)
    kept = "Leaderboard" if name != "events.jsonl" else "Test scores"
    assert kept in titles(page)


def test_text_of_a_run_is_never_html(tmp_path: Path) -> None:
    bad = "</script><img src=x onerror=alert(1)>"
    path = write_search_run(tmp_path / "run", formula=bad, error=bad)
    page, _ = build_page([path], title=bad)
    assert bad not in page
    assert page.count("</script>") == page.count("<script")
    assert part(page, "Failed trials")["error"][0] == bad


def test_large_search_draws_its_best_curves_and_others(tmp_path: Path) -> None:
    path = write_search_run(tmp_path / "run", trials=450, epochs=2)
    curves = part(build_page([path])[0], "Learning curves")
    assert 150 < curves["trial_id"].nunique() <= 201
    best = pd.read_parquet(path / "trials.parquet").sort_values("val_mae")["trial_id"][:50]
    assert set(best) <= set(curves["trial_id"])


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    other = write_search_run(tmp_path / "other", trials=2)
    assert main.run(["report", str(run), str(other), "-o", str(page)]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "page.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: not a run directory"),
        (["run", "-o", "."], "is a folder; name a file"),
        (["run", "./run/"], "run: the run is named twice"),
        ([], "missing argument 'RUN...'"),
    ],
)
def test_nonsense_is_one_line(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(run.parent)
    assert main.run(["report", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_run_of_a_newer_version_is_shown_as_far_as_it_is_known(tmp_path: Path) -> None:
    path = write_search_run(tmp_path / "run")
    header: dict[str, Any] = {"command": "dream", "arguments": {}}
    (path / "run.json").write_text(json.dumps(header))
    page, warnings = build_page([path])
    assert warnings == []
    assert "dream" in page


def test_no_run_directory() -> None:
    with pytest.raises(RunError, match="not a run directory"):
        build_page([Path("/")])


@pytest.mark.long
def test_runs_are_brought_to_wandb_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write_search_run(tmp_path / name, trials=3, epochs=2)) for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    assert main.run(["report", *runs, "--wandb", "offline"]) == 0
    said = capsys.readouterr().out
    assert said.count("wandb sync") == 2
    assert (tmp_path / "a" / "wandb" / "wandb_report.json").is_file()
    assert main.run(["report", *runs, "--wandb", "offline", "--overwrite"]) == 0
    assert capsys.readouterr().out.count("W&B:              0 runs written") == 2


@pytest.mark.parametrize(
    ("task", "worst", "side"), [("regression", 1e6, "above"), ("classification", 0.0, "below")]
)
def test_winner_is_in_the_drawn_domain(tmp_path: Path, task: str, worst: float, side: str) -> None:
    """One trial that diverged lies outside, and is counted."""
    with RunDirectory.create(tmp_path / "run", {"command": "tune", "arguments": {}}) as log:
        log.update_header(target="y", unit="", task=task)
        scores = [worst, *np.random.default_rng(0).uniform(0.8, 0.9, 30)]
        for number, score in enumerate(scores):
            values = {"training.lr": 10.0 ** -(number % 3), "training.batch_size": 2 + number}
            log.emit("trial_started", trial=number, seed=0, values=values, config=values)
            log.emit("epoch", trial=number, epoch=1, train_loss=1.0, val_score=score, time_s=1.0,
                     train_time_s=1.0, facts={})  # fmt: skip
            log.emit("trial_ended", trial=number, status="complete", error=None)
    page, warnings = build_page([tmp_path / "run"])
    assert warnings == []
    best = max(scores) if task == "classification" else min(scores)
    domains = [
        [float(end) for end in found.split(",")]
        for found in re.findall(r'"domain": ?\[(-?[\d.]+, ?-?[\d.]+)\]', page)
    ]
    assert len(domains) >= 3  # curves, course, colors
    assert all(low < best < high and not low < worst < high for low, high in domains)
    for what in ("epoch", "trial"):
        assert f"1 {what} {side} the frame" in page


def test_leakage_is_that_of_the_rows_that_are_left(tmp_path: Path) -> None:
    path = write_search_run(tmp_path / "run", trials=2, epochs=2)
    header = json.loads((path / "run.json").read_text("utf-8"))
    header["leakage"] = {"n_test": 13, "n_formula": 2, "n_formula_spacegroup": 1}
    (path / "run.json").write_text(json.dumps(header), encoding="utf-8")
    line = facts(RunFiles.open(path))["leakage"]
    assert line.startswith("2 of 13 test rows share a reduced formula with training rows, 1 also")
