import sys
import types
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from raymat.cli import main
from raymat.cli.options import (
    choose_split,
    default_run_directory,
    parse_classes,
    parse_time_budget,
)
from raymat.cli.tune import choose_data, next_steps
from raymat.data.splits import SplitConfig
from raymat.errors import ConfigError, RunError
from raymat.reports import study_figures
from raymat.tracking.run_directory import RunDirectory
from raymat.tuning.request import TuneRequest
from raymat.tuning.space import read_space

SCORES = {"mae": 0.1, "rmse": 0.2, "r2": 0.9, "n": 7, "mae_ci95": [0.08, 0.13]}
METRICS: dict[str, Any] = {
    "target": "log10_bulk_modulus",
    "unit": "log10(GPa)",
    "task": "regression",
    "winner": {"trial": 3, "seed": 3, "epoch": 17},
    "test": SCORES,
    "validation": SCORES,
    "default": {"trial": 0, "epoch": 5, **SCORES, "mae": 0.3},
    "difference": {"mae": -0.2, "mae_ci95": [-0.3, -0.1]},
    "verdict": {
        "metric": "mae",
        "n": 7,
        "mean": {"difference": -0.5, "lo": -0.6, "hi": -0.4},
        "composition": {"difference": -0.15, "lo": -0.3, "hi": 0.01},
        "default": {"difference": -0.2, "lo": -0.3, "hi": -0.1},
    },
    "baselines": {"mean": {**SCORES, "mae": 0.6}, "composition": {**SCORES, "mae": 0.25}},
    "leakage": {"n_test": 7, "n_formula": 2, "n_formula_spacegroup": 1},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[TuneRequest]:
    """Requests that arrive at a search which is replaced by its result."""
    requests: list[TuneRequest] = []

    def tune(request: TuneRequest, out: Path, *, listeners: tuple[Any, ...]) -> dict[str, Any]:
        requests.append(request)
        with RunDirectory.create(out, {"command": "tune"}, listeners=listeners) as run:
            for trial, lr in ((0, 0.01), (3, 0.002)):
                config = {"training.lr": lr, "model.n_conv": 3}
                run.emit("trial_started", trial=trial, seed=trial, values={}, config=config)
        return METRICS

    module = types.ModuleType("raymat.cluster.tune")
    module.tune = tune  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "raymat.cluster.tune", module)
    monkeypatch.setattr(study_figures, "study_figure", lambda _: Figure())
    monkeypatch.chdir(tmp_path)
    return requests


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d 2h", 93_600),
        ("2H", 7200),
    ],
)
def test_time_budget(text: str, seconds: float) -> None:
    assert parse_time_budget(text) == seconds


@pytest.mark.parametrize("text", ["30", "m", "-5m", "0s", "5m5m", "30m1h", "1e3s", "soon", "1h30"])
def test_time_budget_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a time such as 90s, 30m or 1h30m"):
        parse_time_budget(text)


@pytest.mark.parametrize(
    ("text", "rule"), [("median", "median"), ("0", 0.0), ("-1.5e2", -150.0), (None, None)]
)
def test_rule_of_classes(text: str | None, rule: object) -> None:
    assert parse_classes(text) == rule


@pytest.mark.parametrize("text", ["", "mean", "Median", "nan", "inf", "1,5"])
def test_rule_of_classes_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--classes {text}: expected median or a number"):
        parse_classes(text)


def test_classes_are_asked_of_the_search(asked: list[TuneRequest]) -> None:
    assert main.run(["tune", "--space", "cgcnn"]) == 0
    assert main.run(["tune", "--space", "cgcnn", "--classes", "2.5", "--out", "run"]) == 0
    assert [request.classes for request in asked] == [None, 2.5]


def test_default_run_directory_is_safe_and_dated() -> None:
    path = default_run_directory("tune", "my space/ä:x")
    assert path.parent == Path("runs")
    stem, stamp = path.name.rsplit("-", 2)[0], "-".join(path.name.rsplit("-", 2)[1:])
    assert stem == "tune-my_space_ä_x"
    datetime.strptime(stamp, "%Y%m%d-%H%M%S")


def test_data_and_target_come_from_the_space() -> None:
    space = read_space("cgcnn")
    assert choose_data(space, None, None) == ("delta", "log10_bulk_modulus")
    assert choose_data(space, "delta", None) == ("delta", "log10_bulk_modulus")
    assert choose_data(space, None, "bulk_modulus") == ("delta", "bulk_modulus")
    assert choose_data(space, "my.csv", "y") == ("my.csv", "y")


def test_new_data_need_a_target() -> None:
    with pytest.raises(ConfigError, match=r"--target is needed with --data my\.csv"):
        choose_data(read_space("cgcnn"), "my.csv", None)


def test_options_become_a_request(asked: list[TuneRequest], tmp_path: Path) -> None:
    (tmp_path / "my.csv").touch()
    arguments = ["tune", "--space", "cgcnn", "--data", "my.csv", "--target", "y", "--trials", "7"]
    arguments += ["--epochs", "3", "--seed", "5", "--time-budget", "2m", "--concurrency", "2"]
    arguments += ["--gpus", "0.5", "--max-rejected", "0.2", "--split", "formula", "--out", "run"]
    assert main.run([*arguments, "--address", "10.0.0.5:6379"]) == 0
    request = asked[0]
    assert request.data == str(tmp_path / "my.csv")  # means the same wherever it is resumed
    assert (request.target, request.seed, request.max_rejected) == ("y", 5, 0.2)
    assert request.space["budget"] == {"trials": 7, "epochs": 3}
    assert request.space["scheduler"]["grace_period"] == 3  # not longer than a trial
    assert (request.split.kind, request.split.seed) == ("formula", 5)
    assert (request.time_budget_s, request.concurrency, request.gpus) == (120, 2, 0.5)
    assert request.address == "10.0.0.5:6379"


def test_what_is_left_out_keeps_its_default(asked: list[TuneRequest], tmp_path: Path) -> None:
    assert main.run(["tune", "--space", "cgcnn"]) == 0
    request = asked[0]
    assert (request.data, request.target, request.seed) == ("delta", "log10_bulk_modulus", 0)
    assert (request.max_rejected, request.gpus, request.time_budget_s) == (0.05, None, None)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("tune-cgcnn-")


def test_split_of_the_space_is_kept(asked: list[TuneRequest], tmp_path: Path) -> None:
    text = (
        "model: cgcnn\ndata: delta\ntarget: log10_bulk_modulus\nsplit: {kind: kfold, fold: 2}\n"
        "space: {training.lr: {log_uniform: [1.0e-3, 1.0e-2]}}\nbudget: {trials: 2, epochs: 5}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    assert main.run(["tune", "--space", "mine.yaml", "--seed", "4"]) == 0
    split = asked[0].split
    assert (split.kind, split.fold, split.seed) == ("kfold", 2, 4)


def test_result_is_on_standard_output_and_progress_is_not(
    asked: list[TuneRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tune", "--space", "cgcnn", "--out", "run"]) == 0
    assert len(asked) == 1
    said = capsys.readouterr()
    for words in (
        "log10_bulk_modulus: 7 test rows",
        "MAE (log10(GPa))",
        "winner (trial 3, epoch 17)",
        "default (trial 0, epoch 5)",
        "baseline: composition only",
        "0.08 to 0.13",
        "interval of few rows: 7 test rows",
        "The winner beats the training mean (difference -0.5, 95 % interval -0.6 to -0.4)",
        "its default (difference -0.2, 95 % interval -0.3 to -0.1)",
        "it does not differ from the composition forest (difference -0.15,",
        "warning: the winner is not shown to beat the composition forest on these 7 test rows",
        "leakage: 2 of 7 test rows share a reduced formula with training rows, 1 also",
        "raymat train --config run/best.yaml",
        "raymat predict --model run/best CRYSTALS",
        "raymat tune --space cgcnn --data your.parquet --target COLUMN",
    ):
        assert words in said.out
    changes = said.out.partition("What the winner changes")[2]
    assert ["training.lr", "0.01", "0.002"] in [line.split() for line in changes.splitlines()]
    assert "model.n_conv" not in changes
    assert said.err.startswith("tune cgcnn: starting\n")
    assert "tune cgcnn" not in said.out


def test_picture_of_the_search_is_drawn(
    asked: list[TuneRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tune", "--space", "cgcnn", "--out", "run"]) == 0
    assert len(asked) == 1
    assert Path("run/study.png").read_bytes().startswith(b"\x89PNG")
    assert "run/ (study.png)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [RunError("run: no trials.parquet"), OSError(28, "No space left on device")]
)
def test_picture_that_cannot_be_drawn_is_a_warning(
    asked: list[TuneRequest],
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(study_figures, "study_figure", fail)
    assert main.run(["tune", "--space", "cgcnn", "--out", "run", "--quiet"]) == 0
    assert len(asked) == 1
    said = capsys.readouterr()
    assert said.err == f"warning: no picture of the search ({error})\n"
    assert "study.png" not in said.out


def test_option_that_makes_the_split_of_a_space_useless() -> None:
    folds = SplitConfig(kind="kfold", test=0.0)
    with pytest.raises(ConfigError, match="split: 'test' must be above 0"):
        choose_split(folds, "random", None)


def test_quiet_says_the_result_only(
    asked: list[TuneRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tune", "--space", "cgcnn", "--out", "run", "--quiet"]) == 0
    assert len(asked) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert "winner (trial 3" in said.out


def test_next_steps_for_own_data_do_not_ask_for_data() -> None:
    steps = next_steps(Path("my run"), "cgcnn", "/data/my.csv")
    assert steps == [
        "look at it:       raymat report 'my run'",
        "train it again:   raymat train --config 'my run/best.yaml'",
        "predict with it:  raymat predict --model 'my run/best' CRYSTALS",
    ]
