"""A GPU with too little memory: batches are halved, and what is recorded is what was trained.

The memory is a limit on the batch that raises PyTorch's own error; everything else is real.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from test_member import PLAN, data_of
from tiny_ensembles import TINY

from raymat.cluster import member as member_module
from raymat.cluster import search as search_module
from raymat.cluster import tune as tune_module
from raymat.cluster.connect import ray_session
from raymat.cluster.member import train_member
from raymat.cluster.trainable import TrialRunner
from raymat.cluster.tune import tune
from raymat.data.crystals import CrystalSet
from raymat.data.splits import SplitConfig
from raymat.errors import RunError
from raymat.tracking.events import read_events
from raymat.training.gradient import GradientFit
from raymat.tuning.request import TuneRequest
from raymat.tuning.study import Study
from raymat.tuning.trial_config import TrialConfig, halve_batches

MOST = 8  # crystals of a batch that fit
SPLIT = SplitConfig(train=0.6, validation=0.2, test=0.2)


def test_batches_are_halved_until_two() -> None:
    config = TrialConfig.from_dict({"model": "cgcnn", "config": TINY}, where="here")
    first = config.flat()["training.batch_size"]
    while config.flat()["training.batch_size"] >= 4:
        config = halve_batches(config)
    assert config.flat()["training.batch_size"] == 2 < first
    with pytest.raises(RunError, match="the GPU's memory is too small for cgcnn with batches of 2"):
        halve_batches(config)
    closed = TrialConfig.from_dict({"model": "soap_svr", "config": {}}, where="here")
    with pytest.raises(RunError, match="too small for soap_svr; give a trial a larger share"):
        halve_batches(closed)


def test_member_is_the_one_with_half_batches(
    twelve_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_module.ray, "get_gpu_ids", list)
    small, large = (
        TrialConfig.from_dict(
            {"model": "cgcnn", "config": {**TINY, "training.batch_size": size}}, where="here"
        )
        for size in (3, 6)
    )
    data = data_of(twelve_crystals, small)
    expected = train_member(PLAN, small, data, folder=tmp_path / "small", n_cpus=1)
    step = GradientFit._step

    def limited(fit: GradientFit, rows: Any) -> Any:
        if fit.epoch == 1 and len(rows) > 4:  # in the second epoch, with a checkpoint of the first
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(fit, rows)

    monkeypatch.setattr(GradientFit, "_step", limited)
    found = train_member(PLAN, large, data, folder=tmp_path / "large", n_cpus=1)
    assert (expected.row["batch_size"], found.row["batch_size"]) == (3, 3)
    weights = expected.result.network.state_dict()
    for name, value in found.result.network.state_dict().items():
        assert torch.equal(value, weights[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in, with one Ray for the runs of this file."""
    folder = tmp_path_factory.mktemp("memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        with ray_session(None):
            patch.setattr(tune_module, "ray_session", lambda _address: nullcontext())
            yield folder


def search(folder: Path, name: str, batch_size: int, **changes: Any) -> Path:
    space = {
        "model": "cgcnn",
        "space": {"training.lr": {"log_uniform": [1e-3, 1e-2]}},
        "fixed": {"model.atom_dim": 8, "model.n_conv": 1, "training.batch_size": batch_size},
        "budget": {"trials": 1, "epochs": 3},
        "scheduler": {"name": "none"},
        "search": {"name": "random"},
        **changes,
    }
    request = TuneRequest(
        space=space,
        space_path="memory",
        data="delta",
        target="log10_bulk_modulus",
        split=SPLIT,
        concurrency=1,
    )
    tune(request, folder / name)
    return folder / name


def small_gpu(epoch: int = 1) -> type[TrialRunner]:
    """Give a runner of trials in whose process large batches do not fit from an epoch on."""

    class SmallGPU(TrialRunner):
        def step(self) -> dict[str, Any]:
            from raymat.training.gradient import GradientFit as Fitting

            whole = Fitting._step

            def limited(fit: GradientFit, rows: Any) -> Any:
                if len(rows) > 8 and fit.epoch + 1 >= epoch:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return whole(fit, rows)

            Fitting._step = limited  # type: ignore[method-assign]
            try:
                return super().step()
            finally:
                Fitting._step = whole  # type: ignore[method-assign]

    return SmallGPU


@pytest.mark.long
def test_search_records_the_batches_that_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = search(folder, "small", MOST)
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "TrialRunner", small_gpu())
        found = search(folder, "large", 4 * MOST)
    events = read_events(found / "events.jsonl")
    halved = [(e["trial"], e["batch_size"]) for e in events if e["event"] == "batch_halved"]
    assert halved == [(0, 2 * MOST), (0, MOST)]
    kept = ["trial_id", "status", "val_mae", "epochs", "config.training.batch_size"]
    tables = [pd.read_parquet(run / "trials.parquet")[kept] for run in (found, expected)]
    pd.testing.assert_frame_equal(*tables)
    best = yaml.safe_load((found / "best.yaml").read_text(encoding="utf-8"))
    assert best["config"]["training.batch_size"] == MOST
    for name in ("predictions.parquet", "curves.parquet"):
        tables = [
            pd.read_parquet(run / name).drop(columns=["time_s", "train_time_s"], errors="ignore")
            for run in (found, expected)
        ]
        pd.testing.assert_frame_equal(*tables)


def test_halved_trial_begins_anew_in_the_log() -> None:
    begun = {"trial": 0, "seed": 0, "values": {"training.lr": 0.1}, "config": {"training.lr": 0.1}}
    metrics = {"train_loss": 1.0, "val_score": 1.0, "time_s": 1.0, "train_time_s": 1.0}
    first = {"event": "epoch", "trial": 0, "epoch": 1, "facts": {}, **metrics}
    halved = {"event": "batch_halved", "trial": 0, "batch_size": 4}
    study = Study.from_events([{"event": "trial_started", **begun}, first, halved], "regression")
    trial = study.trials[0]
    assert trial.epochs == []
    assert trial.values == {"training.lr": 0.1, "training.batch_size": 4}
    study.take({**first, "val_score": 0.5})
    assert [m.val_score for m in trial.epochs] == [0.5]


@pytest.mark.long
def test_asha_and_the_tables_count_the_epochs_of_the_batches_that_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out in the second epoch: nothing of the first one is left anywhere."""
    asha = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    changes = {"budget": {"trials": 4, "epochs": 4}, "scheduler": asha}
    expected = search(folder, "asha-small", MOST, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "TrialRunner", small_gpu(epoch=2))
        found = search(folder, "asha-large", 2 * MOST, **changes)
    kept = ["trial_id", "status", "val_mae", "epochs", "config.training.batch_size"]
    tables = [pd.read_parquet(run / "trials.parquet")[kept] for run in (found, expected)]
    went_on = tables[0]["epochs"] > 1  # the others were stopped before memory ran out
    assert went_on[0]
    assert set(tables[0].loc[went_on, "config.training.batch_size"]) == {MOST}
    assert set(tables[0].loc[~went_on, "config.training.batch_size"]) <= {MOST, 2 * MOST}
    curves = pd.read_parquet(found / "curves.parquet")
    for trial, own in curves.groupby("trial_id"):
        assert own["epoch"].tolist() == list(range(1, len(own) + 1)), trial
    default = [
        pd.read_parquet(run / "curves.parquet").query("trial_id == '0000'")["val_mae"].tolist()
        for run in (found, expected)
    ]
    assert default[0] == default[1]
