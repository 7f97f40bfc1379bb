"""`raymat ensemble` as it is typed: what is asked for, what is refused, what it says at the end."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_ensembles import make_ensemble, write_sixty

from raymat.cli import main
from raymat.cli.ensemble_results import say_failures, say_gain, say_remarks
from raymat.cluster import ensemble as ensemble_module
from raymat.cluster.ensemble import EnsembleRequest
from raymat.data.splits import SplitConfig
from raymat.ensembles import SHARED_ERRORS
from raymat.tuning.request import TuneRequest

CONFIG: dict[str, Any] = {
    "model": "cgcnn",
    "config": {"model.n_conv": 2, "training.epochs": 7},
    "data": "delta",
    "target": "log10_bulk_modulus",
    "split": {"kind": "formula", "train": 0.6, "validation": 0.2, "test": 0.2, "seed": 5},
}


class Asked(Exception):
    """Stands for the ensemble that would be trained."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_config(**changes: Any) -> None:
    content = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    Path("c.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def asked(monkeypatch: pytest.MonkeyPatch, *options: str) -> EnsembleRequest:
    """Give what the command line asks for, without doing it."""
    requests = list[EnsembleRequest]()

    def remember(request: EnsembleRequest, *_: Any, **__: Any) -> None:
        requests.append(request)
        raise Asked

    monkeypatch.setattr(ensemble_module, "ensemble", remember)
    assert main.run(["ensemble", "--out", "run", *options]) == 1
    (request,) = requests
    return request


# --- from a configuration ------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(classes="median", max_rejected=0.5, seed=9)
    request = asked(monkeypatch, "--config", "c.yaml")
    assert request.configs == ({"model": "cgcnn", "config": CONFIG["config"]},)
    assert (request.data, request.target) == (CONFIG["data"], CONFIG["target"])
    assert (request.classes, request.max_rejected) == ("median", 0.5)
    assert request.split == SplitConfig(**CONFIG["split"])
    assert (request.members, request.fraction, request.weights) == (100, 0.6, "equal")
    assert request.seed == 0  # that of the file belongs to the training that it repeats
    assert (request.gpus, request.address, request.concurrency) == (None, None, None)


@pytest.mark.usefixtures("folder")
def test_seed_draws_a_split_that_the_file_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(split=None)
    request = asked(monkeypatch, "--config", "c.yaml", "--seed", "3")
    assert (request.seed, request.split.seed) == (3, 3)


@pytest.mark.usefixtures("folder")
def test_options_take_the_place_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config()
    request = asked(
        monkeypatch,
        *("--config", "c.yaml", "--members", "7", "--fraction", "0.5", "--greedy"),
        *("--target", "volume_per_atom", "--classes", "20", "--split", "random", "--seed", "3"),
        *("--epochs", "2", "--concurrency", "1", "--gpus", "0.25", "--max-rejected", "0.1"),
        *("--address", "here:1"),
    )
    assert (request.members, request.fraction, request.weights) == (7, 0.5, "greedy")
    assert (request.target, request.classes, request.seed) == ("volume_per_atom", 20.0, 3)
    assert request.split == SplitConfig(**{**CONFIG["split"], "kind": "random"})
    assert request.trial_configs()[0].flat()["training.epochs"] == 2
    assert (request.concurrency, request.gpus, request.address) == (1, 0.25, "here:1")
    assert request.max_rejected == 0.1


# --- from a search -------------------------------------------------------------------------------


def write_search(
    path: Path,
    *,
    task: str = "regression",
    scores: tuple[float, ...],
    model: str = "cgcnn",
    configs: tuple[dict[str, Any], ...] = (),
    facts: dict[str, Any] | None = None,
) -> None:
    """Write the run of a search; the trial with number 1 failed."""
    space = {"model": model, "space": {}, "fixed": {}}
    request = TuneRequest(
        space=space,
        space_path="cgcnn.yaml",
        data="delta",
        target="log10_bulk_modulus",
        classes=None if task == "regression" else "median",
        split=SplitConfig(seed=8, train=0.6, validation=0.2, test=0.2),
        max_rejected=0.25,
    )
    path.mkdir()
    arguments = request.model_dump(mode="json")
    header = {"command": "tune", "task": task, "arguments": arguments, **(facts or {})}
    (path / "run.json").write_text(json.dumps(header), encoding="utf-8")
    events: list[dict[str, Any]] = []
    for trial, score in enumerate(scores):
        values = {"training.lr": 0.01 * (trial + 1)}
        start = {"event": "trial_started", "trial": trial, "seed": trial, "values": values}
        times = {"train_loss": 1.0, "time_s": 0.1, "facts": {}}
        epoch = {"event": "epoch", "trial": trial, "epoch": 1, "val_score": score, **times}
        status = "failed" if trial == 1 else "complete"
        end = {"event": "trial_ended", "trial": trial, "status": status, "error": None}
        config = configs[trial] if configs else {"model.n_conv": 2, **values}
        events += [{**start, "config": config}, epoch, end]
    lines = [json.dumps(event) + "\n" for event in events]
    (path / "events.jsonl").write_text("".join(lines), encoding="utf-8")


SCORES = (0.5, 0.1, 0.3, 0.2, 0.4)  # best first: 3, 2, 4, 0; trial 1 failed


def rates(request: EnsembleRequest) -> list[float]:
    return [round(config["config"]["training.lr"], 6) for config in request.configs]


@pytest.mark.usefixtures("folder")
def test_best_trials_of_a_search_become_members(monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(Path("search"), scores=SCORES)
    request = asked(monkeypatch, "--from-search", "search", "--top", "3")
    assert rates(request) == [0.04, 0.03, 0.05]
    assert (request.members, request.fraction, request.weights) == (3, 1.0, "greedy")
    assert (request.data, request.target) == ("delta", "log10_bulk_modulus")
    assert (request.split.seed, request.max_rejected, request.classes) == (8, 0.25, None)
    assert all(config["config"]["model.n_conv"] == 2 for config in request.configs)
    assert request.config_path == "search"


@pytest.mark.usefixtures("folder")
def test_options_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(Path("search"), scores=SCORES, task="classification")
    search = ("--from-search", "search")
    request = asked(monkeypatch, *search)
    assert rates(request) == [0.01, 0.05, 0.03, 0.04]  # all there are; the largest AUC first
    assert (request.members, request.classes) == (4, "median")
    many = ("--members", "20", "--fraction", "0.6", "--equal", "--epochs", "5")
    request = asked(monkeypatch, *search, "--top", "1", *many)
    assert (len(request.configs), request.members) == (1, 20)
    assert (request.fraction, request.weights) == (0.6, "equal")
    assert request.trial_configs()[0].flat()["training.epochs"] == 5
    assert asked(monkeypatch, *search, "--top", "1").members == 2  # fewer are no ensemble


@pytest.mark.usefixtures("folder")
def test_repeated_configurations_of_a_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """On all rows their members would be the same, also where one spells a default out."""
    costs = (2.0, 9.0, 1.0, None, 3.0)  # best first: 3, 2, 4, 0
    configs = tuple({} if cost is None else {"model.C": cost} for cost in costs)
    write_search(Path("search"), scores=SCORES, model="soap_svr", configs=configs)
    search = ("--from-search", "search")

    def found(*options: str) -> tuple[list[float], int]:
        request = asked(monkeypatch, *search, *options)
        trials = [trial.flat()["model.C"] for trial in request.trial_configs()]
        return trials, request.members

    assert found() == ([1.0, 3.0, 2.0], 3)
    assert found("--top", "2") == ([1.0, 3.0], 2)  # the next best takes the place
    assert found("--fraction", "0.6", "--top", "2") == ([1.0, 1.0], 2)  # other rows, other members


@pytest.mark.usefixtures("folder")
def test_repeated_configurations_of_networks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their seeds differ."""
    write_search(Path("search"), scores=SCORES, configs=({"model.n_conv": 2},) * 5)
    assert asked(monkeypatch, "--from-search", "search").members == 4


# --- what the configurations were chosen on ------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_request_carries_what_the_search_chose_on(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"data": {"sha256": "d" * 64}, "split": {"sha256": "5" * 64}}
    write_search(Path("search"), scores=SCORES, facts=facts)
    selection = asked(monkeypatch, "--from-search", "search", "--split", "formula").selection
    assert selection is not None
    assert (selection.source, selection.overridden) == ("search", ())
    assert (selection.data_sha256, selection.split_sha256) == ("d" * 64, "5" * 64)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "overridden"),
    [
        ((), None),
        (("--split", "formula", "--data", "delta"), None),  # what the file says
        (("--split", "random"), ("split",)),
        (("--data", "other.parquet"), ("data",)),
        (("--data", "other.parquet", "--split", "random"), ("data", "split")),
    ],
)
def test_options_that_replace_what_a_file_names(
    options: tuple[str, ...], overridden: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config()
    selection = asked(monkeypatch, "--config", "c.yaml", *options).selection
    assert (None if selection is None else selection.overridden) == overridden
    assert selection is None or selection.source == "c.yaml"


@pytest.mark.usefixtures("folder")
def test_file_that_names_nothing_is_not_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(data=None, split=None)
    options = ("--config", "c.yaml", "--data", "delta", "--split", "random")
    assert asked(monkeypatch, *options).selection is None


# --- what is refused -----------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Ask for what must be refused in one line and leave nothing; give that line."""
    assert main.run(["ensemble", "--out", "run", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert not Path("run").exists()  # the corrected command may use it
    return lines[0]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "give either --config FILE or --from-search RUN"),
        ("--config c.yaml --from-search search", "give either --config FILE or --from-search RUN"),
        ("--config c.yaml --top 3", "--top goes with --from-search RUN"),
        ("--config nowhere.yaml", "nowhere.yaml: no such file"),
        ("--from-search nowhere", "nowhere: not a run directory (no run.json in it)"),
        ("--from-search empty", "empty: none of 0 trials finished an epoch"),
        ("--from-search other", "other: a train run, not a tune run"),
        ("--config c.yaml --members 1", "'--members': must be at least 2"),
        ("--config c.yaml --members many", "'--members': must be a whole number"),
        ("--config c.yaml --members 20000", "'--members': must be at most 10000"),
        ("--config c.yaml --fraction 0", "'fraction' must be above 0 (found 0.0)"),
        ("--config c.yaml --fraction 1.5", "'fraction' must be at most 1 (found 1.5)"),
        ("--config c.yaml --fraction nan", "'fraction' must be a finite number"),
        ("--config c.yaml --gpus -1", "'--gpus': must be at least 0"),
        ("--config c.yaml --epochs 0", "'--epochs': must be at least 1"),
        ("--config c.yaml --seed -1", "'--seed': must be at least 0"),
        ("--config c.yaml --classes high", "--classes high: expected median or a number"),
        ("--config c.yaml --split rows", "'--split': 'rows' is not one of 'random', 'formula'"),
        ("--config c.yaml --member 5", "no such option: --member"),
    ],
)
def test_nonsense(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config()
    write_search(Path("search"), scores=SCORES)
    write_search(Path("empty"), scores=())
    Path("other").mkdir()
    Path("other/run.json").write_text('{"command": "train"}', encoding="utf-8")
    assert message.lower() in refused(capsys, *options.split()).lower()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "c.yaml: names no data; add it, or give --data"),
        ({"target": None}, "c.yaml: names no target; add it, or give --target"),
        ({"model": "cgcn"}, "c.yaml: unknown model 'cgcn'; did you mean 'cgcnn'?"),
        ({"config": {"model.n_convs": 2}}, "did you mean 'model.n_conv'?"),
        ({"config": {"training.loss": "huber"}}, "'training.loss' must be one of 'mse', 'l1'"),
        ({"members": 5}, "'members' is not a key of a configuration"),
        ({"split": {"train": 0.9, "test": 0.5}}, "expected at most 1"),
    ],
)
def test_unusable_file(
    changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(**changes)
    assert message in refused(capsys, "--config", "c.yaml")


@pytest.mark.usefixtures("folder")
def test_epochs_of_a_search_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    write_config(model="soap_svr", config={})
    line = refused(capsys, "--config", "c.yaml", "--epochs", "3")
    assert "'training.epochs' is not a field of ClosedFormConfig" in line


@pytest.mark.usefixtures("folder")
def test_data_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before a Ray is started."""
    write_config()
    line = refused(capsys, "--config", "c.yaml", "--target", "log10_bulk_modulos")
    assert "did you mean 'log10_bulk_modulus'?" in line
    assert "nowhere.parquet" in refused(capsys, "--config", "c.yaml", "--data", "nowhere.parquet")


@pytest.mark.usefixtures("folder")
def test_folder_of_another_run_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    write_config()
    Path("run").mkdir()
    Path("run/precious.txt").touch()
    assert main.run(["ensemble", "--config", "c.yaml", "--out", "run"]) == 2
    assert "error: run: the folder exists and is not empty" in capsys.readouterr().err
    assert Path("run/precious.txt").exists()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["ensemble", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Example: raymat ensemble --config best.yaml --members 100 --fraction 0.6" in text
    for option in ("--from-search", "--top", "--greedy", "--concurrency", "--address"):
        assert option in text
    assert SHARED_ERRORS in text


# --- what it says --------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_config()
    data = write_sixty(Path("sixty.parquet").absolute())
    failed = ((2, 0), (3, 0), (3, 1))

    def make(_request: Any, out: Path, *, listeners: Any) -> dict[str, Any]:
        return make_ensemble(
            out, data, members=(0, 1, 2, 4), failed=failed, listeners=listeners
        ).metrics

    monkeypatch.setattr(ensemble_module, "ensemble", make)
    assert main.run(["ensemble", "--config", "c.yaml", "--out", "run"]) == 0
    said = capsys.readouterr()
    out = " ".join(said.out.split())
    metrics = json.loads(Path("run/metrics.json").read_text("utf-8"))
    assert "y: 15 test rows, scored once" in out
    assert f"ensemble of 4 {metrics['test']['mae']:.4f}" in out
    assert "baseline: composition only" in out
    assert "MAE of one member on average" in out
    assert "1 member failed once and was trained again" in out
    assert "1 of 5 members failed twice and is left out: 3" in out
    assert "Spread: recalibrated on 15 validation rows; scored on 15 test rows" in out
    assert "validation rows also chose what a member is" in out
    assert "without spread" not in out
    for method in ("as the members spread", "std scaling (std)", "isotonic", "split conformal"):
        assert method in out
    assert "rank correlation of error and spread: " in out
    assert SHARED_ERRORS in out
    assert "predict with it: raymat predict --model run CRYSTALS" in out
    assert "member 3 failed: training diverged; it is left out" in said.err
    assert "warning" not in said.err  # figures could be drawn
    drawn = sorted(p.name for p in Path("run").glob("*.png"))
    assert drawn
    for name in drawn:
        (Path("run") / name).unlink()  # as if killed before they were drawn
    assert main.run(["resume", "run"]) == 0
    assert sorted(p.name for p in Path("run").glob("*.png")) == drawn
    again = capsys.readouterr().out
    assert "MAE of one member on average" in again
    assert "the run is complete, nothing is left to do" in again


def test_rows_without_spread_are_told() -> None:
    counts = {"part": "validation", "n": 12, "without_spread": 3}
    calibration = {"fitted_on": counts, "scored_on": {"n": 15}, "remark": "They chose."}
    lines = say_remarks(calibration)
    assert lines == "They chose.\n3 validation rows without spread are left out"
    assert say_remarks({"fitted_on": {"n": 1}, "scored_on": {"n": 15}}) is None  # of an older run


METRICS: dict[str, Any] = {
    "task": "regression", "unit": "GPa", "test": {"mae": 0.9},
    "members": {"test_mae_mean": 1.0, "test_mae_std": 0.05},
}  # fmt: skip


def test_gain_over_one_member() -> None:
    assert say_gain(METRICS) == (
        "MAE of one member on average 1 GPa (std 0.05); that of their mean is 10.0 % lower"
    )
    classes = {"task": "classification", "test": {"auc": 0.9}, "members": {"test_auc_mean": 0.85}}
    assert say_gain(classes) == "AUC of one member on average 0.85, of their mean 0.9"


def test_what_few_rows_cannot_tell() -> None:
    alone = {**METRICS, "members": {"test_mae_mean": 1.0, "test_mae_std": None}}
    assert "average 1 GPa; that of their mean" in say_gain(alone)
    one_class = {"task": "classification", "test": {"auc": None}, "members": {"test_auc_mean": 1.0}}
    assert say_gain(one_class) == "AUC not estimated: the test rows are of one class"
    counts = {"fitted_on": {"n": 40}, "scored_on": {"n": 7}}
    assert say_remarks(counts) == "scores of few rows, which say little of others: 7 test rows"


def test_failures_are_counted_in_words() -> None:
    def said(retried: int, failed: list[int]) -> list[str]:
        return say_failures({"planned": 9, "retried": retried, "failed": failed})

    assert said(0, []) == []
    assert said(1, []) == ["1 member failed once and was trained again"]
    assert said(3, [4]) == [
        "2 members failed once and were trained again",
        "1 of 9 members failed twice and is left out: 4 (see error in members.parquet)",
    ]
    assert said(2, [4, 7]) == [
        "2 of 9 members failed twice and are left out: 4, 7 (see error in members.parquet)"
    ]
