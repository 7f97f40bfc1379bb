"""Two comparisons on a real local Ray: every cell is what the plan says."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TINY, make_crystal

from raymat.cluster.compare import (
    SEEDS_PER_REPETITION,
    CompareRequest,
    compare,
    resume_compare,
)
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, RunError
from raymat.features.store import find_or_build
from raymat.models import _svr_forecast
from raymat.tracking.events import Event, read_events
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.metrics import score_predictions
from raymat.training.model_files import load_model
from raymat.tuning import forecast
from raymat.tuning.comparison_cells import Cell, ComparisonPlan
from raymat.tuning.comparison_plan import parse_plan

TRIALS, EPOCHS = 2, 2
SMALL_SIZE = 10
TARGET = "log10_bulk_modulus"
BLOCKED = f"{TARGET}-r0-nall-soap_svr-tuned"  # the cell whose folder cannot be made
BROKEN = f"{TARGET}-r0-nall-soap_svr-default"  # the cell whose log nobody expects
SAME_NUMBER = 1e-6  # float32 sums in batches of another size
CONTRACT = [
    *("model", "property", "unit", "setting", "repetition", "n_train", "n_test", "mae", "rmse"),
    *("r2", "train_time_s", "featurize_time_s", "n_parameters", "model_bytes", "device"),
]
TINY_CGCNN = {"model.atom_dim": 8, "model.n_conv": 1, "model.hidden_dim": 8}


def write_space(path: Path, model: str, searched: Any, **fixed: Any) -> str:
    content = {
        "model": model,
        "space": searched,
        "fixed": fixed,
        "budget": {"trials": TRIALS, "epochs": EPOCHS},
        "scheduler": {"name": "none"},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def searched_lr(low: float, high: float) -> dict[str, Any]:
    return {"training.lr": {"log_uniform": [low, high]}}


@dataclass
class Comparison:
    """A comparison in its run directory, and what was heard of it."""

    plan: ComparisonPlan
    path: Path
    failure: str
    first_table: pd.DataFrame
    heard: list[Event]

    @property
    def events(self) -> list[Event]:
        return read_events(self.path / "events.jsonl")

    def cell(self, name: str) -> Path:
        return self.path / "cells" / name

    def log(self, name: str) -> list[Event]:
        return read_events(self.cell(name) / "events.jsonl")

    def trials(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.cell(name) / "trials.parquet")

    def predictions(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.cell(name) / "predictions.parquet")

    def ids(self, name: str, part: str) -> list[str]:
        table = self.predictions(name)
        return sorted(table.loc[table["part"] == part, "material_id"])


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def put_in_the_way(path: Path) -> None:
    """Put a file where a cell wants its folder, and into another folder a log that is none."""
    (path / "cells" / BROKEN).mkdir(parents=True)
    (path / "cells" / BROKEN / "run.json").write_text("{}", encoding="utf-8")
    (path / "cells" / BROKEN / "events.jsonl").write_text("no log\n", encoding="utf-8")
    (path / "cells" / BLOCKED).touch()


def failure_of(request: CompareRequest, path: Path, *listeners: Listener) -> str:
    with pytest.raises(RunError, match=r"cells failed") as caught:
        compare(request, path, listeners=listeners)
    return str(caught.value)


# --- numbers: default and tuned, two cells that fail at first -------------------------------------


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    folder = tmp_path_factory.mktemp("compare")
    space = write_space(folder / "cgcnn.yaml", "cgcnn", searched_lr(1e-3, 5e-2), **TINY_CGCNN)
    content = {
        "data": "delta",
        "properties": [TARGET],
        "models": {"cgcnn": {"space": space}, "soap_svr": {}},
        "repetitions": 1,
        "first_seed": 3,
        "budget": {"trials": TRIALS, "epochs": EPOCHS},
    }
    plan, path, heard = parse_plan(content, path="plan.yaml"), folder / "run", list[Event]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        request = CompareRequest(plan=plan, concurrency=2)

        def hear(event: Event) -> None:
            heard.append(event)
            if event["event"] == "comparison_started":
                put_in_the_way(path)

        failure = failure_of(request, path, hear)
        first = pd.read_csv(path / "comparison.csv")
        (path / "cells" / BLOCKED).unlink()
        shutil.rmtree(path / "cells" / BROKEN)
        resume_compare(path, listeners=(heard.append,))
        yield Comparison(plan, path, failure, first, heard)


@pytest.fixture
def rows(regression: Comparison) -> pd.DataFrame:
    """`comparison.csv`, by cell."""
    table = pd.read_csv(regression.path / "comparison.csv")
    return table.set_axis([cell.name for cell in regression.plan.cells()])


@pytest.fixture(params=range(4))
def cell(request: pytest.FixtureRequest, regression: Comparison) -> Cell:
    return regression.plan.cells()[request.param]


def test_one_row_per_cell_with_the_columns_of_the_contract(
    regression: Comparison, rows: pd.DataFrame
) -> None:
    assert list(rows.columns[: len(CONTRACT)]) == CONTRACT
    cells = regression.plan.cells()
    assert len(rows) == len(cells) == 4
    for cell, row in zip(cells, rows.to_dict("records"), strict=True):
        found = (row["model"], row["property"], row["setting"], row["repetition"])
        assert found == (cell.model, cell.property, cell.setting, cell.repetition)
        assert (row["n_train"], row["training_size"]) == (57, "all")
    assert set(rows["unit"]) == {"log10(GPa)"}
    assert set(rows["device"]) <= {"cpu", "cuda"}
    costs = ["train_time_s", "featurize_time_s", "n_parameters", "model_bytes", "search_time_s"]
    assert (rows[costs] > 0).all(axis=None)


def test_run_directory(regression: Comparison) -> None:
    assert sorted(p.name for p in regression.path.iterdir()) == [
        *(".lock", "cells", "comparison.csv", "errors", "events.jsonl", "rejected.csv"),
        "run.json",
    ]
    cells = sorted(p.name for p in (regression.path / "cells").iterdir())
    assert cells == sorted(cell.name for cell in regression.plan.cells())
    for name in cells:  # neither checkpoints nor Ray's own records are left
        assert sorted(p.name for p in regression.cell(name).iterdir()) == [
            *(".lock", "best", "best.yaml", "curves.parquet", "events.jsonl"),
            "predictions.parquet",
            *("run.json", "split.parquet", "trials.parquet"),
        ]


def test_scores_follow_from_the_predictions(
    regression: Comparison, rows: pd.DataFrame, cell: Cell
) -> None:
    table = regression.predictions(cell.name)
    test = table[table["part"] == "test"]
    targets, found = test["target"].to_numpy(), test["prediction"].to_numpy()
    scores = score_predictions("regression", targets, found)
    row = rows.loc[cell.name]
    assert row["n_test"] == len(test) == 7
    assert row["mae"] == pytest.approx(np.abs(targets - found).mean(), rel=1e-12)
    for name in ("mae", "rmse", "r2"):
        assert row[name] == pytest.approx(scores[name], rel=1e-12)


def test_winner_is_the_best_on_validation_rows(
    regression: Comparison, rows: pd.DataFrame, cell: Cell
) -> None:
    trials, row = regression.trials(cell.name), rows.loc[cell.name]
    assert row["val_score"] == trials["val_mae"].min()
    assert row["trial"] == trials["val_mae"].idxmin()
    table = regression.predictions(cell.name)
    validation = table[table["part"] == "validation"]
    again = (validation["prediction"] - validation["target"]).abs().mean()
    assert again == pytest.approx(row["val_score"], rel=SAME_NUMBER)  # these weights, no others


def test_every_trial_is_one_of_its_cell(regression: Comparison, cell: Cell) -> None:
    """Ray Tune finds what to train by name in a whole job; cells at one time must not mix."""
    space = regression.plan.model_plan(cell.model).search_space()
    trials = regression.trials(cell.name)
    keys = {name.removeprefix("config.") for name in trials if name.startswith("config.")}
    default = space.configure(space.default())
    assert keys == set(default.flat())
    assert set(trials["status"]) == {"complete"}
    is_closed = cell.model == "soap_svr"
    assert len(trials) == (1 if is_closed and cell.setting == "default" else TRIALS)
    assert set(trials["epochs"]) == {1 if is_closed else EPOCHS}
    seed = 3 * SEEDS_PER_REPETITION  # of the first trial of the first repetition
    assert list(trials["seed"]) == [seed + number for number in range(len(trials))]
    searched = [f"config.{key}" for key in space.default()]
    n_default = len(trials) if cell.setting == "default" else 1
    for column in searched:
        value = default.flat()[column.removeprefix("config.")]
        assert (trials[column].iloc[:n_default] == value).all()
    if cell.setting == "tuned":
        assert (trials[searched].iloc[1] != trials[searched].iloc[0]).any()


def test_log_of_a_cell_has_every_trial_and_epoch_once(regression: Comparison, cell: Cell) -> None:
    events = regression.log(cell.name)
    started = [event["trial"] for event in of_kind(events, "trial_started")]
    assert started == list(range(len(regression.trials(cell.name))))
    epochs = [(event["trial"], event["epoch"]) for event in of_kind(events, "epoch")]
    n_epochs = 1 if cell.model == "soap_svr" else EPOCHS
    assert sorted(epochs) == [(t, e + 1) for t in started for e in range(n_epochs)]
    assert len(of_kind(events, "scored")) == 1


def test_stored_model_is_that_of_its_cell(regression: Comparison, cell: Cell) -> None:
    model = load_model(regression.cell(cell.name) / "best")
    assert (model.name, model.target, model.unit) == (cell.model, TARGET, "log10(GPa)")
    crystals = load_crystals("delta", target=TARGET, max_rejected=0.0).crystals
    cache = regression.path.parent / "cache"
    table = find_or_build(crystals, model.view.table_config, cache=cache)
    stored = regression.predictions(cell.name).set_index("material_id")["prediction"]
    predicted = pd.Series(model.predict(table), index=crystals.material_ids)[stored.index]
    np.testing.assert_allclose(predicted, stored, atol=SAME_NUMBER)


def test_best_of_n_stands_against_the_best_of_n(rows: pd.DataFrame) -> None:
    spent = rows.groupby(["model", "setting"])["n_trials"].agg(set).to_dict()
    assert spent == {
        ("cgcnn", "default"): {TRIALS},
        ("cgcnn", "tuned"): {TRIALS},
        ("soap_svr", "default"): {1},  # nothing in it depends on the seed
        ("soap_svr", "tuned"): {TRIALS},
    }
    assert (rows["n_trials_complete"] == rows["n_trials"]).all()
    assert (rows["n_trials_failed"] == 0).all()
    n_epochs = rows["n_trials"] * np.where(rows["model"] == "cgcnn", EPOCHS, 1)
    assert (rows["n_epochs"] == n_epochs).all()


def test_default_also_has_the_score_of_a_single_training(rows: pd.DataFrame) -> None:
    default = rows["setting"] == "default"
    assert rows.loc[default, "first_mae"].notna().all()
    assert rows.loc[~default, "first_mae"].isna().all()
    won_at_once = rows[default & (rows["trial"] == 0)]
    assert len(won_at_once) >= 1  # that of soap_svr
    assert (won_at_once["first_mae"] == won_at_once["mae"]).all()


def test_cells_ran_at_the_same_time(regression: Comparison) -> None:
    """Without which the tests above prove less."""
    running, most = set[str](), 0
    for event in regression.events:
        if event["event"] == "cell_started":
            running.add(event["cell"])
        elif event["event"] in ("cell_ended", "cell_failed"):
            running.discard(event["cell"])
        most = max(most, len(running))
    assert most == 2


def test_failed_cell_does_not_stop_the_others(regression: Comparison, rows: pd.DataFrame) -> None:
    assert regression.failure.startswith(
        f"2 of 4 cells failed (the first: {TARGET}-r0-nall-soap_svr-"
    )
    assert "`raymat resume` tries the failed ones again" in regression.failure
    assert "\n" not in regression.failure
    failed = {e["cell"]: e["error"] for e in of_kind(regression.events, "cell_failed")}
    assert set(failed) == {BLOCKED, BROKEN}
    assert failed[BLOCKED].startswith(f"{regression.path}/cells/{BLOCKED}: cannot be written")
    assert failed[BROKEN].startswith("JSONDecodeError: Expecting value")
    assert failed[BROKEN].endswith(f"(see errors/{BROKEN}.txt)")
    text = (regression.path / "errors" / f"{BROKEN}.txt").read_text(encoding="utf-8")
    assert "Traceback" in text or "run_cell" in text
    others = rows.drop([BLOCKED, BROKEN]).reset_index(drop=True)
    pd.testing.assert_frame_equal(regression.first_table, others)  # resuming changed no row


def test_resume_runs_only_what_is_left(regression: Comparison) -> None:
    ended = [event["cell"] for event in of_kind(regression.events, "cell_ended")]
    assert sorted(ended) == sorted(cell.name for cell in regression.plan.cells())
    begun = [event["cell"] for event in of_kind(regression.events, "cell_started")]
    assert begun.count(BLOCKED) == begun.count(BROKEN) == 2
    assert len(begun) == 4 + 2
    starts = of_kind(regression.events, "comparison_started")
    assert [(event["cells"], event["done"]) for event in starts] == [(4, 0), (4, 2)]
    assert [e["status"] for e in of_kind(regression.events, "run_ended")] == ["failed", "complete"]


def test_listeners_hear_what_is_logged(regression: Comparison) -> None:
    assert [e for e in regression.heard if e["event"] != "features"] == regression.events


# --- classes, a crystal that one model cannot read, a model that diverges -------------------------


ISOLATED = "lone-argon"


def write_data(path: Path) -> str:
    """Write 32 crystals, half of them of class 1, and an atom 6 Å from its neighbors."""
    crystals, targets = [], []
    for number, scale in enumerate(np.linspace(0.93, 1.07, 8)):
        for name in TINY:
            c = make_crystal(name, float(scale))
            crystals.append(Crystal(f"{name}-{number}", c.lattice, c.atomic_numbers, c.frac_coords))
            targets.append(float(scale) + 0.001 * len(crystals))
    lone = Crystal(ISOLATED, np.eye(3) * 6.0, np.array([18], dtype=np.uint8), np.zeros((1, 3)))
    table = pd.DataFrame({"stretch": [*targets, 1.0]})
    write_crystals(CrystalSet.from_crystals([*crystals, lone], table), path)
    return str(path)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    folder = tmp_path_factory.mktemp("classes")
    megnet = write_space(folder / "megnet.yaml", "megnet", searched_lr(1e-3, 1e-2))
    diverging = write_space(
        folder / "cgcnn.yaml", "cgcnn", {"model.n_hidden": {"int": [1, 2]}},
        **{**TINY_CGCNN, "training.lr": 10.0, "training.weight_decay": 10.0},
    )  # fmt: skip
    content = {
        "properties": {
            "stretch": {"data": write_data(folder / "crystals.parquet"), "classes": "median"}
        },
        "models": {"megnet": {"space": megnet}, "cgcnn": {"space": diverging}, "soap_svr": {}},
        "settings": ["default"],
        "repetitions": 1,
        "training_sizes": [SMALL_SIZE, "all"],
        "budget": {"trials": 1, "epochs": 8},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
    }
    plan, path, heard = parse_plan(content, path="plan.yaml"), folder / "run", list[Event]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setattr(_svr_forecast, "WARN_ROWS", 15)
        request = CompareRequest(plan=plan)
        failure = failure_of(request, path, heard.append)
        yield Comparison(plan, path, failure, pd.read_csv(path / "comparison.csv"), heard)


def test_classes_have_their_own_scores(classes: Comparison) -> None:
    table = classes.first_table
    assert list(table.columns[: len(CONTRACT)]) == CONTRACT
    assert list(table["model"]) == ["megnet", "soap_svr"] * 2
    assert set(table["task"]) == {"classification"}
    for row in table.to_dict("records"):
        name = f"stretch-r0-n{row['training_size']}-{row['model']}-default"
        predictions = classes.predictions(name)
        test = predictions[predictions["part"] == "test"]
        targets, found = test["target"].to_numpy(), test["prediction"].to_numpy()
        assert set(targets) == {0.0, 1.0}
        assert test["prediction"].between(0.0, 1.0).all()
        scores = score_predictions("classification", targets, found)
        for score in ("auc", "accuracy", "accuracy_0", "accuracy_1"):
            assert row[score] == pytest.approx(scores[score], rel=1e-12)
        assert np.isnan([row[score] for score in ("mae", "rmse", "r2", "first_mae")]).all()
        assert row["first_auc"] == row["auc"]  # there was one seed
        assert row["val_score"] == classes.trials(name)["val_auc"].max()
        assert load_model(classes.cell(name) / "best").name == row["model"]


def test_all_models_have_the_same_rows(classes: Comparison) -> None:
    names = [cell.name for cell in classes.plan.cells() if cell.model != "cgcnn"]
    for part in ("validation", "test"):  # of all training sizes, too
        assert len({tuple(classes.ids(name, part)) for name in names}) == 1
    for size in ("all", SMALL_SIZE):
        of_size = [name for name in names if f"-n{size}-" in name]
        assert len(of_size) == 2
        assert len({tuple(classes.ids(name, "train")) for name in of_size}) == 1


def test_smaller_training_subset_lies_in_the_larger(classes: Comparison) -> None:
    small = set(classes.ids(f"stretch-r0-n{SMALL_SIZE}-megnet-default", "train"))
    whole = set(classes.ids("stretch-r0-nall-megnet-default", "train"))
    assert len(small) == SMALL_SIZE < len(whole) == 16
    assert small < whole
    assert list(classes.first_table["n_train"]) == [16, 16, SMALL_SIZE, SMALL_SIZE]


def test_crystal_that_one_model_cannot_read_is_left_out_for_all(classes: Comparison) -> None:
    rejected = pd.read_csv(classes.path / "rejected.csv")
    assert rejected.to_dict("records") == [
        {
            "material_id": ISOLATED,
            "reason": "no atom has a neighbor within 4 Å",
            "property": "stretch",
        }
    ]
    for model in ("megnet", "soap_svr"):
        predictions = classes.predictions(f"stretch-r0-nall-{model}-default")
        assert len(predictions) == 32
        assert ISOLATED not in set(predictions["material_id"])


def test_slow_fits_are_told_before_the_first_cell(classes: Comparison) -> None:
    kinds = [event["event"] for event in classes.events]
    assert kinds.index("warning") < kinds.index("cell_started")
    (warning,) = of_kind(classes.events, "warning")  # of soap_svr; the networks have none
    assert warning["text"].startswith("stretch: soap_svr: a fit to 16 crystals will take about ")


def test_model_that_diverges_fails_alone(classes: Comparison) -> None:
    failed = {e["cell"]: e["error"] for e in of_kind(classes.events, "cell_failed")}
    assert set(failed) == {f"stretch-r0-n{size}-cgcnn-default" for size in ("all", SMALL_SIZE)}
    assert classes.failure.startswith("2 of 6 cells failed (the first: stretch-r0-n")
    for name, error in failed.items():
        assert error.startswith("none of 1 trials finished an epoch; the first error was: training")
        trials = classes.trials(name)
        assert list(trials["status"]) == ["failed"]
        assert list(trials["config.model.n_conv"]) == [1]
        assert not (classes.cell(name) / "best").exists()


# --- what is refused ------------------------------------------------------------------------------


def planned_request() -> CompareRequest:
    content = {
        "data": "delta",
        "properties": [TARGET],
        "models": ["soap_svr"],
        "repetitions": 1,
        "budget": {"trials": 1},
    }
    return CompareRequest(plan=parse_plan(content, path="plan.yaml"))


def test_data_that_have_changed_since_the_run_began(tmp_path: Path) -> None:
    arguments = planned_request().model_dump(mode="json")
    with RunDirectory.create(tmp_path, {"command": "compare", "arguments": arguments}) as run:
        run.emit("inputs", target=TARGET, data={"sha256": "0123456789abcdef"})
    with pytest.raises(RunError, match=r"^delta: the data have changed .*, was 0123456789ab\)"):
        resume_compare(tmp_path)


def test_run_of_another_command(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, {"command": "tune"}):
        pass
    with pytest.raises(RunError, match=r"a tune run, not a compare run"):
        resume_compare(tmp_path)


@pytest.mark.slow
def test_what_does_not_fit_into_memory_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(forecast, "available_memory", lambda: 1_000_000)
    with pytest.raises(ConfigError, match=r"^SOAP vectors of .* for 71 crystals take up to"):
        compare(planned_request(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()  # nothing was computed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_diverged_cell_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    space = write_space(
        tmp_path / "cgcnn.yaml", "cgcnn", {"model.n_hidden": {"int": [1, 2]}},
        **{**TINY_CGCNN, "training.lr": 10.0, "training.weight_decay": 10.0},
    )  # fmt: skip
    content = {
        "data": "delta",
        "properties": [TARGET],
        "models": {"cgcnn": {"space": space}},
        "settings": ["default"],
        "repetitions": 1,
        "budget": {"trials": 1, "epochs": 8},
    }
    request = CompareRequest(plan=parse_plan(content, path="plan.yaml"))
    path, cell = tmp_path / "run", f"{TARGET}-r0-nall-cgcnn-default"
    assert failure_of(request, path).startswith(f"1 of 1 cells failed (the first: {cell}: none of")
    assert list(pd.read_csv(path / "comparison.csv").columns) == CONTRACT  # and no row
    first = read_events(path / "cells" / cell / "events.jsonl")
    with pytest.raises(RunError, match=r"1 of 1 cells failed"):
        resume_compare(path)
    again = read_events(path / "cells" / cell / "events.jsonl")
    assert again[0]["time"] > first[-1]["time"]
    for events in (first, again):
        assert len(of_kind(events, "trial_started")) == 1
    assert [e["cell"] for e in of_kind(read_events(path / "events.jsonl"), "cell_started")] == [
        cell,
        cell,
    ]
