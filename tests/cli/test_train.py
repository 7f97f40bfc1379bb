import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from raymat.cli import main
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.writers import write_crystals
from raymat.errors import RunError
from raymat.tracking.events import read_events
from raymat.training.device import choose_device
from raymat.tuning import train as train_module
from raymat.tuning.train import TrainRequest, resume_train, train

CONFIG = {
    "model.atom_dim": 8,
    "model.hidden_dim": 8,
    "model.n_conv": 1,
    "training.epochs": 6,
    "training.batch_size": 8,
}
SPLIT = {"train": 0.5, "validation": 0.25, "test": 0.25}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path, twelve_crystals: CrystalSet) -> Path:
    """Twelve crystals with the target `y` and the class `is_metal`."""
    properties = twelve_crystals.properties.assign(is_metal=lambda table: table["is_high"])
    write_crystals(replace(twelve_crystals, properties=properties), tmp_path / "twelve.parquet")
    return tmp_path / "twelve.parquet"


@pytest.fixture
def config(tmp_path: Path, data: Path) -> Path:
    """A configuration file that names data, target and split."""
    path = tmp_path / "c.yaml"
    content = {"model": "cgcnn", "config": CONFIG, "data": str(data), "target": "y", "split": SPLIT}
    path.write_text(yaml.safe_dump(content))
    return path


def request_for(data: Path, **changes: Any) -> TrainRequest:
    values = {"config": {"model": "cgcnn", "config": CONFIG}, "config_path": "c.yaml"}
    return TrainRequest(
        **{**values, "data": str(data), "target": "y", "split": SPLIT, "gpus": 0, **changes}
    )


class InterruptAt:
    """A listener that presses Ctrl-C when an epoch has been logged."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == self.epoch:
            raise KeyboardInterrupt


def test_train_writes_every_file_of_a_run(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["train", "--config", str(config), "--out", "run"]) == 0
    run = tmp_path / "run"
    said = capsys.readouterr()
    assert "y: 3 test rows, scored once" in said.out
    assert said.out.count("not estimated") == 4  # intervals of three, and why
    assert "interval not estimated: 3 test rows; it needs at least 5" in said.out
    assert "warning: the model is not shown to beat the training mean or the" in said.out
    assert "raymat predict --model run/best CRYSTALS" in said.out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["n"] == 3
    assert metrics["test"]["mae_ci95"] is None
    assert metrics["verdict"]["composition"]["lo"] is None
    assert "nan" not in (run / "metrics.json").read_text().lower()
    assert set(metrics["baselines"]) == {"mean", "composition"}
    assert json.loads((run / "run.json").read_text())["status"] == "complete"
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert list(predictions.columns) == ["material_id", "part", "target", "prediction"]
    test = predictions[predictions["part"] == "test"]
    error = (test["target"] - test["prediction"]).abs().mean()
    assert error == pytest.approx(metrics["test"]["mae"])
    (trial,) = pd.read_parquet(run / "trials.parquet").to_dict("records")
    assert (trial["status"], trial["epochs"]) == ("complete", 6)
    assert trial["config.model.atom_dim"] == 8
    assert len(pd.read_parquet(run / "curves.parquet")) == 6
    assert not (run / "trials").exists()


def test_best_yaml_repeats_the_run_bit_by_bit(config: Path, tmp_path: Path) -> None:
    options = ["--quiet", "--gpus", "0"]
    assert main.run(["train", "--config", str(config), "--out", "a", "--seed", "3", *options]) == 0
    assert main.run(["train", "--config", "a/best.yaml", "--out", "b", *options]) == 0
    assert (
        main.run(["train", "--config", "a/best.yaml", "--out", "c", "--seed", "4", *options]) == 0
    )
    weights = {r: (tmp_path / r / "best" / "model.safetensors").read_bytes() for r in "abc"}
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]
    splits = {r: (tmp_path / r / "split.parquet").read_bytes() for r in "ac"}
    assert splits["a"] == splits["c"]  # another seed, the same test rows


@pytest.mark.parametrize(
    ("named", "seed", "expected"), [(SPLIT, "3", 0), (None, "3", 3), (None, None, 0)]
)
def test_seed_draws_a_split_that_the_file_does_not_name(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, float] | None,
    seed: str | None,
    expected: int,
) -> None:
    requests: list[TrainRequest] = []

    def remember(request: TrainRequest, *_: Any, **__: Any) -> dict[str, Any]:
        requests.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "train", remember)
    text = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(text | {"split": named, "seed": 7}))
    options = [] if seed is None else ["--seed", seed]
    main.run(["train", "--config", str(config), "--out", "run", *options])
    (request,) = requests
    assert (request.seed, request.split.seed) == (int(seed or 7), expected)


def test_interrupted_training_continues_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = train(request_for(data), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(request_for(data), tmp_path / "cut", listeners=(InterruptAt(3),))
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["status"] == "interrupted"
    assert main.run(["resume", str(tmp_path / "cut"), "--quiet"]) == 0
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text()) == whole
    epochs = [e["epoch"] for e in read_events(tmp_path / "cut" / "events.jsonl") if "epoch" in e]
    assert epochs == [1, 2, 3, 4, 5, 6]  # none is done twice


def test_epoch_that_the_log_missed_is_taken_from_the_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(request_for(data), tmp_path / "cut", listeners=(InterruptAt(6),))
    log = tmp_path / "cut" / "events.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"epoch": 6,' not in line and "run_ended" not in line]
    log.write_text("".join(kept) + '{"event": "epo')  # torn as by SIGKILL
    resume_train(tmp_path / "cut")
    assert len(pd.read_parquet(tmp_path / "cut" / "curves.parquet")) == 6


def test_resume_of_a_complete_run_has_nothing_to_do(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(request_for(data), tmp_path / "run")
    before = (tmp_path / "run" / "events.jsonl").read_bytes()
    assert main.run(["resume", "run"]) == 0
    assert "the run is complete, nothing is left to do" in capsys.readouterr().out
    assert (tmp_path / "run" / "events.jsonl").read_bytes() == before


def test_classes_are_scored_by_auc(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = {**SPLIT, "seed": 1}
    metrics = train(request_for(data, target="is_metal", split=split), tmp_path / "run")
    assert {"auc", "accuracy", "auc_ci95"} <= set(metrics["test"])
    assert main.run(["predict", "--model", "run", str(data), "-o", "p.csv"]) == 0
    assert pd.read_csv("p.csv")["prediction"].between(0, 1).all()
    assert "is_metal (P(class 1))" in capsys.readouterr().out


def test_diverged_training_is_a_failed_run(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(config.read_text())
    content["config"] |= {"training.lr": 10.0, "training.momentum": 0.99, "training.epochs": 500}
    config.write_text(yaml.safe_dump(content))
    assert main.run(["train", "--config", str(config), "--out", "run", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: training diverged in epoch")
    assert said.count("\n") == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    last = [
        e for e in read_events(tmp_path / "run" / "events.jsonl") if e["event"] == "trial_ended"
    ]
    assert last[0]["status"] == "failed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modle": "cgcnn"}, "'modle' is not a key of a configuration; did you mean 'model'?"),
        ({"config": {"model.n_convs": 3}}, "did you mean 'model.n_conv'?"),
        ({"split": "random"}, "split: takes keys and values, found 'random'"),
        ({"split": {"kind": "fromula"}}, "split: 'kind' must be one of 'random', 'formula'"),
        ({"split": {"test": 0.0}}, "split: 'test' must be above 0: a run selects on validation"),
        ({"target": None}, "names no target; add it, or give --target"),
        ({"seed": -1}, "'seed' must be at least 0 (found -1)"),
    ],
)
def test_unusable_configuration(
    config: Path, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **change}))
    assert main.run(["train", "--config", str(config), "--out", "run", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not Path("run").exists()


def test_other_command_is_not_continued(tmp_path: Path, data: Path) -> None:
    train(request_for(data), tmp_path / "run")
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**header, "command": "tune"}))
    with pytest.raises(RunError, match="a tune run, not a train run"):
        resume_train(tmp_path / "run")


def test_device_without_gpus() -> None:
    assert choose_device(0) == "cpu"


def epochs_of(run: Path) -> list[int]:
    events = read_events(run / "events.jsonl")
    return [event["epoch"] for event in events if event["event"] == "epoch"]


def test_training_stops_where_a_search_found_its_winner_best(config: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"stop_after": 3}))
    assert main.run(["train", "--config", str(config), "--out", "same"]) == 0
    assert epochs_of(tmp_path / "same") == [1, 2, 3]
    # Another seed may be best at another epoch, so it is trained to the end.
    assert main.run(["train", "--config", str(config), "--out", "other", "--seed", "7"]) == 0
    assert epochs_of(tmp_path / "other") == [1, 2, 3, 4, 5, 6]


def test_a_number_learned_as_classes(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command: threshold said and stored, scores by AUC, prediction a probability."""
    text = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(text | {"split": {**SPLIT, "seed": 1}}))
    arguments = ["train", "--config", str(config), "--classes", "median", "--out", "run"]
    assert main.run(arguments) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["task"], metrics["unit"]) == ("classification", "")
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    targets = pd.read_parquet(data).set_index("material_id")["y"]
    train = table.loc[table["part"] == "train", "material_id"]
    assert metrics["threshold"] == targets[train].median()
    above = targets[table["material_id"]].to_numpy() > metrics["threshold"]
    assert table["target"].tolist() == above.astype(float).tolist()
    assert {"auc", "accuracy_0", "accuracy_1"} <= set(metrics["test"])
    said = capsys.readouterr().out
    assert f"y above {metrics['threshold']:.6g}: 3 test rows, scored once" in said
    capsys.readouterr()
    assert main.run(["predict", "--model", "run", str(data), "-o", "p.csv"]) == 0
    assert pd.read_csv("p.csv")["prediction"].between(0, 1).all()
    said = capsys.readouterr().out
    assert f"P(above {metrics['threshold']:.4g})" in said
    assert "AUC" in said


def test_best_yaml_of_classes_repeats_them(config: Path, tmp_path: Path) -> None:
    text = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(text | {"split": {**SPLIT, "seed": 1}}))
    options = ["--quiet", "--gpus", "0"]
    arguments = ["--config", str(config), "--classes", "1.0", "--out", "a"]
    assert main.run(["train", *arguments, *options]) == 0
    assert main.run(["train", "--config", "a/best.yaml", "--out", "b", *options]) == 0
    first, second = (json.loads((tmp_path / r / "metrics.json").read_text()) for r in "ab")
    assert first["threshold"] == 1.0
    assert first == second


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "mean"], "--classes mean: expected median or a number, such as 0"),
        (["--classes", "nan"], "--classes nan: expected median or a number"),
        (["--classes", "median", "--target", "is_metal"], "'is_metal' is a class already; leave"),
        (["--classes", "99"], "the train rows hold one class of 'y' only"),
    ],
)
def test_classes_that_cannot_be_made(
    config: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["train", "--config", str(config), "--quiet", "--out", "run", *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.fixture
def with_lone_atom(tmp_path: Path, twelve_crystals: CrystalSet) -> Path:
    """Twelve crystals and one of xenon, in which no atom has a neighbor."""
    xenon = Crystal("lone", np.eye(3) * 20.0, np.array([54], dtype=np.uint8), np.zeros((1, 3)))
    crystals = [*(twelve_crystals[k] for k in range(12)), xenon]
    targets = pd.DataFrame({"y": [*twelve_crystals.target("y"), 1.5]})
    write_crystals(CrystalSet.from_crystals(crystals, targets), tmp_path / "lone.parquet")
    return tmp_path / "lone.parquet"


MEGNET = {
    "model": "megnet",
    "config": {"model.n_blocks": 1, "training.epochs": 3, "training.batch_size": 8},
}


def test_crystals_that_the_model_cannot_take_are_left_out(
    with_lone_atom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for(with_lone_atom, config=MEGNET, max_rejected=0.1)
    train(request, tmp_path / "run")
    (row,) = pd.read_csv(tmp_path / "run" / "rejected.csv").itertuples(index=False)
    assert row == ("lone", "no atom has a neighbor within 4 Å")
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert len(table) == 12
    assert "lone" not in set(table["material_id"])
    options = ["--model", "run", str(with_lone_atom), "-o", "p.csv", "--max-rejected"]
    assert main.run(["predict", *options, "0.1"]) == 0
    assert len(pd.read_csv("p.csv")) == 12
    assert pd.read_csv("p-rejected.csv")["material_id"].tolist() == ["lone"]
    (tmp_path / "p.csv").unlink()
    capsys.readouterr()
    assert main.run(["predict", *options, "0.05"]) == 2
    assert "1 of 13 crystals cannot be used by this model (the first: lone no atom has a" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("classes", [None, "median"])
def test_interrupted_run_with_rows_left_out_is_the_same_run(
    with_lone_atom: Path, tmp_path: Path, classes: str | None
) -> None:
    """Split, threshold and leakage do not depend on when a run was interrupted."""
    split = {**SPLIT, "seed": 4}
    request = request_for(
        with_lone_atom, config=MEGNET, max_rejected=0.1, classes=classes, split=split
    )
    whole = train(request, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(request, tmp_path / "cut", listeners=(InterruptAt(2),))
    assert resume_train(tmp_path / "cut") == whole
    for name in ("rejected.csv", "split.parquet", "best/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_model_that_is_fitted_in_one_call(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for(data, config={"model": "soap_svr", "config": {"model.epsilon": 0.01}})
    metrics = train(request, tmp_path / "run")
    assert metrics["winner"]["epoch"] == 1
    (trial,) = pd.read_parquet(tmp_path / "run" / "trials.parquet").to_dict("records")
    assert (trial["status"], trial["epochs"]) == ("complete", 1)
    content = yaml.safe_load((tmp_path / "run" / "best.yaml").read_text())
    assert content["config"]["model.species"] == [8, 11, 14, 17, 22, 38, 55]
    again = train(request_for(data, config=content), tmp_path / "again")
    assert again == metrics
    stored = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert main.run(["predict", "--model", "run", str(data), "-o", "p.csv"]) == 0
    predicted = pd.read_csv("p.csv").set_index("material_id")["prediction"]
    expected = stored.set_index("material_id")["prediction"]
    assert predicted[expected.index].tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert "y: mean" in capsys.readouterr().out


def test_two_words_are_classes_from_training_to_prediction(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(data)
    table["phase"] = np.where(table["is_metal"] > 0, "metal", "insulator")
    table.to_parquet(data)
    content = yaml.safe_load(config.read_text())
    split = {**SPLIT, "seed": 1}
    config.write_text(yaml.safe_dump(content | {"target": "phase", "split": split}))
    assert main.run(["train", "--config", str(config), "--out", "run"]) == 0
    said = capsys.readouterr()
    line = "target 'phase' holds the words insulator and metal: learned as classes (class 1: metal)"
    assert line in said.err
    assert "phase (class 1: metal): 3 test rows" in said.out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["task"], metrics["class_names"]) == ("classification", ["insulator", "metal"])
    model = json.loads((tmp_path / "run" / "best" / "model.json").read_text())
    assert model["class_names"] == ["insulator", "metal"]
    assert main.run(["predict", "--model", "run", str(data), "-o", "p.parquet"]) == 0
    said = capsys.readouterr().out
    assert "P(metal)" in said
    assert "against the data's own phase: AUC" in said
    predicted = pd.read_parquet("p.parquet")
    is_metal = predicted["prediction"] > 0.5
    assert predicted["predicted_class"].tolist() == [
        "metal" if metal else "insulator" for metal in is_metal
    ]
    field = pq.read_schema("p.parquet").field("prediction")
    assert field.metadata[b"probability"] == b"P(metal)"


@pytest.mark.parametrize("way", ["option", "file"])
def test_a_column_of_0_and_1_can_be_learned_as_a_number(
    config: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(config.read_text()) | {"target": "is_high"}
    extra = ["--classes", "none"] if way == "option" else []
    config.write_text(yaml.safe_dump(content | ({} if extra else {"classes": "none"})))
    assert main.run(["train", "--config", str(config), "--out", "run", *extra]) == 0
    assert "learned as classes" not in capsys.readouterr().err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["task"], metrics["class_names"]) == ("regression", None)
    assert yaml.safe_load((tmp_path / "run" / "best.yaml").read_text())["classes"] == "none"


def test_a_constant_target_is_refused_before_any_work(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_parquet(data).assign(y=2.5).to_parquet(data)
    assert main.run(["train", "--config", str(config), "--out", "run"]) == 2
    assert "targets are all equal (2.5), so there is nothing to learn" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_nested_configuration_trains_as_the_dotted_one(config: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(config.read_text())
    nested: dict[str, dict[str, Any]] = {}
    for key, value in content["config"].items():
        section, field = key.split(".")
        nested.setdefault(section, {})[field] = value
    other = tmp_path / "nested.yaml"
    other.write_text(yaml.safe_dump(content | {"config": nested}))
    for path, out in ((config, "a"), (other, "b")):
        arguments = ["train", "--config", str(path), "--out", out, "--epochs", "2", "--quiet"]
        assert main.run([*arguments, "--gpus", "0"]) == 0
    first, second = (json.loads((tmp_path / r / "metrics.json").read_text()) for r in "ab")
    assert first == second
    configs = [yaml.safe_load((tmp_path / r / "best.yaml").read_text()) for r in "ab"]
    assert configs[0] == configs[1]
    assert configs[0]["config"]["training.epochs"] == 2
