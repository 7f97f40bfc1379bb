"""How members are combined and scored, on members whose predictions are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_ensembles import Floats, Made, make_ensemble, write_sixty

from raymat.data.splits import SplitConfig
from raymat.ensembles.selection import select_members
from raymat.ensembles.stored import load_ensemble
from raymat.ensembles.validation import divide_validation
from raymat.errors import DataError
from raymat.features.store import FeatureStore
from raymat.training.inputs import RunInputs

SAME = 1e-12  # sums of doubles in another order
N_ROWS = {"train": 30, "validation": 15, "test": 15}


def known_values(inputs: RunInputs, *, n_members: int = 4) -> Floats:
    """Members that err by up to 1, whatever the targets are."""
    rng = np.random.default_rng(5)
    numbers = inputs.crystals.atomic_numbers[inputs.crystals.offsets[:-1]]
    return numbers / 20.0 + rng.normal(0.0, 0.5, (n_members, len(inputs.crystals)))


def known_noise(inputs: RunInputs) -> Floats:
    return 0.1 + np.abs(known_values(inputs)) / 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finish")


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    """Members 0, 2, 3 and 5; 1 failed twice and 2 once."""
    return make_ensemble(
        folder / "run",
        write_sixty(folder / "sixty.parquet"),
        members=(0, 2, 3, 5),
        values=known_values,
        failed=((1, 0), (2, 0), (1, 1), (4, 0), (4, 1)),
    )


def calibration(made: Made) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made.path / "calibration.json").read_text("utf-8"))
    return content


def test_predictions_hold_mean_spread_and_every_member(made: Made) -> None:
    table, values = made.predictions, known_values(made.inputs)
    assert list(table.columns) == [
        *("material_id", "part", "target", "mean", "std", "epistemic", "aleatoric"),
        *("std_recalibrated", "lower_90", "upper_90", "members"),
    ]
    assert table["part"].value_counts().to_dict() == N_ROWS
    assert table["material_id"].tolist() == made.inputs.crystals.material_ids.tolist()
    np.testing.assert_array_equal(np.stack(table["members"]), values.T)
    np.testing.assert_allclose(table["mean"], values.mean(axis=0), rtol=SAME)
    np.testing.assert_allclose(table["std"], values.std(axis=0, ddof=1), rtol=SAME)
    np.testing.assert_array_equal(table["std"], table["epistemic"])
    assert (table["aleatoric"] == 0).all()
    np.testing.assert_array_equal(table["target"], made.inputs.targets)
    fitted = {kind: told["fitted"] for kind, told in calibration(made)["methods"].items()}
    factor = fitted["std_scaling"]["factor"]
    np.testing.assert_allclose(table["std_recalibrated"], factor * table["std"], rtol=SAME)
    scores = [*fitted["split_conformal"]["scores"], np.inf]
    reach = scores[int(np.ceil(len(scores) * 0.9)) - 1]  # Lei et al.: the ceil((n + 1) p)-th
    np.testing.assert_allclose(table["upper_90"] - table["mean"], reach * table["std"], rtol=SAME)
    np.testing.assert_allclose(table["mean"] - table["lower_90"], reach * table["std"], rtol=SAME)


def test_calibration_says_what_it_was_fitted_and_scored_on(made: Made) -> None:
    content = calibration(made)
    assert content["fitted_on"] == {
        "part": "validation",
        "n": N_ROWS["validation"],
        "without_spread": 0,
    }
    assert content["scored_on"] == {"part": "test", "n": N_ROWS["test"], "without_spread": 0}
    assert content["n_members"] == 4
    assert set(content["methods"]) == {"std_scaling", "isotonic", "split_conformal"}
    assert content["before"]["n"] == content["after"]["n"] == N_ROWS["test"]
    assert content["after"] == content["methods"]["std_scaling"]["scores"]
    assert "weighted_on" not in content  # nor are weights in the remark
    assert content["remark"] == (
        "validation rows also chose what a member is (its epoch, a search's configuration), so that"
        " the recalibrated spread may be a little too narrow"
    )


def test_factor_and_scores_follow_from_the_predictions(made: Made) -> None:
    table, content = made.predictions, calibration(made)
    residuals = (table["target"] - table["mean"]) / table["std"]
    validation, test = (table["part"] == part for part in ("validation", "test"))
    factor = float(np.sqrt((residuals[validation] ** 2).mean()))
    assert content["methods"]["std_scaling"]["fitted"]["factor"] == pytest.approx(factor, rel=SAME)
    for key, scale in (("before", 1.0), ("after", factor)):
        std, r = scale * table["std"][test], residuals[test] / scale
        nll = (0.5 * r**2 + np.log(std) + 0.5 * np.log(2 * np.pi)).mean()
        assert content[key]["nll"] == pytest.approx(nll, rel=1e-9)
        assert content[key]["coverage_90"] == pytest.approx((r.abs() < 1.6448536).mean())


def other_targets(made: Made, part: str) -> Any:
    """Give other targets to one part of the same split, and leave all others as they are."""
    table = made.predictions
    chosen = set(table.loc[table["part"] == part, "material_id"])

    def change(table: pd.DataFrame) -> pd.DataFrame:
        is_chosen = table["material_id"].isin(chosen)
        return table.assign(y=table["y"].where(~is_chosen, 3.0 * table["y"] + 1.0))

    return change


@pytest.mark.parametrize("weighting", ["equal", "greedy"])
def test_test_targets_change_nothing_but_the_scores(
    made: Made, tmp_path: Path, weighting: Any
) -> None:
    found = {}
    for part in (None, "validation", "test"):
        change = None if part is None else other_targets(made, part)
        run, data = tmp_path / f"run-{part}", write_sixty(tmp_path / f"{part}.parquet", change)
        again = make_ensemble(run, data, values=known_values, weighting=weighting)
        content = calibration(again)
        fitted = {kind: method["fitted"] for kind, method in content["methods"].items()}
        weights = json.loads((run / "ensemble.json").read_text("utf-8"))["weights"]
        found[part] = ((fitted, weights), content["before"]["nll"])
    assert found["test"][0] == found[None][0]
    assert found["test"][1] != found[None][1]
    assert found["validation"][0][0] != found[None][0][0]
    if weighting == "equal":
        assert found["validation"][1] == found[None][1]  # scored on the same test rows


def test_metrics_compare_the_mean_with_its_members(made: Made) -> None:
    values, test = known_values(made.inputs), made.rows("test")
    errors = np.abs(values - made.inputs.targets)[:, test].mean(axis=1)
    members = made.metrics["members"]
    assert members["planned"] == 6
    assert members["trained"] == 4
    assert members["retried"] == 3
    assert members["failed"] == [1, 4]
    assert members["effective"] == pytest.approx(4.0)
    assert members["test_mae_mean"] == pytest.approx(errors.mean(), rel=SAME)
    assert members["test_mae_std"] == pytest.approx(errors.std(ddof=1), rel=SAME)
    mean_error = np.abs(values.mean(axis=0) - made.inputs.targets)[test].mean()
    assert made.metrics["test"]["mae"] == pytest.approx(mean_error, rel=SAME)
    assert made.metrics["test"]["n"] == N_ROWS["test"]
    assert set(made.metrics["baselines"]) == {"mean", "composition"}
    assert json.loads((made.path / "metrics.json").read_text("utf-8")) == made.metrics


def test_member_table_lists_the_failed_without_weight(made: Made) -> None:
    table = made.members.set_index("member")
    failed = table["status"] == "failed"
    assert failed[failed].index.tolist() == [1, 4]
    assert set(table["status"]) == {"complete", "failed"}
    assert table["weight"].tolist() == [0.25, 0.0, 0.25, 0.25, 0.0, 0.25]
    assert table["attempts"].tolist() == [1, 2, 2, 1, 2, 1]
    assert table.loc[1, "error"] == "training diverged"


def test_curve_ends_with_all_members(made: Made) -> None:
    curve = pd.read_csv(made.path / "member_curve.csv")
    assert curve["n_members"].tolist() == [1, 2, 3, 4]
    assert curve["mae"].iloc[-1] == pytest.approx(made.metrics["test"]["mae"])
    assert curve["mae"].iloc[0] > curve["mae"].iloc[-1]


def test_nothing_is_left_that_predictions_hold(made: Made) -> None:
    files = sorted(str(p.relative_to(made.path)) for p in made.path.glob("members/*/*"))
    assert files == [
        f"members/{number:04d}/{name}"
        for number in (0, 2, 3, 5)
        for name in ("model.json", "model.safetensors")
    ]
    assert not (made.path / "trials").exists()


def test_greedy_weights_are_chosen_and_used(folder: Path, made: Made) -> None:
    def one_good(inputs: RunInputs) -> Floats:
        values = known_values(inputs)
        values[2] = inputs.targets + 1e-3 * values[0]
        return values

    data = folder / "sixty.parquet"
    greedy = make_ensemble(folder / "greedy", data, values=one_good, weighting="greedy")
    weights = greedy.members["weight"].to_numpy()
    assert weights.sum() == pytest.approx(1.0)
    assert weights.argmax() == 2
    assert 2 <= np.count_nonzero(weights) < 4  # one member alone would have no spread
    table, values = greedy.predictions, one_good(greedy.inputs)
    np.testing.assert_allclose(table["mean"], weights @ values, rtol=SAME)
    variance = weights @ (values - weights @ values) ** 2 / (1.0 - (weights**2).sum())
    np.testing.assert_allclose(table["std"] ** 2, variance, rtol=1e-9)
    assert greedy.metrics["members"]["effective"] == pytest.approx(1.0 / (weights**2).sum())
    np.testing.assert_array_equal(load_ensemble(greedy.path).weights, weights)
    assert (made.members["weight"] != 0).sum() == 4  # equal weights, where that is asked for


def test_noise_of_members_is_added_to_their_spread(folder: Path) -> None:
    made = make_ensemble(
        folder / "noisy", folder / "sixty.parquet", values=known_values, noise=known_noise
    )
    table, noise = made.predictions, known_noise(made.inputs)
    np.testing.assert_allclose(table["aleatoric"] ** 2, (noise**2).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        table["std"] ** 2, table["epistemic"] ** 2 + table["aleatoric"] ** 2, rtol=1e-9
    )
    residuals = ((table["target"] - table["mean"]) / table["std"])[table["part"] == "validation"]
    factor = calibration(made)["methods"]["std_scaling"]["fitted"]["factor"]
    assert factor == pytest.approx(np.sqrt((residuals**2).mean()))


def test_classes_are_scored_and_nothing_is_fitted(folder: Path) -> None:
    def probabilities(inputs: RunInputs) -> Floats:
        noise = np.random.default_rng(0).normal(0.0, 1.0, (4, len(inputs.targets)))
        return np.asarray(1.0 / (1.0 + np.exp(1.0 - 2.0 * inputs.targets + noise)))

    made = make_ensemble(
        folder / "classes", folder / "sixty.parquet", values=probabilities, classes="median"
    )
    content = calibration(made)
    assert "methods" not in content
    assert "after" not in content
    test = made.rows("test")
    mean = probabilities(made.inputs).mean(axis=0)[test]
    brier = ((mean - made.inputs.targets[test]) ** 2).mean()
    assert content["before"]["brier"] == pytest.approx(brier)
    assert set(made.predictions["target"]) == {0.0, 1.0}
    assert "val_auc" in made.members
    assert {"test_auc_mean", "test_auc_std"} <= set(made.metrics["members"])
    ensemble = load_ensemble(made.path)
    assert ensemble.task == "classification"
    assert ensemble.recalibration is None
    assert ensemble.threshold == made.inputs.threshold


def test_few_training_rows_leave_no_domain(folder: Path) -> None:
    heard: list[dict[str, Any]] = []
    made = make_ensemble(
        folder / "few",
        folder / "sixty.parquet",
        split=SplitConfig(train=0.15, validation=0.4, test=0.45),
        listeners=(heard.append,),
    )
    (warning,) = [event["text"] for event in heard if event["event"] == "warning"]
    assert warning.startswith("no applicability domain: latent vectors of shape (9, ")
    assert load_ensemble(made.path).domain is None
    assert not (made.path / "domain.npz").exists()


def test_too_few_validation_rows_leave_the_spread_as_it_is(folder: Path) -> None:
    few = SplitConfig(train=0.7, validation=0.15, test=0.15)  # 9 rows
    heard: list[dict[str, Any]] = []
    data = write_sixty(folder / "sixty-few.parquet")
    made = make_ensemble(
        folder / "too-few", data, split=few, values=known_values, listeners=(heard.append,)
    )
    texts = [event["text"] for event in heard if event["event"] == "warning"]
    assert "the spread is not recalibrated: 9 validation rows, 10 are needed" in texts
    content = calibration(made)
    assert content["methods"] == {}
    assert content["after"] is None
    assert content["before"]["n"] == len(made.inputs.split.rows("test"))
    assert load_ensemble(made.path).recalibration is None


# --- members without spread, members of two kinds, rows that chose something ---------------------


def warnings_in(heard: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in heard if event["event"] == "warning"]


@pytest.mark.parametrize("weighting", ["equal", "greedy"])
def test_two_identical_members_among_others(folder: Path, weighting: Any) -> None:
    """Draws of the two have no spread. For greedy weights they are the best two, so that nothing
    but their own weights would have a spread of 0 everywhere."""

    def values(inputs: RunInputs) -> Floats:
        found = known_values(inputs)
        found[0] = found[1] = inputs.targets + 0.1 * found[1]
        return found

    made = make_ensemble(
        folder / f"twins-{weighting}", folder / "sixty.parquet", values=values, weighting=weighting
    )
    curve = pd.read_csv(made.path / "member_curve.csv").set_index("n_members")
    assert 0 < curve.loc[2, "without_spread"] < N_ROWS["test"]  # some of 20 draws
    assert np.isfinite(curve.loc[2, "nll"])
    assert curve.loc[4, "without_spread"] == 0
    assert (made.predictions["std"] > 0).all()
    if weighting == "greedy":
        assert made.members["weight"][0] > 0
        assert made.members["weight"][1] == 0


def agreeing(n_rows: int, part: Any) -> Any:
    """Members that predict the same in some rows of a part."""

    def values(inputs: RunInputs) -> Floats:
        found, rows = known_values(inputs), inputs.split.rows(part)[:n_rows]
        found[:, rows] = found[0, rows]
        return found

    return values


def test_rows_without_spread_are_left_out_and_counted(folder: Path, made: Made) -> None:
    data = folder / "sixty.parquet"
    some = make_ensemble(folder / "some", data, values=agreeing(4, "test"))
    content = calibration(some)
    assert content["scored_on"] == {"part": "test", "n": 11, "without_spread": 4}
    assert content["before"]["n"] == content["after"]["n"] == 11
    fitted = {kind: method["fitted"] for kind, method in content["methods"].items()}
    assert fitted == {kind: m["fitted"] for kind, m in calibration(made)["methods"].items()}
    table = some.predictions.query("part == 'test'")
    assert (table["std"] == 0).sum() == 4  # and they are told
    kept = table[table["std"] > 0]
    inside = ((kept["target"] - kept["mean"]).abs() < 1.6448536 * kept["std"]).mean()
    assert content["before"]["coverage_90"] == pytest.approx(inside)
    fewer = make_ensemble(folder / "fewer", data, values=agreeing(5, "validation"))
    assert calibration(fewer)["fitted_on"] == {"part": "validation", "n": 10, "without_spread": 5}


def test_too_few_validation_rows_with_a_spread(folder: Path) -> None:
    heard: list[dict[str, Any]] = []
    made = make_ensemble(
        folder / "six-agree",
        folder / "sixty.parquet",
        values=agreeing(6, "validation"),
        listeners=(heard.append,),
    )
    assert warnings_in(heard) == [
        "the spread is not recalibrated: 9 validation rows that have a spread, 10 are needed"
    ]
    content = calibration(made)
    assert (content["methods"], content["after"], content["remark"]) == ({}, None, None)


def test_members_that_are_all_the_same_are_an_error(folder: Path) -> None:
    words = r"^the members agree to the last digit in 14 of 15 test rows, so they are the same"
    with pytest.raises(DataError, match=words):
        make_ensemble(folder / "same", folder / "sixty.parquet", values=agreeing(14, "test"))


@pytest.mark.parametrize("weighting", ["equal", "greedy"])
def test_noise_of_some_members_only_is_left_out(folder: Path, weighting: Any) -> None:
    """As of a search over the loss."""
    heard: list[dict[str, Any]] = []
    path = folder / f"mixed-{weighting}"
    made = make_ensemble(
        path,
        folder / "sixty.parquet",
        values=known_values,
        noise=known_noise,
        without_noise=(1, 3),
        weighting=weighting,
        listeners=(heard.append,),
    )
    assert warnings_in(heard) == [
        "only 2 of 4 members predict noise of the target (training.loss gaussian_nll); it is left"
        " out, and the spread is that between members alone"
    ]
    assert (made.predictions["aleatoric"] == 0).all()
    np.testing.assert_array_equal(made.predictions["std"], made.predictions["epistemic"])
    store = FeatureStore(made.inputs.crystals.without_properties(), [made.table])
    assert load_ensemble(path).predict(store).noise is None


MANY = SplitConfig(train=0.4, validation=0.4, test=0.2)  # 24 validation rows


def test_greedy_weights_and_spread_have_rows_of_their_own(folder: Path) -> None:
    """The spread must not change with what chose the weights, nor weights with the other half."""
    data, options = folder / "sixty.parquet", {"values": known_values, "split": MANY}
    made = make_ensemble(folder / "halves", data, weighting="greedy", **options)
    rows = divide_validation(made.inputs, "greedy")
    assert (len(rows.weights), len(rows.spread)) == (12, 12)
    both = np.sort(np.concatenate([rows.weights, rows.spread]))
    np.testing.assert_array_equal(both, made.rows("validation"))
    content, values = calibration(made), known_values(made.inputs)
    assert content["weighted_on"] == {"part": "validation", "n": 12}
    assert content["fitted_on"] == {"part": "validation", "n": 12, "without_spread": 0}
    assert "; 12 of them chose the members' weights, the other 12 recalib" in content["remark"]
    targets = made.inputs.targets
    weights = select_members(values[:, rows.weights], targets[rows.weights], n_start=2)
    np.testing.assert_array_equal(made.members["weight"], weights)
    table = made.predictions.set_index("material_id")
    kept = table.loc[made.inputs.crystals.material_ids[rows.spread]]
    factor = np.sqrt((((kept["target"] - kept["mean"]) / kept["std"]) ** 2).mean())
    stored = content["methods"]["std_scaling"]["fitted"]["factor"]
    assert stored == pytest.approx(factor, rel=1e-9)


def test_few_rows_choose_weights_and_spread(folder: Path) -> None:
    made = make_ensemble(
        folder / "shared", folder / "sixty.parquet", values=known_values, weighting="greedy"
    )
    content = calibration(made)
    assert content["weighted_on"]["n"] == content["fitted_on"]["n"] == N_ROWS["validation"]
    assert " and the members' weights, so that the recalibrated spread" in content["remark"]
