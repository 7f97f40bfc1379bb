"""A comparison of numbers on a real local Ray: every cell is what the plan says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import (
    CONTRACT,
    EPOCHS,
    TARGET,
    TINY_CGCNN,
    TRIALS,
    Comparison,
    failure_of,
    of_kind,
    searched_lr,
    write_space,
)

from raymat.cluster.compare import (
    SEEDS_PER_REPETITION,
    CompareRequest,
    compare,
    resume_compare,
)
from raymat.data.readers import load_crystals
from raymat.errors import ConfigError, RunError
from raymat.features.store import find_or_build
from raymat.tracking.events import Event, read_events
from raymat.tracking.run_directory import RunDirectory
from raymat.training.metrics import score_predictions
from raymat.training.model_files import load_model
from raymat.tuning import forecast
from raymat.tuning.comparison_cells import Cell
from raymat.tuning.comparison_plan import parse_plan

BLOCKED = f"{TARGET}-r0-nall-soap_svr-tuned"  # the cell whose folder cannot be made
BROKEN = f"{TARGET}-r0-nall-soap_svr-default"  # the cell whose log nobody expects
SAME_NUMBER = 1e-6  # float32 sums in batches of another size


def put_in_the_way(path: Path) -> None:
    """Put a file where a cell wants its folder, and into another folder a log that is none."""
    (path / "cells" / BROKEN).mkdir(parents=True)
    (path / "cells" / BROKEN / "run.json").write_text("{}", encoding="utf-8")
    (path / "cells" / BROKEN / "events.jsonl").write_text("5\n", encoding="utf-8")
    (path / "cells" / BLOCKED).touch()


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
        *(".lock", "cells", "comparison.csv", "events.jsonl", "rejected.csv", "run.json"),
    ]
    cells = sorted(p.name for p in (regression.path / "cells").iterdir())
    assert cells == sorted(cell.name for cell in regression.plan.cells())
    for name in cells:  # neither checkpoints nor Ray's own records are left
        (baselines,) = regression.cell(name).glob("baselines-*.parquet")
        assert list(pd.read_parquet(baselines)) == ["material_id", "target", "mean", "composition"]
        assert sorted(p.name for p in regression.cell(name).iterdir()) == [
            *(".lock", baselines.name, "best", "best.yaml", "curves.parquet", "events.jsonl"),
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
    cells = regression.path / "cells"
    assert failed[BLOCKED].startswith(f"{cells / BLOCKED}/events.jsonl: cannot be read (")
    damaged = "line 1: damaged (expected a JSON object, found int)"
    assert failed[BROKEN].startswith(f"{cells / BROKEN}/events.jsonl, {damaged}")
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
