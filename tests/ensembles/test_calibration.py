"""Scores of a spread: against uncertainty-toolbox, against theory, and what they must not mind."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from raymat.ensembles.calibration import (
    calibration_curve,
    expected_coverage,
    miscalibration_area,
    score_probabilities,
    score_uncertainty,
)
from raymat.errors import DataError

REFERENCE = Path(__file__).parents[1] / "reference" / "uncertainty_metrics.json"
CASES = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"]
ROUNDING = 1e-12  # relative, of sums in another order
N_SIGMA = 4  # of statistical bounds: 6 in 100 000 seeds fail, and the seed is fixed


def draw(n, *, factor=1.0, seed=0):
    """Rows whose spread is too small by `factor`."""
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(1.5, 0.5, n), np.exp(rng.normal(-2.0, 0.5, n))
    return mean + factor * std * rng.normal(size=n), mean, std


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_uncertainty_toolbox(name):
    case = CASES[name]
    rows = [np.array(case[column]) for column in ("targets", "mean", "std")]
    scores = score_uncertainty(*rows)
    for key in ("nll", "miscalibration_area", "sharpness"):
        assert scores[key] == pytest.approx(case[key], rel=ROUNDING, abs=ROUNDING)
    for level, share in case["coverage"].items():
        assert scores[f"coverage_{level[2:]}"] == share
    _, observed = calibration_curve(*rows)
    np.testing.assert_array_equal(observed[[1, 25, 50, 75, 98]], case["observed"])


def test_calibrated_spread_scores_as_calibrated():
    n = 4000
    scores = score_uncertainty(*draw(n))
    for level in (0.5, 0.9, 0.95):
        bound = N_SIGMA * np.sqrt(level * (1 - level) / n)
        assert abs(scores[f"coverage_{100 * level:.0f}"] - level) < bound
    assert scores["miscalibration_area"] < N_SIGMA * 0.5 / np.sqrt(n)
    assert scores["n"] == n


@pytest.mark.parametrize(("factor", "coverage"), [(2.5, 0.4894), (0.4, 0.99996)])
def test_spread_of_wrong_size_is_seen(factor, coverage):
    """Coverage of a 90 % interval that is too narrow by a factor: 2 Phi(1.645 / factor) - 1."""
    n = 4000
    scores = score_uncertainty(*draw(n, factor=factor))
    bound = N_SIGMA * np.sqrt(coverage * (1 - coverage) / n) + 1 / n
    assert abs(scores["coverage_90"] - coverage) < bound
    assert scores["miscalibration_area"] > 0.2
    assert scores["nll"] > score_uncertainty(*draw(n, factor=1.0))["nll"] - np.log(2)


def test_right_size_has_the_best_likelihood():
    targets, mean, std = draw(4000, factor=2.5)
    nll = {f: score_uncertainty(targets, mean, f * std)["nll"] for f in (1.0, 2.0, 2.5, 3.0, 4.0)}
    assert min(nll, key=nll.get) == 2.5


def test_unit_of_the_target_does_not_matter():
    """In another unit only the NLL shifts, by the logarithm, and sharpness scales."""
    targets, mean, std = draw(500, factor=1.7)
    before = score_uncertainty(targets, mean, std)
    after = score_uncertainty(8 * targets, 8 * mean, 8 * std)
    assert after.pop("nll") == pytest.approx(before.pop("nll") + np.log(8), rel=ROUNDING)
    assert after.pop("sharpness") == pytest.approx(8 * before.pop("sharpness"), rel=ROUNDING)
    assert after == before


def test_order_of_rows_does_not_matter():
    targets, mean, std = draw(300)
    order = np.random.default_rng(9).permutation(300)
    shuffled = score_uncertainty(targets[order], mean[order], std[order])
    assert shuffled == pytest.approx(score_uncertainty(targets, mean, std), rel=ROUNDING)


def test_spearman_tells_useful_spread_from_useless():
    targets, mean, std = draw(3000)
    useful = score_uncertainty(targets, mean, std)["spearman"]
    useless = score_uncertainty(targets, mean, np.random.default_rng(8).permutation(std))
    assert useful > 0.2
    assert abs(useless["spearman"]) < N_SIGMA / np.sqrt(3000)
    assert score_uncertainty(targets, mean, np.full(3000, 0.1))["spearman"] is None


def test_area_of_a_curve_that_crosses_the_diagonal():
    """Two triangles: legs 0.1 and 0.3 over a step of 0.8 meet after 0.2."""
    expected, observed = np.array([0.0, 0.1, 0.9, 1.0]), np.array([0.0, 0.2, 0.6, 1.0])
    triangles = 0.5 * 0.1 * 0.2 + 0.5 * 0.3 * 0.6
    ends = 0.5 * 0.1 * 0.1 + 0.5 * 0.3 * 0.1
    assert miscalibration_area(expected, observed) == pytest.approx(triangles + ends, rel=ROUNDING)


@pytest.mark.parametrize("n_members", [2, 3, 5, 20])
def test_expected_coverage_of_few_members(n_members):
    """What the sample std of few members costs, by simulation of members and targets alike."""
    n = 40_000
    drawn = np.random.default_rng(n_members).normal(size=(n_members + 1, n))
    mean, std = drawn[1:].mean(axis=0), drawn[1:].std(axis=0, ddof=1)
    covered = score_uncertainty(drawn[0], mean, std)["coverage_90"]
    expected = expected_coverage(0.9, n_members)
    bound = N_SIGMA * np.sqrt(expected * (1 - expected) / n)
    assert abs(covered - expected) < bound
    assert 0.9 - expected > bound  # it is not the nominal coverage


def test_expected_coverage_of_many_members():
    assert expected_coverage(0.9, 100_000) == pytest.approx(0.9, abs=1e-5)
    with pytest.raises(DataError, match="1 member has no spread"):
        expected_coverage(0.9, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": np.array([0.1, 0.0, 0.2])}, "not positive in 1 of 3 rows, first row 1; leave out"),
        ({"std": np.array([0.1, -1.0, 0.0])}, "not positive in 2 of 3 rows, first row 1"),
        ({"std": np.array([0.1, np.nan, 0.2])}, "std: 1 of 3 values are not finite"),
        ({"targets": np.array([np.inf, 0.0, 0.0])}, "targets: 1 of 3 values are not finite"),
        ({"mean": np.zeros(2)}, r"targets \(3,\), mean \(2,\), std \(3,\)"),
        ({"targets": np.zeros((3, 1))}, "expected one value a row"),
    ],
)
def test_rows_that_cannot_be_scored(change, message):
    rows = {"targets": np.zeros(3), "mean": np.zeros(3), "std": np.ones(3)} | change
    with pytest.raises(DataError, match=message):
        score_uncertainty(**rows)


def test_no_rows():
    with pytest.raises(DataError, match="targets: no rows"):
        score_uncertainty(np.zeros(0), np.zeros(0), np.zeros(0))


def test_probabilities():
    rng = np.random.default_rng(5)
    p = rng.random(3000)
    classes = (rng.random(3000) < p).astype(float)
    scores = score_probabilities(classes, p)
    assert scores["nll"] == pytest.approx(log_loss(classes, p), rel=ROUNDING)
    assert scores["brier"] == pytest.approx(brier_score_loss(classes, p), rel=ROUNDING)
    # 15 bins of 200 rows: the mean of |normal| with p (1 - p) / 200 is at most 0.8 * 0.5 / 14.1
    assert scores["ece"] < 0.03
    assert score_probabilities(classes, np.sqrt(p))["ece"] > 0.1
    assert scores["n"] == 3000


def test_calibration_error_by_hand():
    """Bins of 1/15: 0.01 and 0.02 share one (gap 0.5 - 0.015), 1.0 belongs to the last."""
    targets, p = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.01, 0.02, 1.0, 0.4])
    expected = 0.5 * (0.5 - 0.015) + 0.25 * 0.0 + 0.25 * 0.4
    assert score_probabilities(targets, p)["ece"] == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_probabilities_of_one_class(label):
    scores = score_probabilities(np.full(4, label), np.full(4, 0.25))
    of_class = 0.25 if label else 0.75
    assert scores["nll"] == pytest.approx(-np.log(of_class), rel=ROUNDING)
    assert scores["brier"] == pytest.approx((1 - of_class) ** 2, rel=ROUNDING)


def test_certainty_about_the_wrong_class_stays_finite():
    assert 30 < score_probabilities(np.array([1.0]), np.array([0.0]))["nll"] < 40


@pytest.mark.parametrize(
    ("targets", "p", "message"),
    [
        ([0.0, 2.0], [0.1, 0.2], "2 is no class; expected 0 or 1"),
        ([0.0, 1.0], [0.1, 1.2], "1.2 is outside 0 to 1"),
        ([0.0, 1.0], [0.1, np.nan], "probabilities: 1 of 2 values are not finite"),
        ([0.0, 1.0], [0.1], "columns differ in shape"),
    ],
)
def test_probabilities_that_cannot_be_scored(targets, p, message):
    with pytest.raises(DataError, match=message):
        score_probabilities(np.array(targets), np.array(p))


def test_few_rows_have_no_rank_correlation() -> None:
    """Of two rows it is 1 or -1, whatever they are."""
    rng = np.random.default_rng(0)
    targets, std = rng.normal(size=5), rng.uniform(1.0, 2.0, 5)
    few, enough = (score_uncertainty(targets[:n], np.zeros(n), std[:n]) for n in (2, 5))
    assert few["spearman"] is None
    assert enough["spearman"] is not None
