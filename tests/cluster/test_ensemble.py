"""Ensembles on one real local Ray: who learns from what, who fails, and what comes of it."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_ensembles import (
    BAD,
    EPOCHS,
    GOOD,
    MEMBERS,
    N_SHARE,
    N_TRAIN,
    SPLIT,
    TARGET,
    TINY,
    Run,
    of_kind,
    request_for,
    run_ensemble,
)

from raymat.cluster import ensemble as ensemble_module
from raymat.cluster import member_training, tasks
from raymat.cluster.connect import ray_session
from raymat.cluster.ensemble import (
    EnsembleRequest,
    Selection,
    check_selection,
    ensemble,
    resume_ensemble,
)
from raymat.cluster.member import TrainedMember, train_member
from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import read_split
from raymat.data.writers import write_crystals
from raymat.ensembles.members import MemberPlan, plan_member
from raymat.ensembles.stored import Ensemble, load_ensemble
from raymat.errors import ConfigError, DataError, ModelFileError, RunError
from raymat.features.store import FeatureStore
from raymat.tracking.events import Event
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import load_inputs
from raymat.training.model_files import load_model

SAME_NUMBER = 1e-6  # float32 sums in batches of another size

SVR = {"model": "soap_svr", "config": {}}
SVR_STIFF = {"model": "soap_svr", "config": {"model.C": 10.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in, with one Ray for all runs of this file."""
    folder = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        with ray_session(None):
            patch.setattr(ensemble_module, "ray_session", lambda _address: nullcontext())
            yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """The ensemble that others are compared with: two members at a time."""
    return run_ensemble(folder / "run", concurrency=2)


@pytest.fixture(scope="module")
def delta() -> CrystalSet:
    return load_crystals("delta", target=TARGET, max_rejected=0.0).crystals


def predict(ensemble: Ensemble, crystals: CrystalSet) -> Any:
    tables = [view.table_config.build(crystals) for view in ensemble.views]
    return ensemble.predict(FeatureStore(crystals.without_properties(), tables))


# --- one whole run -------------------------------------------------------------------------------


def test_run_directory_holds_the_contract_and_nothing_else(run: Run) -> None:
    assert sorted(p.name for p in run.path.iterdir()) == [
        *(".lock", "calibration.json", "domain.npz", "ensemble.json", "events.jsonl"),
        *("latent_map.parquet", "learned.parquet", "member_curve.csv", "members"),
        *("members.parquet", "metrics.json"),
        *("predictions.parquet", "rejected.csv", "run.json", "split.parquet"),
    ]
    for number in range(MEMBERS):
        files = sorted(p.name for p in (run.path / "members" / f"{number:04d}").iterdir())
        assert files == ["model.json", "model.safetensors"]
    header = json.loads((run.path / "run.json").read_text("utf-8"))
    assert (header["command"], header["status"]) == ("ensemble", "complete")
    assert EnsembleRequest.model_validate(header["arguments"]).members == MEMBERS


def test_every_member_has_a_row(run: Run) -> None:
    table = run.members
    contract = ["seed", "status", "n_train", "val_mae", "epochs", "time_s", "host", "weight"]
    assert set(contract) <= set(table.columns)
    assert table.index.tolist() == list(range(MEMBERS))
    assert set(table["status"]) == {"complete"}
    assert set(table["n_train"]) == {N_SHARE}
    assert set(table["epochs"]) == {EPOCHS}
    assert set(table["attempts"]) == {1}
    assert (table["weight"] == 1 / MEMBERS).all()
    assert (table["time_s"] > 0).all()
    assert table["error"].isna().all()


def test_members_learn_from_what_was_planned(run: Run) -> None:
    train = read_split(run.path / "split.parquet").rows("train")
    assert len(train) == N_TRAIN
    for number, row in run.members.iterrows():
        plan = plan_member(int(str(number)), 0, seed=0, fraction=0.6, train=train)
        assert (row["seed"], row["n_train"]) == (plan.seed, len(plan.rows))
        description = load_model(run.path / "members" / f"{number:04d}").training
        assert (description["seed"], description["n_train"]) == (plan.seed, N_SHARE)
    assert len({run.weights(number) for number in range(MEMBERS)}) == MEMBERS


def test_validation_scores_are_those_of_the_stored_members(run: Run) -> None:
    validation = run.predictions.query("part == 'validation'")
    errors = np.abs(np.stack(validation["members"]).T - validation["target"].to_numpy())
    np.testing.assert_allclose(run.members["val_mae"], errors.mean(axis=1), rtol=SAME_NUMBER)


def test_stored_predictions_are_those_of_the_stored_ensemble(run: Run, delta: CrystalSet) -> None:
    found = predict(load_ensemble(run.path), delta)
    table = run.predictions
    assert table["material_id"].tolist() == delta.material_ids.tolist()
    np.testing.assert_allclose(table["mean"], found.mean, atol=SAME_NUMBER)
    np.testing.assert_allclose(table["std"], found.total, atol=SAME_NUMBER)
    np.testing.assert_allclose(np.stack(table["members"]).T, found.values, atol=SAME_NUMBER)
    assert (table["aleatoric"] == 0).all()


def test_calibration_is_fitted_on_validation_rows(run: Run) -> None:
    content, table = run.calibration, run.predictions.query("part == 'validation'")
    assert content["fitted_on"] == {"part": "validation", "n": 14, "without_spread": 0}
    assert content["scored_on"] == {"part": "test", "n": 14, "without_spread": 0}
    scores = ["nll", "miscalibration_area", "coverage_50", "coverage_90", "coverage_95"]
    for key in ("before", "after"):
        assert {*scores, "sharpness", "spearman"} <= set(content[key])
    residuals = (table["target"] - table["mean"]) / table["std"]
    factor = content["methods"]["std_scaling"]["fitted"]["factor"]
    assert factor == pytest.approx(np.sqrt((residuals**2).mean()))


def test_metrics_count_the_members(run: Run) -> None:
    assert json.loads((run.path / "metrics.json").read_text("utf-8")) == run.metrics
    members = run.metrics["members"]
    counted = [members[key] for key in ("planned", "trained", "retried", "failed", "effective")]
    assert counted == [MEMBERS, MEMBERS, 0, [], pytest.approx(MEMBERS)]
    assert run.metrics["test"]["mae"] <= members["test_mae_mean"]  # the error is convex


def test_listeners_hear_what_is_logged(run: Run) -> None:
    passing = ("features", "member_epochs")
    assert [e for e in run.heard if e["event"] not in passing] == run.events
    assert len(of_kind(run.events, "member_ended")) == MEMBERS
    running = {int(m) for e in of_kind(run.heard, "member_epochs") for m in e["epochs"]}
    assert running <= set(range(MEMBERS))


# --- the same members, whatever else happens -----------------------------------------------------


def test_test_targets_never_reach_the_members(run: Run, folder: Path, delta: CrystalSet) -> None:
    """Nor does the number of members trained beside them change one."""
    test = read_split(run.path / "split.parquet").rows("test")
    properties = delta.properties.copy()
    column = properties.columns.get_loc(TARGET)
    properties.iloc[test, column] = properties.iloc[test, column] - 5.0
    write_crystals(replace(delta, properties=properties), folder / "other.parquet")
    other = run_ensemble(folder / "other", data=str(folder / "other.parquet"), members=2)
    split = read_split(other.path / "split.parquet")
    assert split.parts.tolist() == read_split(run.path / "split.parquet").parts.tolist()
    for number in (0, 1):
        assert other.weights(number) == run.weights(number)
    assert other.metrics["test"]["mae"] > run.metrics["test"]["mae"] + 3.0
    validation = ["val_mae", "best_epoch"]
    pd.testing.assert_frame_equal(other.members[validation], run.members.loc[[0, 1], validation])


def test_ensemble_of_another_target_has_the_same_rows(run: Run, folder: Path) -> None:
    """Members of one number are paired by it. These also predict a variance."""
    config = {"model": "cgcnn", "config": {**TINY, "training.loss": "gaussian_nll"}}
    noisy = run_ensemble(folder / "noisy", config, target="volume_per_atom", members=3)
    splits = [read_split(other.path / "split.parquet") for other in (run, noisy)]
    assert splits[0].sha256 == splits[1].sha256
    assert noisy.members["seed"].tolist() == run.members["seed"].tolist()[:3]
    assert set(noisy.members["n_train"]) == {N_SHARE}
    table = noisy.predictions
    np.testing.assert_allclose(
        table["std"] ** 2, table["epistemic"] ** 2 + table["aleatoric"] ** 2, rtol=1e-12
    )
    assert (table["aleatoric"] > 0).all()
    assert (table["epistemic"] > 0).all()
    found = predict(load_ensemble(noisy.path), load_crystals("delta", max_rejected=0.0).crystals)
    assert found.noise is not None
    assert (found.noise > 0).all()
    np.testing.assert_allclose(found.aleatoric, table["aleatoric"], rtol=1e-5)


class InterruptAfter:
    """A listener that presses Ctrl-C when some members have ended."""

    def __init__(self, n_members: int) -> None:
        self.left = n_members

    def __call__(self, event: Event) -> None:
        self.left -= event["event"] == "member_ended"
        if self.left == 0:
            raise KeyboardInterrupt


def test_interrupted_ensemble_ends_like_an_uninterrupted_one(run: Run, folder: Path) -> None:
    path = folder / "interrupted"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        ensemble(request_for(concurrency=1), path, listeners=(InterruptAfter(2),))
    with pytest.raises(ModelFileError, match=r"it has 2 members so far; continue it with `raymat"):
        load_ensemble(path)
    first = {number: (path / "members" / f"{number:04d}").stat().st_ino for number in (0, 1)}
    heard: list[Event] = []
    again = Run(path, resume_ensemble(path, listeners=(heard.append,)), heard)
    (start,) = of_kind(heard, "ensemble_started")
    assert (start["members"], start["done"]) == (MEMBERS, 2)
    ended = [event["member"] for event in of_kind(again.events, "member_ended")]
    assert ended == list(range(MEMBERS))  # each once
    for number, inode in first.items():
        assert (path / "members" / f"{number:04d}").stat().st_ino == inode
    assert again.metrics == run.metrics
    pd.testing.assert_frame_equal(again.predictions, run.predictions, check_exact=True)
    pd.testing.assert_frame_equal(
        again.members.drop(columns="time_s"), run.members.drop(columns="time_s"), check_exact=True
    )
    assert again.calibration == run.calibration
    assert all(again.weights(number) == run.weights(number) for number in range(MEMBERS))


def test_torn_member_is_trained_again(run: Run, folder: Path) -> None:
    path = folder / "torn"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        ensemble(request_for(concurrency=1), path, listeners=(InterruptAfter(3),))
    outputs, weights = (
        path / "members" / name for name in ("0000/outputs.npz", "0002/model.safetensors")
    )
    outputs.write_bytes(outputs.read_bytes()[:100])
    weights.write_bytes(b"")
    heard: list[Event] = []
    again = Run(path, resume_ensemble(path, listeners=(heard.append,)), heard)
    told = [event["text"] for event in of_kind(heard, "warning")]
    assert [text.split(":")[0] for text in told] == [
        f"member {number} is trained again" for number in (0, 2)
    ]
    assert again.metrics == run.metrics
    pd.testing.assert_frame_equal(again.predictions, run.predictions, check_exact=True)


def test_scored_run_has_only_to_be_called_complete(run: Run, folder: Path) -> None:
    (run.path / "members" / "0000" / "outputs.npz").touch()  # killed before it was removed
    (run.path / "trials").mkdir()
    n_known = len(run.events)
    heard: list[Event] = []
    assert resume_ensemble(run.path, listeners=(heard.append,)) == run.metrics
    assert [event["event"] for event in run.events[n_known:]] == ["run_ended"]
    assert not (run.path / "members" / "0000" / "outputs.npz").exists()
    assert not (run.path / "trials").exists()
    assert folder.exists()


# --- members that fail ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def troubled(folder: Path) -> Run:
    """Member 1 diverges twice and member 2 once, by a configuration that others do not get."""
    bad = {(1, 0), (1, 1), (2, 0)}

    def plan(number: int, attempt: int, **values: Any) -> MemberPlan:
        planned = plan_member(number, attempt, **values)
        return replace(planned, configuration=int((number, attempt) in bad))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_training, "plan_member", plan)
        return run_ensemble(folder / "troubled", GOOD, BAD)


def test_member_whose_process_is_killed_keeps_its_seed(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its configuration's fault: what comes of it is what would have come."""

    def dies_once(plan: MemberPlan, *args: Any, **values: Any) -> TrainedMember:
        if not (tmp_path / plan.name).exists():
            (tmp_path / plan.name).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train_member(plan, *args, **values)

    monkeypatch.setattr(tasks, "RETRIES", 0)  # else Ray itself would start it again
    monkeypatch.setattr(member_training, "train_member", dies_once)
    again = run_ensemble(folder / "killed", concurrency=2)
    failures = of_kind(again.events, "member_failed")
    assert sorted(event["member"] for event in failures) == list(range(MEMBERS))
    assert {(e["attempt"], e["died"], e["again"]) for e in failures} == {(0, True, True)}
    assert all(event["error"].startswith("a process of the run died") for event in failures)
    assert set(again.members["status"]) == {"complete"}
    assert list(again.members["seed"]) == list(run.members["seed"])
    assert list(again.members["val_mae"]) == list(run.members["val_mae"])


def test_diverging_member_is_tried_again_with_another_seed(run: Run, troubled: Run) -> None:
    failures = of_kind(troubled.events, "member_failed")
    attempts = sorted((event["member"], event["attempt"]) for event in failures)
    assert attempts == [(1, 0), (1, 1), (2, 0)]
    for event in failures:
        assert event["error"].startswith("training diverged in epoch ")
        assert "\n" not in event["error"]
    started = {(e["member"], e["attempt"]): e for e in of_kind(troubled.events, "member_started")}
    assert len(started) == MEMBERS + 2
    assert len({event["seed"] for event in started.values()}) == MEMBERS + 2
    second = troubled.members.loc[2]
    assert (second["status"], second["attempts"]) == ("complete", 2)
    assert second["seed"] == started[(2, 1)]["seed"] != run.members.loc[2, "seed"]


def test_member_that_fails_twice_is_listed_and_the_others_go_on(run: Run, troubled: Run) -> None:
    lost = troubled.members.loc[1]
    assert (lost["status"], lost["attempts"], lost["weight"]) == ("failed", 2, 0.0)
    assert lost["error"].startswith("training diverged")
    members = troubled.metrics["members"]
    assert (members["trained"], members["retried"], members["failed"]) == (3, 2, [1])
    ensemble = load_ensemble(troubled.path)
    assert (ensemble.numbers, ensemble.n_planned) == ((0, 2, 3), MEMBERS)
    for number in (0, 3):  # untouched by the trouble beside them
        assert troubled.weights(number) == run.weights(number)
    assert np.stack(troubled.predictions["members"]).shape == (71, 3)
    assert not (troubled.path / "trials").exists()


def test_one_member_is_no_ensemble(folder: Path) -> None:
    path, heard = folder / "one", list[Event]()
    words = r"^1 of 2 members could be trained, a spread needs 2; the first failure: training div"
    with pytest.raises(RunError, match=words) as caught:
        ensemble(request_for(GOOD, BAD, members=2), path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=words):
        resume_ensemble(path, listeners=(heard.append,))
    assert not of_kind(heard, "member_started")  # what failed twice is not tried again
    (start,) = of_kind(heard, "ensemble_started")
    assert (start["done"], start["failed"]) == (1, 1)
    assert json.loads((path / "run.json").read_text("utf-8"))["status"] == "failed"


# --- what the configurations were chosen on ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "differs", "words"),
    [
        ({}, [], None),
        ({"split_sha256": "0" * 64}, ["split"], "search/ were chosen on another split: test rows"),
        (
            {"data_sha256": "0" * 64, "split_sha256": "0" * 64},
            ["data", "split"],
            "search/ were chosen on other data and another split: test rows may be among those",
        ),
        ({"data_sha256": None, "split_sha256": None}, [], None),
        ({"overridden": ("split",)}, ["split"], "were chosen on another split"),
    ],
)
def test_selection_on_other_rows_is_told(
    run: Run, tmp_path: Path, changes: dict[str, Any], differs: list[str], words: str | None
) -> None:
    header = json.loads((run.path / "run.json").read_text("utf-8"))
    hashes = {f"{key}_sha256": header[key]["sha256"] for key in ("data", "split")}
    selection = Selection(**{"source": "search/", **hashes, **changes})
    heard: list[Event] = []
    with RunDirectory.create(tmp_path / "run", {}, listeners=(heard.append,)) as other:
        inputs = load_inputs(
            other, source="delta", target=TARGET, split_config=SPLIT, max_rejected=0.0
        )
        found = check_selection(selection, inputs, other)
    assert found == {
        "source": "search/",
        **{key: changes.get(key, value) for key, value in hashes.items()},
        "differs": differs,
    }
    told = [event["text"] for event in of_kind(heard, "warning")]
    assert len(told) == bool(words)
    assert words is None or words in told[0]


def test_selection_stands_beside_the_scores(run: Run, folder: Path) -> None:
    assert "selection" not in run.metrics
    selection = Selection(source="search", split_sha256="0" * 64)
    other = run_ensemble(folder / "selected", members=2, selection=selection)
    assert other.metrics["selection"]["differs"] == ["split"]
    assert json.loads((other.path / "metrics.json").read_text("utf-8")) == other.metrics
    assert len(of_kind(other.events, "warning")) == 1


# --- classes, weights, and what cannot be done ---------------------------------------------------


def test_classes(folder: Path, delta: CrystalSet) -> None:
    run = run_ensemble(folder / "classes", classes="median", members=3)
    table = run.predictions
    assert set(table["target"]) == {0.0, 1.0}
    assert table["mean"].between(0.0, 1.0).all()
    assert "val_auc" in run.members
    assert 0.0 <= run.metrics["test"]["auc"] <= 1.0
    assert {"nll", "brier", "ece"} <= set(run.calibration["before"])
    assert "methods" not in run.calibration
    loaded = load_ensemble(run.path)
    assert (loaded.task, loaded.recalibration) == ("classification", None)
    train = read_split(run.path / "split.parquet").rows("train")
    assert loaded.threshold == pytest.approx(np.median(delta.target(TARGET)[train]))
    np.testing.assert_allclose(predict(loaded, delta).mean, table["mean"], atol=SAME_NUMBER)


def test_greedy_members_of_several_configurations(folder: Path) -> None:
    """As of a search: one member each, on all training rows."""
    rates = (0.001, 0.01, 0.03)
    configs = [{"model": "cgcnn", "config": {**TINY, "training.lr": lr}} for lr in rates]
    run = run_ensemble(folder / "greedy", *configs, members=3, fraction=1.0, weights="greedy")
    assert run.members["configuration"].tolist() == [0, 1, 2]
    assert set(run.members["n_train"]) == {N_TRAIN}
    settings = [load_model(run.path / "members" / f"{n:04d}").training for n in range(3)]
    assert [s["settings"]["lr"] for s in settings] == list(rates)
    weights = run.members["weight"].to_numpy()
    assert np.count_nonzero(weights) >= 2
    assert weights.sum() == pytest.approx(1.0)
    table = run.predictions
    np.testing.assert_allclose(table["mean"], np.stack(table["members"]) @ weights, rtol=1e-9)
    validation = table[table["part"] == "validation"]
    equal = np.abs(np.stack(validation["members"]).mean(axis=1) - validation["target"]).mean()
    assert (validation["mean"] - validation["target"]).abs().mean() <= equal
    np.testing.assert_array_equal(load_ensemble(run.path).weights, weights)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"fraction": 0.02}, DataError, r"^a share of 0.02 of 43 training rows leaves a member 1"),
        (
            {"configs": ({"model": "soap_svr", "config": {}},), "fraction": 1.0},
            ConfigError,
            r"^all members would be the same, for nothing in soap_svr is random",
        ),
        (
            {"configs": (SVR, SVR_STIFF, SVR), "fraction": 0.999, "members": 3},
            ConfigError,
            r"^only 2 of 3 members would differ, for nothing in soap_svr is random; give a --frac",
        ),
        (
            {"configs": (SVR, SVR_STIFF), "fraction": 1.0, "members": 3},
            ConfigError,
            r"different configurations, one for each member$",
        ),
        ({"target": "bulk"}, DataError, r"'bulk'"),
    ],
)
def test_what_cannot_be_done_is_told_before_training(
    changes: dict[str, Any], error: type[Exception], words: str, folder: Path, tmp_path: Path
) -> None:
    assert folder.exists()
    with pytest.raises(error, match=words):
        ensemble(request_for(**{"configs": (GOOD,), **changes}), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # the corrected command may use it


def test_resume_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"command": "tune"}', encoding="utf-8")
    with pytest.raises(RunError, match=r": a tune run, not an ensemble run$"):
        resume_ensemble(tmp_path)
