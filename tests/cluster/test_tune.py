"""One whole search on a real local Ray: what it leaves behind, and that it is true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from spaces import small_space

from raymat.cluster.tune import resume_tune, tune
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig, make_split, read_split
from raymat.errors import RunError
from raymat.features.store import FeatureStore, find_or_build
from raymat.tracking.events import Event, read_events
from raymat.training.fit import FitData
from raymat.training.metrics import score_predictions
from raymat.training.model_files import load_model
from raymat.tuning.request import TuneRequest
from raymat.tuning.trial import Trial, run_to_epoch
from raymat.tuning.trial_config import TrialConfig

TRIALS, EPOCHS = 6, 4
TARGET = "log10_bulk_modulus"
SAME_NUMBER = 1e-6  # float32 sums in batches of another size


class Run:
    """A finished run and what was heard while it went."""

    def __init__(self, path: Path, heard: list[Event], metrics: dict[str, Any]) -> None:
        self.path, self.heard, self.metrics = path, heard, metrics
        self.events = read_events(path / "events.jsonl")
        self.trials = pd.read_parquet(path / "trials.parquet").set_index("trial_id")
        self.curves = pd.read_parquet(path / "curves.parquet")
        self.predictions = pd.read_parquet(path / "predictions.parquet")
        self.header = json.loads((path / "run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    space = small_space(
        budget={"trials": TRIALS, "epochs": EPOCHS},
        scheduler={"name": "asha", "grace_period": 1, "reduction_factor": 2},
    )
    request = TuneRequest(
        space=dict(space.content),
        space_path=space.path,
        data="delta",
        target=TARGET,
        split=SplitConfig(),
        concurrency=1,
    )
    folder = tmp_path_factory.mktemp("tune")
    heard: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        metrics = tune(request, folder / "run", listeners=(heard.append,))
        yield Run(folder / "run", heard, metrics)


def test_run_directory_holds_the_contract_and_nothing_else(run: Run) -> None:
    assert sorted(p.name for p in run.path.iterdir()) == [
        ".lock",
        "best",
        "best.yaml",
        "curves.parquet",
        "events.jsonl",
        "latent_map.parquet",
        "metrics.json",
        "predictions.parquet",
        "rejected.csv",
        "run.json",
        "split.parquet",
        "trials.parquet",
    ]
    assert sorted(p.name for p in (run.path / "best").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    assert list(pd.read_csv(run.path / "rejected.csv").columns) == ["material_id", "reason"]


def test_run_json_says_what_was_run(run: Run) -> None:
    header = run.header
    assert header["command"] == "tune"
    assert header["status"] == "complete"
    assert header["seed"] == 0
    assert header["device"] in ("cpu", "cuda")
    assert {"python", "raymat", "ray", "torch", "optuna"} <= set(header["versions"])
    assert {"host", "started", "ended", "arguments"} <= set(header)
    assert header["data"]["n_used"] == 71
    assert len(header["data"]["sha256"]) == 64
    assert header["split"]["kind"] == "random"
    assert header["split"]["sha256"] == read_split(run.path / "split.parquet").sha256
    assert TuneRequest.model_validate(header["arguments"]).target == TARGET


def test_every_trial_has_a_row(run: Run) -> None:
    trials = run.trials
    assert list(trials.index) == [f"{n:04d}" for n in range(TRIALS)]
    assert set(trials["status"]) <= {"complete", "stopped"}
    assert {"val_mae", "best_epoch", "epochs", "time_s", "n_parameters", "host", "device"} <= set(
        trials.columns
    )
    assert {f"config.{key}" for key in ("model.n_conv", "training.lr", "model.cutoff")} <= set(
        trials.columns
    )
    assert trials["error"].isna().all()
    assert (trials["n_parameters"] > 0).all()
    assert (trials["time_s"] > 0).all()


def test_trial_0_is_the_default_and_is_trained_to_its_end(run: Run) -> None:
    default = run.trials.loc["0000"]
    assert default["status"] == "complete"
    assert default["epochs"] == EPOCHS
    fixed = {"model.atom_dim": 8, "model.n_conv": 1, "model.hidden_dim": 8}
    searched = {"training.lr": 0.01, "training.optimizer": "sgd", "training.momentum": 0.9}
    for key, value in {**fixed, **searched}.items():
        assert default[f"config.{key}"] == value


def test_asha_stops_trials_at_its_rungs(run: Run) -> None:
    stopped = run.trials[run.trials["status"] == "stopped"]
    assert len(stopped) >= 1
    assert set(stopped["epochs"]) <= {1, 2}  # rungs at 1, 2 and 4 epochs
    assert run.trials.loc[run.trials["status"] == "complete", "epochs"].eq(EPOCHS).all()


def test_curves_are_whole_and_agree_with_the_trials(run: Run) -> None:
    columns = ["trial_id", "epoch", "train_loss", "val_mae", "time_s", "train_time_s"]
    assert list(run.curves.columns) == columns
    assert not run.curves.duplicated(["trial_id", "epoch"]).any()
    for trial_id, curve in run.curves.groupby("trial_id"):
        row = run.trials.loc[trial_id]
        assert list(curve["epoch"]) == list(range(1, row["epochs"] + 1))
        best = curve.loc[curve["val_mae"].idxmin()]
        assert (best["epoch"], best["val_mae"]) == (row["best_epoch"], row["val_mae"])


def test_winner_is_the_best_validation_epoch(run: Run) -> None:
    winner = run.metrics["winner"]
    best = run.trials["val_mae"].idxmin()
    assert f"{winner['trial']:04d}" == best
    assert winner["epoch"] == run.trials.loc[best, "best_epoch"]


def test_refit_repeats_the_winning_trial_bit_by_bit(run: Run) -> None:
    winner = run.metrics["winner"]
    assert winner["val_score_refitted"] == winner["val_score_in_search"]
    assert winner["val_score_in_search"] == run.trials["val_mae"].min()


def test_metrics_hold_the_contract(run: Run) -> None:
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == run.metrics
    assert (metrics["target"], metrics["unit"]) == (TARGET, "log10(GPa)")
    parts = [metrics["test"], metrics["validation"], metrics["default"]]
    for scores in (*parts, metrics["baselines"]["mean"], metrics["baselines"]["composition"]):
        assert {"mae", "rmse", "r2", "n", "mae_ci95"} <= set(scores)
        low, high = scores["mae_ci95"]
        assert low <= scores["mae"] <= high
    assert metrics["leakage"] == {"n_test": 7, "n_formula": 0, "n_formula_spacegroup": 0}


def test_verdict_is_of_the_same_rows_as_the_scores(run: Run) -> None:
    metrics, verdict = run.metrics, run.metrics["verdict"]
    others = {**metrics["baselines"], "default": metrics["default"]}
    assert set(verdict) == {"metric", "n", *others}
    for name, scores in others.items():
        own = verdict[name]
        assert own["difference"] == pytest.approx(metrics["test"]["mae"] - scores["mae"])
        assert own["lo"] <= own["difference"] <= own["hi"]
    own = verdict["default"]
    assert metrics["difference"] == {"mae": own["difference"], "mae_ci95": [own["lo"], own["hi"]]}


def test_scores_follow_from_the_predictions(run: Run) -> None:
    for part in ("test", "validation"):
        rows = run.predictions[run.predictions["part"] == part]
        scores = score_predictions(
            "regression", rows["target"].to_numpy(), rows["prediction"].to_numpy()
        )
        assert scores == run.metrics[part]


def test_stored_model_predicts_what_was_stored(run: Run) -> None:
    model = load_model(run.path / "best")
    loaded = load_crystals("delta", target=TARGET, max_rejected=0.0)
    table = find_or_build(loaded.crystals, model.view.table_config)
    stored = run.predictions.set_index("material_id").loc[loaded.crystals.material_ids]
    np.testing.assert_allclose(model.predict(table), stored["prediction"], atol=SAME_NUMBER)


def test_search_cannot_see_the_test_rows(run: Run) -> None:
    """The winner trained here, its test targets unknown, gives the same validation errors."""
    crystals = load_crystals("delta", target=TARGET, max_rejected=0.0).crystals
    split = make_split(crystals, SplitConfig())
    assert split.sha256 == run.header["split"]["sha256"]
    targets = crystals.target(TARGET).copy()
    targets[split.rows("test")] = np.nan
    content = yaml.safe_load((run.path / "best.yaml").read_text(encoding="utf-8"))
    config = TrialConfig.from_dict(content, where="best.yaml")
    data = FitData(
        features=FeatureStore(crystals),
        targets=targets,
        train=split.rows("train"),
        validation=split.rows("validation"),
        task="regression",
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    trial = Trial(config, data, seed=content["seed"], folder=run.path.parent / "again")
    scores = [m.val_score for m in run_to_epoch(trial).history]
    torch.set_num_threads(before)
    number = f"{run.metrics['winner']['trial']:04d}"
    curve = run.curves[run.curves["trial_id"] == number]["val_mae"].tolist()
    assert scores[: len(curve)] == curve


def test_one_trial_at_a_time(run: Run) -> None:
    running: set[int] = set()
    for event in run.events:
        if event["event"] == "trial_started":
            running.add(event["trial"])
        elif event["event"] == "trial_ended":
            running.remove(event["trial"])
        assert len(running) <= 1


def test_trials_share_one_process(run: Run) -> None:
    assert len({e["facts"]["pid"] for e in run.events if e["event"] == "epoch"}) == 1


def test_test_rows_are_scored_once_and_last(run: Run) -> None:
    kinds = [event["event"] for event in run.events]
    assert kinds.count("scored") == 1
    assert kinds[-2:] == ["scored", "run_ended"]
    assert "test" not in json.dumps([e for e in run.events if e["event"] == "epoch"])


def test_listeners_hear_what_is_logged(run: Run) -> None:
    logged = [event for event in run.heard if event["event"] != "features"]
    assert logged == run.events


def test_complete_run_is_not_run_again(run: Run) -> None:
    before = len(run.events)
    assert resume_tune(run.path) == run.metrics
    kinds = [e["event"] for e in read_events(run.path / "events.jsonl")[before:]]
    assert kinds == ["run_ended"]


def test_second_run_into_the_folder_is_refused(run: Run) -> None:
    request = TuneRequest.model_validate(run.header["arguments"])
    with pytest.raises(RunError, match=r"the folder exists and is not empty"):
        tune(request, run.path)
