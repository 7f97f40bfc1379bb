"""Several properties explained in one run: each whole, their lists joined, none done again."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raymat.cli import main
from raymat.cluster import explain as explain_module
from raymat.cluster.connect import ray_session
from raymat.cluster.explain import ExplainRequest, explain
from raymat.cluster.explain_series import ExplainSeries, explain_series, resume_series
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError, RunError
from raymat.explain.coarse_training import TRAINING
from raymat.explain.generate import GrowConfig
from raymat.reports.run_status import read_status
from raymat.tracking.events import Event, read_events

TARGETS = ("log10_bulk_modulus", "volume_per_atom")
SETTINGS: dict[str, Any] = {
    "split": SplitConfig(train=0.6, validation=0.2, test=0.2),
    "labels": ("period",),
    "per_class": 4,
    "full": False,
    "training": TRAINING.model_copy(update={"epochs": 25, "batch_size": 16}),
    "grow": GrowConfig(episodes=3, steps=6, rollouts=3),
    "max_attempts": 3,
    "ignore_weak": True,  # fourteen test rows
}
LISTS = ("explanations.jsonl", "summary.csv")


def request(target: str, data: str) -> ExplainRequest:
    return ExplainRequest(**SETTINGS, target=target, data=data)


def series(data: str, *targets: str) -> ExplainSeries:
    return ExplainSeries(properties=tuple(request(target, data) for target in targets))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in, with one Ray for all runs of this file, and data with a constant."""
    folder = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        crystals = load_crystals("delta", target=TARGETS[0], max_rejected=0.0).crystals
        crystals.properties["constant"] = 1.0
        write_crystals(crystals, folder / "data.parquet")
        with ray_session(None):
            patch.setattr(explain_module, "ray_session", lambda _address: nullcontext())
            yield folder


@pytest.fixture(scope="module")
def data(folder: Path) -> str:
    return str(folder / "data.parquet")


@pytest.fixture(scope="module")
def run(folder: Path, data: str) -> Path:
    """Two properties, with one between them that is the same in all crystals."""
    path = folder / "run"
    explain_series(series(data, TARGETS[0], "constant", TARGETS[1]), path)
    return path


def test_each_property_is_what_it_is_alone(run: Path, folder: Path, data: str) -> None:
    explain(request(TARGETS[1], data), folder / "alone")
    for name in LISTS:
        own = (run / TARGETS[1] / name).read_bytes()
        assert own == (folder / "alone" / name).read_bytes()


def test_lists_are_joined(run: Path) -> None:
    rows = [json.loads(line) for line in (run / LISTS[0]).read_text("utf-8").splitlines()]
    assert [row["property"] for row in rows] == sorted(row["property"] for row in rows)
    lines = [(run / target / LISTS[0]).read_text("utf-8") for target in TARGETS]
    assert (run / LISTS[0]).read_text("utf-8") == "".join(lines)
    summary = pd.read_csv(run / LISTS[1])
    for target in TARGETS:
        own = summary[summary["property"] == target].drop(columns="property")
        pd.testing.assert_frame_equal(
            own.reset_index(drop=True), pd.read_csv(run / target / LISTS[1])
        )


def test_constant_is_left_out_and_told(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert list(metrics["properties"]) == list(TARGETS)
    assert "one class of 'constant' only" in metrics["left_out"]["constant"]
    assert not (run / "constant").exists()
    assert main.run(["resume", str(run)]) == 1  # tells again, and that something is missing
    said = capfd.readouterr()
    assert "not explained: constant: the train rows hold one class" in said.err
    assert all(f"{target}, high above" in said.out for target in TARGETS)
    status = read_status(run)  # each counts once, however often the run was resumed
    assert (status.word, status.done, status.total) == ("properties", 3, 3)


def test_resumed_series_does_nothing_again(run: Path, folder: Path) -> None:
    """The first property is whole, the others have not begun."""
    path = folder / "cut"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns(TARGETS[1], "metrics.json", *LISTS))
    for name in LISTS:
        shutil.copy(run / TARGETS[0] / name, path / TARGETS[0])
    before = kinds(path / TARGETS[0])
    resume_series(path)
    after = kinds(path / TARGETS[0])
    assert [k for k in after if k not in ("run_ended",)] == [k for k in before if k != "run_ended"]
    for name in LISTS:
        assert (path / name).read_bytes() == (run / name).read_bytes()


def test_series_with_a_failed_property_can_be_resumed(
    folder: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that is not the data's, such as a full disk, ends it; what was done is kept."""
    path = folder / "failed"
    with monkeypatch.context() as patch:
        patch.setattr(explain_module, "finish_explanations", _no_space)
        with pytest.raises(RunError, match="no space"):
            explain_series(series(data, TARGETS[0]), path)
    assert (path / TARGETS[0] / "run.json").exists()
    assert list(resume_series(path)["properties"]) == [TARGETS[0]]
    assert kinds(path / TARGETS[0]).count("classifier_ended") == 1


def _no_space(*_: Any, **__: Any) -> None:
    raise RunError("no space")


def kinds(path: Path) -> list[str]:
    events: list[Event] = read_events(path / "events.jsonl")
    return [str(event["event"]) for event in events]


def test_misspelt_property_is_refused_before_the_first(folder: Path, data: str) -> None:
    with pytest.raises(DataError, match="volume_per_atoms"):
        explain_series(series(data, TARGETS[0], "volume_per_atoms"), folder / "misspelt")
    assert not (folder / "misspelt").exists()


def test_properties_that_would_share_a_folder_are_refused(folder: Path, data: str) -> None:
    with pytest.raises(ConfigError, match=r"'a b' and 'a/b' would have the same folder \(a_b\)"):
        explain_series(series(data, "a b", "a/b"), folder / "shared")
    assert not (folder / "shared").exists()


def test_nothing_to_explain_is_an_error(folder: Path, data: str) -> None:
    with pytest.raises(DataError, match="no property can be explained; the train rows"):
        explain_series(series(data, "constant"), folder / "nothing")
