"""Scores against the number of members."""

import numpy as np
import pandas as pd
import pytest

from raymat.ensembles.calibration import (
    SPREAD_SCORES,
    expected_coverage,
    score_probabilities,
    score_uncertainty,
)
from raymat.ensembles.curves import curve_sizes, member_curves, member_draws
from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError

N_ROWS = 2000


@pytest.fixture(scope="module")
def rows():
    """Members and targets that are draws of one distribution, row by row."""
    rng = np.random.default_rng(1)
    center, width = rng.normal(size=N_ROWS), np.exp(0.5 * rng.normal(size=N_ROWS))
    drawn = center + width * rng.normal(size=(21, N_ROWS))
    return MemberPredictions.equal(drawn[1:]), drawn[0]


@pytest.fixture(scope="module")
def curves(rows):
    return member_curves(*rows, n_draws=5, seed=3)


def test_sizes():
    assert curve_sizes(100) == [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
    assert curve_sizes(12) == [1, 2, 3, 5, 7, 10, 12]
    assert curve_sizes(1) == [1]


def test_all_members_are_scored_once(rows, curves):
    predictions, targets = rows
    last = curves.iloc[-1]
    assert (last["n_members"], last["n_draws"]) == (20, 1)
    scores = score_uncertainty(targets, predictions.mean, predictions.total)
    for key in ("nll", "miscalibration_area", "coverage_90", "sharpness", "spearman"):
        assert last[key] == pytest.approx(scores[key], rel=1e-12)
    assert np.isnan(last["nll_std"])


def test_error_falls_as_theory_says(curves):
    """MAE of the mean of n members is that of one draw times sqrt((1 + 1/n) / 2)."""
    expected = curves["mae"].iloc[0] * np.sqrt((1 + 1 / curves["n_members"]) / 2)
    np.testing.assert_allclose(curves["mae"], expected, rtol=0.05)
    assert curves["mae"].is_monotonic_decreasing


def test_coverage_rises_as_theory_says(curves):
    """The members are honest here: all that is missing is what few members cost."""
    assert np.isnan(curves["coverage_90"].iloc[0])  # one member has no spread
    several = curves.iloc[1:]
    np.testing.assert_allclose(
        several["coverage_90"], several["coverage_90_exchangeable"], atol=0.03
    )
    assert several["coverage_90_exchangeable"].iloc[0] == expected_coverage(0.9, 2)
    assert several["coverage_90"].iloc[0] < 0.65


def test_a_row_is_the_mean_over_its_draws(rows, curves):
    predictions, targets = rows
    draws = list(member_draws(20, [5], n_draws=5, seed=3))
    spreads = [predictions.draw(members) for members in draws]
    nll = [score_uncertainty(targets, one.mean, one.total)["nll"] for one in spreads]
    row = curves.set_index("n_members").loc[5]
    assert row["nll"] == pytest.approx(np.mean(nll), rel=1e-12)
    assert row["nll_std"] == pytest.approx(np.std(nll, ddof=1), rel=1e-9)


def test_noise_counts(rows):
    predictions, targets = rows
    noise = np.full((20, N_ROWS), 3.0)
    noisy = MemberPredictions.equal(np.asarray(predictions.draw(np.arange(20)).values), noise)
    found = member_curves(noisy, targets, sizes=[5], n_draws=2)
    assert found["sharpness"][0] > 3.0
    assert found["coverage_90"][0] > 0.95


def test_same_seed_same_curves(rows, curves):
    pd.testing.assert_frame_equal(member_curves(*rows, n_draws=5, seed=3), curves)
    other = member_curves(*rows, sizes=[5], n_draws=5, seed=4)
    assert other["mae"][0] != curves.set_index("n_members")["mae"][5]


def test_draws_of_a_size_stand_alone():
    alone = list(member_draws(50, [7], n_draws=3, seed=1))
    among = [m for m in member_draws(50, [2, 7, 50], n_draws=3, seed=1) if len(m) == 7]
    np.testing.assert_array_equal(alone, among)
    assert all(len(set(members.tolist())) == 7 for members in alone)
    assert len({tuple(members) for members in alone}) == 3


def test_classes():
    rng = np.random.default_rng(5)
    p = rng.random((6, 300))
    targets = (rng.random(300) < p.mean(axis=0)).astype(float)
    found = member_curves(
        MemberPredictions.equal(p), targets, task="classification", n_draws=4
    ).set_index("n_members")
    assert set(found) == {
        "n_draws",
        *(f"{k}{s}" for k in ("nll", "brier", "ece") for s in ("", "_std")),
    }
    assert found["brier"][6] == score_probabilities(targets, p.mean(axis=0))["brier"]
    assert found["brier"][6] < found["brier"][1]


def test_sizes_that_cannot_be_drawn(rows):
    with pytest.raises(DataError, match="20 draws of 21 of 20 members"):
        member_curves(*rows, sizes=[1, 21])
    with pytest.raises(DataError, match="0 draws of any of 20 members"):
        member_curves(*rows, n_draws=0)


def test_identical_members_have_no_scores_of_a_spread(rows):
    _, targets = rows
    same = MemberPredictions.equal(np.tile(targets + 0.5, (3, 1)))
    found = member_curves(same, targets).set_index("n_members")
    assert (found["mae"] == 0.5).all()
    assert found[list(SPREAD_SCORES)].isna().all(axis=None)
    assert found.loc[[2, 3], "without_spread"].tolist() == [N_ROWS, N_ROWS]


def test_draws_without_spread_do_not_count(rows):
    """Of the pairs of three members, two of which are the same, some have no spread anywhere."""
    predictions, targets = rows
    twins = MemberPredictions.equal(predictions.values[[0, 0, 1]])
    found = member_curves(twins, targets, n_draws=20).set_index("n_members")
    pairs = [m.tolist() for m in member_draws(3, [2])]
    assert pairs.count([0, 1]) > 0
    assert found.loc[2, "without_spread"] == N_ROWS * pairs.count([0, 1]) / len(pairs)
    other = predictions.draw(np.array([0, 1]))  # what every other pair predicts
    nll = score_uncertainty(targets, other.mean, other.total)["nll"]
    assert found.loc[2, "nll"] == pytest.approx(nll, rel=1e-12)
    assert found.loc[3, "without_spread"] == 0


def test_rows_without_spread_are_left_out_of_a_draw(rows):
    predictions, targets = rows
    values = np.array(predictions.values[:2])
    values[:, :500] = values[0, :500]
    found = member_curves(MemberPredictions.equal(values), targets, sizes=[2]).loc[0]
    kept = MemberPredictions.equal(values[:, 500:])
    scores = score_uncertainty(targets[500:], kept.mean, kept.total)
    assert found["without_spread"] == 500
    assert found["coverage_90"] == scores["coverage_90"]
