"""Statistics of a comparison, from rows whose answers are known."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparison_rows import KINDS, errors_of, table
from scipy import stats

from raymat.errors import RunError
from raymat.reports.comparison_pairs import (
    Kind,
    kinds_of,
    paired_differences,
    say_told_apart,
    say_verdicts,
)
from raymat.reports.comparison_statistics import learning_curve_fit, summarise
from raymat.tuning.comparison_plan import parse_plan

# --- means ---------------------------------------------------------------------------------------


def test_mean_and_sample_deviation_over_repetitions() -> None:
    rows = table({"mae": 0.1}, {"mae": 0.2, "repetition": 1}, {"mae": 0.6, "repetition": 2})
    found = summarise(rows).iloc[0]
    assert found["mae_mean"] == pytest.approx(0.3)
    assert found["mae_std"] == pytest.approx(math.sqrt(0.07))
    assert (found["n_repetitions"], found["n_train"], found["device"]) == (3, 800, "cpu")
    assert found["r2_std"] == 0


def test_one_repetition_has_no_deviation() -> None:
    assert math.isnan(summarise(table({})).iloc[0]["mae_std"])


def test_cells_are_kept_apart_and_in_order() -> None:
    rows = table(
        {"setting": "tuned"}, {}, {"model": "a"}, {"n_train": 50}, {"property": "y", "unit": "eV"}
    )
    found = summarise(rows)
    assert found["model"].tolist() == ["cgcnn", "cgcnn", "a", "cgcnn", "cgcnn"]
    assert found["setting"].tolist()[:2] == ["tuned", "default"]
    assert found["unit"].tolist()[-1] == "eV"


def test_a_training_size_joins_splits_that_differ_by_a_row() -> None:
    """Splits by formula do not leave the same number of rows each time."""
    rows = table({"n_train": 799}, {"n_train": 801, "repetition": 1, "mae": 0.3})
    assert len(summarise(rows)) == 2
    found = summarise(rows.assign(training_size="all"))
    assert (len(found), found.iloc[0]["n_train"]) == (1, 800)
    assert len(summarise(rows.assign(training_size=None))) == 1


def test_a_unit_that_a_csv_file_lost() -> None:
    rows = table({"unit": math.nan, "property": "poisson_ratio"})
    assert summarise(rows).iloc[0]["unit"] == ""


def test_a_cell_that_stands_there_twice() -> None:
    with pytest.raises(RunError, match=r"log10_K_VRH, repetition 0, cgcnn, default, 800 .* twice"):
        summarise(table({}, {}))


# --- paired differences --------------------------------------------------------------------------


def differences(
    rows: pd.DataFrame, errors: pd.DataFrame, kinds: dict[str, Kind] = KINDS
) -> pd.DataFrame:
    return paired_differences(rows, errors, kinds=kinds)


def two_settings(n: int, shifts: tuple[float, ...], *, seed: int = 0) -> tuple[Any, Any]:
    """Tuned is smaller by a shift of each repetition; the test crystals are the same in all."""
    rng = np.random.default_rng(seed)
    rows, errors = [], []
    hard = rng.gamma(1.0, 0.1, n)
    for repetition, shift in enumerate(shifts):
        noise = rng.normal(0, 0.01, n)
        both = {"default": hard, "tuned": hard - shift + noise - noise.mean()}
        for setting, values in both.items():
            row = table({"repetition": repetition, "setting": setting, "mae": values.mean()})
            rows.append(row)
            errors.append(errors_of(row, {("cgcnn", setting): values}))
    return pd.concat(rows), pd.concat(errors)


def test_t_interval_over_repetitions() -> None:
    shifts = (0.010, 0.012, 0.017)
    found = differences(*two_settings(200, shifts)).iloc[0]
    gains = -np.array(shifts)
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found["comparison"] == "tuned against default"
    assert found["difference"] == pytest.approx(gains.mean())
    assert (found["t_low"], found["t_high"]) == pytest.approx((low, high))
    wider = math.sqrt(1 / 3 + 100 / 800) / math.sqrt(1 / 3)  # Nadeau & Bengio: + n_test / n_train
    corrected = (found["corrected_high"] - found["corrected_low"]) / (high - low)
    assert corrected == pytest.approx(wider)


def test_one_repetition_has_a_bootstrap_only() -> None:
    found = differences(*two_settings(200, (0.01,))).iloc[0]
    assert math.isnan(found["t_low"])
    assert math.isnan(found["corrected_high"])
    assert found["bootstrap_low"] < -0.01 < found["bootstrap_high"] < 0
    assert found["told_apart"] is None  # a search or split may have been lucky


@pytest.mark.parametrize(("repetitions", "expected"), [(2, None), (3, True)])
def test_two_repetitions_that_agree_tell_nothing_apart(
    repetitions: int, expected: bool | None
) -> None:
    found = differences(*two_settings(200, (0.01, 0.0101, 0.0099)[:repetitions])).iloc[0]
    told = found["told_apart"]
    assert told is None if expected is None else bool(told) is expected
    assert say_told_apart(found["told_apart"]) == ("yes" if expected else "not estimated")
    few = differences(*two_settings(4, (0.01, 0.0101, 0.0099))).iloc[0]
    assert math.isnan(few["bootstrap_low"])
    assert few["told_apart"] is None


def test_models_stand_against_the_baselines() -> None:
    """A tuned model that beats the mean and its default, but not the composition."""
    rows, errors = two_settings(200, (0.010, 0.012, 0.011))
    tuned = errors[errors["setting"] == "tuned"]
    baselines = [
        tuned.assign(model=name, setting="baseline", absolute_error=tuned["absolute_error"] + gap)
        for name, gap in (("mean", 0.5), ("composition", -0.001))
    ]
    found = differences(rows, pd.concat([errors, *baselines]))
    against = found[found["comparison"] == "against a baseline"]
    assert len(against) == 4
    own = against[(against["setting"] == "tuned") & (against["other_model"] == "composition")]
    assert own["difference"].item() == pytest.approx(0.001)
    assert "composition" not in set(found["model"])
    (lines,) = say_verdicts(found).values()
    (said,) = [line for line in lines if line.startswith("cgcnn, tuned, beats")]
    assert "beats the training mean (difference -0.5" in said
    assert "and its default (difference -0.011" in said
    assert "is worse than the composition forest" in said
    warnings = [line for line in lines if line.startswith("warning")]
    assert any("cgcnn, tuned, is not shown to beat the composition forest" in w for w in warnings)
    assert len(warnings) == 2  # the default does not beat it, either
    assert say_verdicts(differences(rows, errors)) == {}


def test_bootstrap_agrees_with_the_standard_error_of_paired_rows() -> None:
    rows, errors = two_settings(400, (0.01,))
    found = differences(rows, errors).iloc[0]
    by_setting = errors.pivot_table(index="material_id", columns="setting", values="absolute_error")
    half = 1.96 * (by_setting["tuned"] - by_setting["default"]).std() / math.sqrt(400)
    assert found["bootstrap_high"] - found["bootstrap_low"] == pytest.approx(2 * half, rel=0.05)


def test_rows_of_one_crystal_are_drawn_together() -> None:
    """Four repetitions with the same errors tell no more of the crystals than one."""
    rng = np.random.default_rng(1)
    values = {("cgcnn", "default"): rng.gamma(1, 1, 300), ("cgcnn", "tuned"): rng.gamma(1, 1, 300)}
    cells = [{"repetition": r, "setting": s} for r in range(4) for s in ("default", "tuned")]
    four, one = table(*cells), table(*cells[:2])
    width = [
        (found["bootstrap_high"] - found["bootstrap_low"], found["n_rows"], found["n_crystals"])
        for rows in (one, four)
        for found in [differences(rows, errors_of(rows, values)).iloc[0]]
    ]
    assert width[0][0] == pytest.approx(width[1][0], rel=0.03)
    assert [w[1:] for w in width] == [(300, 300), (1200, 300)]


def test_which_pairs_are_compared() -> None:
    models = {"cgcnn": 0.2, "megnet": 0.1, "soap_svr": 0.3}
    rows = table(*({"model": m, "mae": mae} for m, mae in models.items()))
    errors = errors_of(rows, {(m, "default"): [mae] * 5 for m, mae in models.items()})
    found = differences(rows, errors)
    pairs = [
        (row["comparison"], row["model"], row["other_model"], round(row["difference"], 9))
        for row in found.to_dict("records")
    ]
    assert pairs == [
        ("against the best", "cgcnn", "megnet", 0.1),
        ("against the best", "soap_svr", "megnet", 0.2),
        ("graph against descriptor", "cgcnn", "soap_svr", -0.1),
        ("graph against descriptor", "megnet", "soap_svr", -0.2),
    ]
    kinds = differences(
        rows, errors, kinds={"cgcnn": "descriptor", "megnet": "graph", "soap_svr": "graph"}
    )
    others = kinds[kinds["comparison"] == "graph against descriptor"]
    assert others["other_model"].tolist() == ["cgcnn", "cgcnn"]


def test_what_a_model_reads_is_not_told_by_its_name() -> None:
    content = {
        "data": "e.parquet",
        "properties": ["K"],
        "models": ["soap_mlp", "cgcnn", "schnet", "soap_svr", "megnet"],
        "repetitions": 1,
        "budget": {"trials": 1, "epochs": 1},
    }
    plan = parse_plan(content, path="plan.yaml")
    assert kinds_of(plan) == {
        "soap_mlp": "descriptor", "cgcnn": "graph", "schnet": "graph", "soap_svr": "descriptor",
        "megnet": "graph",
    }  # fmt: skip


def test_only_rows_that_both_have_count() -> None:
    rows = table({}, {"setting": "tuned"})
    errors = errors_of(rows, {("cgcnn", "default"): [1, 2, 9], ("cgcnn", "tuned"): [1, 1]})
    found = differences(rows, errors).iloc[0]
    assert (found["difference"], found["n_rows"]) == (-0.5, 2)


def test_no_common_rows_no_pair() -> None:
    rows = table({}, {"setting": "tuned", "repetition": 1})
    errors = errors_of(rows, {("cgcnn", "default"): [1, 2], ("cgcnn", "tuned"): [1, 2]})
    assert differences(rows, errors).empty
    assert "bootstrap_low" in differences(rows, errors.iloc[:0])


def test_training_sizes_are_not_mixed() -> None:
    rows = table(*({"setting": s, "n_train": n} for n in (50, 800) for s in ("default", "tuned")))
    errors = errors_of(rows, {("cgcnn", "default"): [2, 2], ("cgcnn", "tuned"): [1, 1]})
    found = differences(rows, errors)
    assert found["training_size"].tolist() == [50, 800]
    assert found["n_rows"].tolist() == [2, 2]


def test_classes_are_compared_by_accuracy() -> None:
    """Errors of the probability: 0.6 is the wrong class, 0.4 the right one."""
    change = {"property": "is_metal", "unit": "", "task": "classification", "mae": None}
    rows = table({**change, "accuracy": 0.5}, {**change, "accuracy": 0.75, "setting": "tuned"})
    values = {("cgcnn", "default"): [0.6, 0.6, 0.4, 0.0], ("cgcnn", "tuned"): [0.4, 1.0, 0.4, 0.0]}
    found = differences(rows, errors_of(rows, values)).iloc[0]
    assert (found["metric"], found["difference"]) == ("accuracy", 0.25)


def test_an_error_that_stands_there_twice() -> None:
    rows = table({}, {"setting": "tuned"})
    errors = errors_of(rows, {("cgcnn", "default"): [1, 2], ("cgcnn", "tuned"): [1, 2]})
    with pytest.raises(RunError, match="mp-0, repetition 0, cgcnn, default: two errors of one"):
        differences(rows, pd.concat([errors, errors.iloc[:1]]))


# --- learning curves -----------------------------------------------------------------------------


def test_slope_of_a_power_law() -> None:
    sizes = (100, 400, 1600, 6400)
    rows = table(*({"n_train": n, "mae": 2.0 * n**-0.25} for n in sizes))
    found = learning_curve_fit(rows).iloc[0]
    assert found["slope"] == pytest.approx(-0.25)
    assert 10.0 ** found["intercept"] == pytest.approx(2.0)
    assert found["slope_se"] == pytest.approx(0.0, abs=1e-9)
    assert (found["n_sizes"], found["smallest"], found["largest"]) == (4, 100, 6400)


def test_interval_of_a_slope() -> None:
    x, y = np.log10([100, 1000, 10000]), np.array([-0.5, -0.9, -1.1])
    rows = table(*({"n_train": round(10**a), "mae": 10**b} for a, b in zip(x, y, strict=True)))
    found = learning_curve_fit(rows).iloc[0]
    line = stats.linregress(x, y)
    assert found["slope"] == pytest.approx(line.slope)
    assert found["slope_high"] - found["slope"] == pytest.approx(12.7062 * line.stderr, rel=1e-4)


def test_two_sizes_have_no_slope() -> None:
    found = learning_curve_fit(table({"n_train": 100}, {"n_train": 800})).iloc[0]
    assert math.isnan(found["slope"])
    assert found["n_sizes"] == 2


def test_classes_have_no_slope() -> None:
    rows = table({"task": "classification", "accuracy": 0.9, "mae": None})
    assert learning_curve_fit(rows).empty
