"""A comparison of classes on a real local Ray; one model diverges, one cannot read a crystal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import (
    CONTRACT,
    TINY_CGCNN,
    Comparison,
    failure_of,
    of_kind,
    searched_lr,
    write_space,
)
from conftest import TINY, make_crystal

from raymat.cluster.compare import (
    CompareRequest,
)
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.writers import write_crystals
from raymat.models import _svr_forecast
from raymat.tracking.events import Event
from raymat.training.metrics import score_predictions
from raymat.training.model_files import load_model
from raymat.tuning.comparison_plan import parse_plan

pytestmark = pytest.mark.long

SMALL_SIZE = 10
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
