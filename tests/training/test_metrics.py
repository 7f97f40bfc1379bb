"""Metrics against scikit-learn, and bootstrap intervals against what they promise."""

import numpy as np
import pytest
from sklearn import metrics as reference

from raymat.training.metrics import (
    accuracy,
    bootstrap_interval,
    bootstrap_mean_interval,
    mae,
    r2,
    rmse,
    roc_auc,
    score_predictions,
    validation_score,
)


@pytest.fixture
def rows():
    rng = np.random.default_rng(4)
    targets = rng.normal(size=200)
    return targets, targets + 0.3 * rng.normal(size=200)


@pytest.fixture
def classes():
    rng = np.random.default_rng(5)
    truth = (rng.random(300) < 0.3).astype(float)
    return truth, np.clip(0.4 * truth + 0.6 * rng.random(300), 0, 1)


def test_regression(rows):
    assert mae(*rows) == pytest.approx(reference.mean_absolute_error(*rows), rel=1e-12)
    assert rmse(*rows) == pytest.approx(reference.root_mean_squared_error(*rows), rel=1e-12)
    assert r2(*rows) == pytest.approx(reference.r2_score(*rows), rel=1e-12)


def test_r2_of_equal_targets_is_undefined():
    assert np.isnan(r2(np.ones(3), np.array([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["no ties", "ties", "nearly all tied"])
def test_auc(classes, decimals):
    truth, scores = classes
    scores = scores if decimals is None else scores.round(decimals)
    assert roc_auc(truth, scores) == pytest.approx(reference.roc_auc_score(truth, scores))


def test_auc_of_one_class_is_undefined():
    assert np.isnan(roc_auc(np.ones(4), np.arange(4.0)))
    assert roc_auc(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == 0.5


def test_accuracy(classes):
    truth, scores = classes
    assert accuracy(truth, scores) == reference.accuracy_score(truth, scores > 0.5)
    assert np.isnan(accuracy(np.zeros(0), np.zeros(0)))


def test_scores_of_a_part(rows, classes):
    found = score_predictions("regression", *rows)
    assert set(found) == {"mae", "rmse", "r2", "n", "mae_ci95"}
    assert found["n"] == 200
    assert found["mae_ci95"][0] < found["mae"] < found["mae_ci95"][1]
    found = score_predictions("classification", *classes)
    recalls = reference.recall_score(classes[0], classes[1] > 0.5, average=None)
    assert [found["accuracy_0"], found["accuracy_1"]] == pytest.approx(recalls.tolist())
    assert found["auc_ci95"][0] < found["auc"] < found["auc_ci95"][1]


def test_selection_looks_at_mae_or_auc(rows, classes):
    assert validation_score("regression", *rows) == mae(*rows)
    assert validation_score("classification", *classes) == roc_auc(*classes)


def test_interval_is_the_same_for_the_same_seed(rows):
    errors = np.abs(rows[0] - rows[1])
    assert bootstrap_mean_interval(errors, seed=3) == bootstrap_mean_interval(errors, seed=3)
    assert bootstrap_mean_interval(errors, seed=3) != bootstrap_mean_interval(errors, seed=4)


def test_mean_interval_is_that_of_the_normal_theory(rows):
    """For 200 rows the percentile interval is close to mean -+ 1.96 standard errors."""
    errors = np.abs(rows[0] - rows[1])
    half = 1.96 * errors.std(ddof=1) / np.sqrt(len(errors))
    low, high = bootstrap_mean_interval(errors)
    assert low == pytest.approx(errors.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(errors.mean() + half, abs=0.1 * half)


def test_both_intervals_agree(rows):
    """Drawing multinomial counts is drawing rows with replacement."""
    errors = np.abs(rows[0] - rows[1])
    width = np.diff(bootstrap_mean_interval(errors))[0]
    drawn = bootstrap_interval(mae, *rows, n=4000, seed=1)
    assert drawn == pytest.approx(bootstrap_mean_interval(errors), abs=0.06 * width)


def test_mean_interval_covers_the_truth():
    """Of 95 % intervals about 95 % hold the true mean; a few less for 30 skewed rows."""
    rng = np.random.default_rng(11)
    held = 0
    for repetition in range(100):
        low, high = bootstrap_mean_interval(np.abs(rng.normal(size=30)), seed=repetition)
        held += low <= np.sqrt(2 / np.pi) <= high
    assert 0.88 <= held / 100 <= 0.99


def test_one_row_has_an_interval_without_width():
    assert bootstrap_mean_interval(np.array([0.7])) == pytest.approx([0.7, 0.7])
