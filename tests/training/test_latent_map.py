"""The map of a run's latent space: which crystals are on it, and that it never costs a run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_ensembles import SPLIT, TINY_CGCNN, Made, make_ensemble, sixty_crystals, write_sixty
from torch import Tensor

from raymat.cli import main
from raymat.data.splits import Split, SplitConfig
from raymat.models import load_spec
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory
from raymat.training import latent_map as module
from raymat.training.inputs import RunInputs, load_inputs
from raymat.training.latent_map import LATENT_MAP, draw_rows, keep_latent_map, latent_map
from raymat.training.members import latent_vectors
from raymat.training.model_files import TrainedModel, load_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("map")
    return make_ensemble(folder / "run", write_sixty(folder / "sixty.parquet"))


@pytest.fixture
def reference(made: Made) -> TrainedModel:
    return load_model(made.path / "members" / "0000")


def split_of(**counts: int) -> Split:
    parts = np.repeat(np.array(list(counts), dtype=object), list(counts.values()))
    ids = np.array([f"c{number}" for number in range(len(parts))], dtype=object)
    return Split(SplitConfig(), ids, parts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 50, "validation": 0, "test": 100}, {"test": 30, "train": 30}),
        ({"train": 10, "validation": 0, "test": 100}, {"test": 50, "train": 10}),
        ({"train": 100, "validation": 0, "test": 5}, {"test": 5, "train": 55}),
        ({"train": 20, "validation": 10, "test": 5, "unused": 50},
         {"test": 5, "train": 20, "validation": 10}),
    ],
)  # fmt: skip
def test_test_rows_come_first(counts: dict[str, int], expected: dict[str, int]) -> None:
    split = split_of(**counts)
    rows = draw_rows(split, 60)
    assert pd.Series(split.parts[rows]).value_counts().to_dict() == expected
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, draw_rows(split, 60))


def test_ensemble_keeps_the_map_of_its_reference(made: Made, reference: TrainedModel) -> None:
    kept = pd.read_parquet(made.path / LATENT_MAP)
    assert list(kept.columns) == ["material_id", "part", "x", "y"]
    split = pd.read_parquet(made.path / "split.parquet").set_index("material_id")["part"]
    assert kept.set_index("material_id")["part"].to_dict() == split.to_dict()
    again = latent_map(reference, made.table, made.inputs)
    pd.testing.assert_frame_equal(kept, again)
    (event,) = [
        e for e in read_events(made.path / "events.jsonl") if e["event"] == "latents_mapped"
    ]
    assert event["crystals"] == 60


def test_crystals_alike_lie_together(made: Made, reference: TrainedModel) -> None:
    """The nearest on the map of nearly every crystal is among its ten nearest in latent space."""
    vectors = latent_vectors(reference, made.table).astype(float)
    vectors /= vectors.std(axis=0)
    kept = pd.read_parquet(made.path / LATENT_MAP)[["x", "y"]].to_numpy(float)

    def order(points: np.ndarray) -> np.ndarray:
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
        return np.argsort(gaps + np.diag([np.inf] * len(points)), axis=1)

    nearest, ten = order(kept)[:, 0], order(vectors)[:, :10]
    assert np.mean([near in own for near, own in zip(nearest, ten, strict=True)]) > 0.9


def open_run(path: Path, made: Made) -> tuple[RunDirectory, RunInputs]:
    run = RunDirectory.create(path, {"command": "train", "arguments": {}})
    data = made.path.parent / "sixty.parquet"
    inputs = load_inputs(run, source=str(data), target="y", split_config=SPLIT, max_rejected=0.0)
    return run, inputs


@pytest.mark.parametrize(
    ("value", "reason"),
    [(float("nan"), "no training crystal has a finite latent vector"), (1.0, "all the same")],
)
def test_a_map_that_cannot_be_made_is_a_warning(
    tmp_path: Path, made: Made, reference: TrainedModel, value: float, reason: str
) -> None:
    own = reference.network.latent

    def odd(batch: object) -> Tensor:
        return torch.full_like(own(batch), value)

    reference.network.latent = odd  # type: ignore[method-assign]
    run, inputs = open_run(tmp_path / "run", made)
    with run:
        run.emit("trial_started")
        keep_latent_map(reference, made.table, inputs, run)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "complete"
    assert not (tmp_path / "run" / LATENT_MAP).exists()
    warnings = [e["text"] for e in run.events() if e["event"] == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("no map of the latent space: ")
    assert reason in warnings[0]


def test_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, made: Made, reference: TrainedModel
) -> None:
    run, inputs = open_run(tmp_path / "run", made)
    with run:
        run.emit("trial_started")
        (run.path / LATENT_MAP).mkdir()  # no file can take its place
        keep_latent_map(reference, made.table, inputs, run)
    assert [e["event"] for e in run.events()][-2:] == ["warning", "run_ended"]
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".latent")] == []


def test_a_kernel_model_has_no_map(tmp_path: Path, made: Made, reference: TrainedModel) -> None:
    spec = load_spec("soap_svr")
    config = spec.config(species=(11, 17))
    network = spec.build(config, "regression")
    kernel = TrainedModel(**{**vars(reference), "name": "soap_svr", "config": config,
                             "network": network})  # fmt: skip
    run, inputs = open_run(tmp_path / "run", made)
    with run:
        keep_latent_map(kernel, made.table, inputs, run)
    assert not (tmp_path / "run" / LATENT_MAP).exists()
    assert "mapping_latents" not in [e["event"] for e in run.events()]


@pytest.mark.long
def test_run_killed_while_it_maps_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_sixty(tmp_path / "sixty.parquet")
    Path("c.yaml").write_text(
        "model: cgcnn\ndata: sixty.parquet\ntarget: y\nconfig: {training.epochs: 2,"
        f" model.atom_dim: {TINY_CGCNN['atom_dim']}}}\n"
    )
    start = "from raymat.cli.main import main; main()"
    words = ["train", "--config", "c.yaml", "--out", "run", "--quiet"]
    process = subprocess.Popen([sys.executable, "-c", start, *words], env=dict(os.environ))
    log = Path("run/events.jsonl")
    while not (log.exists() and b"mapping_latents" in log.read_bytes()):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not Path("run", LATENT_MAP).exists()
    assert main.run(["resume", "run", "--quiet"]) == 0
    kept = pd.read_parquet(Path("run", LATENT_MAP))
    assert len(kept) == len(sixty_crystals())
    assert [e["event"] for e in read_events(log)][-3:] == ["latents_mapped", "scored", "run_ended"]
    assert module.MOST_CRYSTALS <= 2000
