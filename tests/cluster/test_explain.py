"""Explanation runs on one real local Ray: what is trained, what is grown, what is written."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raymat.cluster import explain as explain_module
from raymat.cluster.connect import ray_session
from raymat.cluster.explain import ExplainRequest, explain, resume_explain
from raymat.data.readers import load_crystals
from raymat.data.scaling import TargetScaling
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError, RunError
from raymat.explain.coarse_training import TRAINING, load_coarse
from raymat.explain.explanations import Task, find_explanations
from raymat.explain.generate import SURE, GrowConfig
from raymat.explain.rules import Rules
from raymat.explain.scoring import CoarseScorer
from raymat.models import load_spec
from raymat.tracking.events import Event, read_events
from raymat.training.model_files import TrainedModel, save_model

TARGET, PER_CLASS = "log10_bulk_modulus", 5
SPLIT = SplitConfig(train=0.6, validation=0.2, test=0.2)
GROW = GrowConfig(episodes=3, steps=6, rollouts=3)
SETTINGS: dict[str, Any] = {
    "data": "delta",
    "target": TARGET,
    "split": SPLIT,
    "per_class": PER_CLASS,
    "training": TRAINING.model_copy(update={"epochs": 25, "batch_size": 16}),
    "grow": GROW,
    "max_attempts": 4,
    "ignore_weak": True,  # fourteen test rows
}
SUMMARY = ["labels", "target_class", "kind", "a", "b", "count", "share", "training_share", "ratio"]


@dataclass
class Run:
    path: Path
    metrics: dict[str, Any]

    @property
    def events(self) -> list[Event]:
        return read_events(self.path / "events.jsonl")

    @property
    def explanations(self) -> list[dict[str, Any]]:
        lines = (self.path / "explanations.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]


def run_explain(path: Path, **changes: Any) -> Run:
    return Run(path, explain(ExplainRequest(**{**SETTINGS, **changes}), path))


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in, with one Ray for all runs of this file."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        with ray_session(None):
            patch.setattr(explain_module, "ray_session", lambda _address: nullcontext())
            yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Two tasks at a time, both labellings, and a full model."""
    return run_explain(folder / "run", concurrency=2)


def test_run_directory_holds_the_contract_and_nothing_else(run: Run) -> None:
    found = {p.name for p in run.path.iterdir()}
    assert found == {
        *(".lock", "run.json", "events.jsonl", "rejected.csv", "split.parquet", "classifiers"),
        *("predictions.parquet", "explanations.jsonl", "summary.csv", "metrics.json"),
    }
    header = json.loads((run.path / "run.json").read_text("utf-8"))
    assert (header["command"], header["status"], header["task"]) == (
        "explain",
        "complete",
        "classification",
    )
    stored = sorted(p.name for p in (run.path / "classifiers").iterdir())
    assert stored == ["full", "group-0", "period-0"]


def test_explanations_are_what_the_contract_says(run: Run) -> None:
    assert run.explanations
    for row in run.explanations:
        assert row["property"] == TARGET
        assert row["probability"] > SURE
        assert len(row["nodes"]) >= 2
        most = {"group": 18, "period": 7}[row["labels"]]
        assert all(1 <= label <= most for label in row["nodes"])
        assert all(0 <= a < b < len(row["nodes"]) for a, b in row["edges"])
        assert max(np.bincount(np.ravel(row["edges"]))) <= GROW.max_degree
        assert 0.0 <= row["probability_full"] <= 1.0
        assert 1 <= row["attempts"] <= 4
    assert len({(r["labels"], r["target_class"], r["number"]) for r in run.explanations}) == len(
        run.explanations
    )


def test_counts_are_whole(run: Run) -> None:
    for own in run.metrics["explanations"]:
        assert own["found"] + own["failed"] == PER_CLASS
        assert PER_CLASS <= own["attempts"] <= 4 * PER_CLASS
        rows = [
            row
            for row in run.explanations
            if (row["labels"], row["target_class"]) == (own["labels"], own["target_class"])
        ]
        assert len(rows) == own["found"]


def test_summary_counts_the_explanations(run: Run) -> None:
    table = pd.read_csv(run.path / "summary.csv")
    assert list(table) == SUMMARY
    for labels, n in (("group", 18), ("period", 7)):
        for c in (0, 1):
            own = table[(table["labels"] == labels) & (table["target_class"] == c)]
            rows = [r for r in run.explanations if (r["labels"], r["target_class"]) == (labels, c)]
            nodes, edges = own[own["kind"] == "node"], own[own["kind"] == "edge"]
            assert len(nodes) == n
            assert nodes["count"].sum() == sum(len(r["nodes"]) for r in rows)
            assert edges["count"].sum() == sum(len(r["edges"]) for r in rows)
            assert nodes["training_share"].sum() == pytest.approx(1.0)


def test_classifiers_are_scored_on_test_rows(run: Run) -> None:
    table = pd.read_parquet(run.path / "predictions.parquet")
    test = table[table["part"] == "test"]
    for name, scores in run.metrics["classifiers"].items():
        right = (test[name] > 0.5) == (test["target"] == 1)
        assert scores["accuracy"] == pytest.approx(right.mean())
        if name != "full":
            same = (test[name] > 0.5) == (test["full"] > 0.5)
            assert scores["agreement"] == pytest.approx(same.mean())
    assert set(run.metrics["classifiers"]) == {"full", "group-0", "period-0"}


def test_explanation_is_given_again_by_checkpoint_class_and_seed(run: Run) -> None:
    row = run.explanations[0]
    task = Task(row["labels"], row["target_class"])
    classifier = load_coarse(run.path / "classifiers" / f"{task.labels}-0")
    n = {"group": 18, "period": 7}[task.labels]
    again = find_explanations(
        task,
        [row["number"]],
        CoarseScorer(classifier, task.target_class),
        seed=0,
        rules=Rules((4,) * n),
        config=GROW,
        max_attempts=4,
    )
    (found,) = again.explanations
    assert (found.seed, list(found.nodes)) == (row["seed"], row["nodes"])
    assert [list(edge) for edge in found.edges] == row["edges"]
    assert found.probability == row["probability"]


def test_number_of_workers_changes_nothing(run: Run, folder: Path) -> None:
    one = run_explain(folder / "one", concurrency=1)
    for name in ("explanations.jsonl", "summary.csv"):
        assert (one.path / name).read_bytes() == (run.path / name).read_bytes()


def test_resumed_run_does_nothing_again(run: Run, folder: Path) -> None:
    """The log of a run that died after one chunk: the others only are grown."""
    path = folder / "cut"
    run_explain(path)
    lines = (path / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
    kinds = [json.loads(line)["event"] for line in lines]
    end = kinds.index("explanations_grown") + 1
    (path / "events.jsonl").write_text("".join(lines[:end]), encoding="utf-8")
    resume_explain(path)
    events = read_events(path / "events.jsonl")
    assert len(of_kind(events, "classifier_ended")) == 3
    assert len(of_kind(events, "explanations_grown")) == 4
    assert (path / "explanations.jsonl").read_bytes() == (
        run.path / "explanations.jsonl"
    ).read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "outputs.npz"])
def test_damaged_classifier_is_trained_again(run: Run, folder: Path, name: str) -> None:
    path = folder / f"damaged-{name}"
    shutil.copytree(run.path, path)
    lines = (path / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["event"] != "scored"]
    (path / "events.jsonl").write_text("".join(kept), encoding="utf-8")
    damaged = path / "classifiers" / "group-0" / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    resume_explain(path)
    events = read_events(path / "events.jsonl")
    assert any("group-0 is trained again" in e["text"] for e in of_kind(events, "warning"))
    assert len(of_kind(events, "classifier_ended")) == 4
    assert load_coarse(path / "classifiers" / "group-0")
    grown = [(e["labels"], e["target_class"]) for e in of_kind(events, "explanations_grown")]
    assert sorted(grown) == sorted(
        [("group", 0), ("group", 1)] * 2 + [("period", 0), ("period", 1)]
    )  # what was grown for the damaged one is grown again
    assert (path / "explanations.jsonl").read_bytes() == (
        run.path / "explanations.jsonl"
    ).read_bytes()


def test_several_classifiers_are_compared(folder: Path) -> None:
    found = run_explain(folder / "members", members=2, labels=("period",), full=False)
    assert set(found.metrics["classifiers"]) == {"period-0", "period-1"}
    assert all("agreement" not in s for s in found.metrics["classifiers"].values())
    for own in found.metrics["agreement_of_members"]:
        assert own["members"] == [0, 1]
        assert own["nodes"] is None or -1 <= own["nodes"] <= 1
    assert {row["member"] for row in found.explanations} <= {0, 1}
    assert all(row["probability_full"] is None for row in found.explanations)
    first, second = (load_coarse(found.path / "classifiers" / f"period-{m}") for m in (0, 1))
    assert not torch.equal(first.embedding.weight, second.embedding.weight)


def stored_model(folder: Path, name: str = "cgcnn", **facts: Any) -> str:
    """Write an untrained model to explain."""
    spec = load_spec(name)
    given = {} if name == "cgcnn" else {"species": (8, 11)}
    config = spec.config(**given)
    values = {"target": TARGET, "task": "regression", "threshold": None, **facts}
    network = spec.build(config, values["task"])
    save_model(
        TrainedModel(
            name=name, config=config, network=network.eval(), unit="", scaling=TargetScaling(),
            elements=(), training={}, **values,
        ),
        folder,
    )  # fmt: skip
    return str(folder)


def test_model_of_numbers_is_explained(folder: Path) -> None:
    model = stored_model(folder / "numbers")
    found = run_explain(folder / "given", model=model, labels=("period",), per_class=2)
    assert set(found.metrics["classifiers"]) == {"full", "period-0"}
    kept = found.path / "classifiers" / "full" / "model.safetensors"
    assert kept.read_bytes() == (folder / "numbers" / "model.safetensors").read_bytes()
    for row in found.explanations:
        assert row["probability_full"] * 32 == pytest.approx(round(row["probability_full"] * 32))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"target": "band_gap"}, "a model of band_gap, but --target is log10_bulk_modulus"),
        ({"name": "soap_mlp"}, "a model of soap_mlp; explanations are graphs of atoms"),
        (
            {"task": "classification", "threshold": 9.0},
            "its class 1 is above 9, here it is above 1",
        ),
    ],
)
def test_model_that_cannot_be_explained_is_refused(
    folder: Path, facts: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    out = folder / request.node.name[-9:-1]
    model = stored_model(folder / f"model-{request.node.name[-9:-1]}", **facts)
    with pytest.raises(ConfigError, match=message):
        run_explain(out, model=model)
    assert not out.exists()


def test_constant_target_is_refused(folder: Path) -> None:
    """No crystal lies above the median, so there is no class 1."""
    from raymat.data.readers import load_crystals
    from raymat.data.writers import write_crystals

    crystals = load_crystals("delta", target=TARGET, max_rejected=0.0).crystals
    crystals.properties["y"] = 1.0
    write_crystals(crystals, folder / "constant.parquet")
    with pytest.raises(DataError, match="the train rows hold one class of 'y' only"):
        run_explain(folder / "nothing", data=str(folder / "constant.parquet"), target="y")
    assert not (folder / "nothing").exists()


def test_other_runs_are_not_resumed(folder: Path) -> None:
    path = folder / "other"
    path.mkdir()
    (path / "run.json").write_text('{"command": "tune"}', encoding="utf-8")
    with pytest.raises(RunError, match="a tune run, not an explain run"):
        resume_explain(path)


def test_classifier_that_guesses_is_not_explained(folder: Path) -> None:
    """The run ends before anything is grown; it goes on where it is asked to."""
    untrained = {"training": TRAINING.model_copy(update={"epochs": 1, "lr": 1e-9}), "full": False}
    crystals = load_crystals("delta", target=TARGET, max_rejected=0.0).crystals
    drawn = np.random.default_rng(1).permutation(crystals.target(TARGET))
    properties = crystals.properties[[]].assign(**{TARGET: drawn})
    write_crystals(replace(crystals, properties=properties), folder / "drawn.parquet")
    half = SplitConfig(train=0.4, validation=0.1, test=0.5)
    changes = {"data": str(folder / "drawn.parquet"), "split": half, "labels": ("group",)}
    changes |= {"per_class": 1, **untrained}
    with pytest.raises(RunError, match=r"group-0 is not shown to be better .* --ignore-weak"):
        run_explain(folder / "chance", ignore_weak=False, **changes)
    events = read_events(folder / "chance" / "events.jsonl")
    assert of_kind(events, "classifier_ended")
    assert not of_kind(events, "explaining_started")
    assert json.loads((folder / "chance" / "run.json").read_text("utf-8"))["status"] == "failed"
    assert of_kind(run_explain(folder / "anyway", **changes).events, "explaining_started")
