"""Means and spreads of members, equal, weighted, with noise, and with gaps."""

import numpy as np
import pytest

from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError


@pytest.fixture
def values():
    return np.random.default_rng(1).normal(size=(7, 20))


def test_equal_members(values):
    members = MemberPredictions.equal(values)
    assert (members.n_members, members.n_rows) == (7, 20)
    assert members.effective_members == pytest.approx(7.0, rel=1e-12)
    np.testing.assert_allclose(members.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(members.epistemic, values.std(axis=0, ddof=1), rtol=1e-12)
    assert (members.aleatoric == 0).all()
    np.testing.assert_allclose(members.total, members.epistemic, rtol=1e-12)


def test_total_adds_variances(values):
    noise = np.random.default_rng(2).uniform(0.1, 2.0, size=values.shape)
    members = MemberPredictions.equal(values, noise)
    np.testing.assert_allclose(members.aleatoric**2, (noise**2).mean(axis=0), rtol=1e-12)
    both = values.var(axis=0, ddof=1) + (noise**2).mean(axis=0)
    np.testing.assert_allclose(members.total**2, both, rtol=1e-12)


def test_member_drawn_twice_moves_the_mean_like_two():
    """Weights of a selection are counts; the mean is that of the repeated members."""
    values = np.array([[1.0], [2.0], [6.0]])
    members = MemberPredictions(values, None, np.array([0.5, 0.25, 0.25]))
    assert members.mean[0] == pytest.approx(np.mean([1.0, 1.0, 2.0, 6.0]), rel=1e-12)
    # 0.5 (1 - 2.5)² + 0.25 (2 - 2.5)² + 0.25 (6 - 2.5)² = 4.25, over 1 - 0.375
    assert members.epistemic[0] ** 2 == pytest.approx(4.25 / 0.625, rel=1e-12)
    assert members.effective_members == pytest.approx(8.0 / 3.0, rel=1e-12)


def test_weighted_spread_is_unbiased():
    """Over many rows the weighted variance of standard normal members is 1."""
    values = np.random.default_rng(3).normal(size=(4, 40_000))
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    variance = MemberPredictions(values, None, weights).epistemic ** 2
    error = variance.std() / np.sqrt(len(variance))
    assert abs(variance.mean() - 1.0) < 4 * error  # without the correction it would be 0.7
    assert 4 * error < 0.05


def test_identical_members_have_no_spread():
    values = np.full((3, 2), 0.1)  # 0.1 / 3 three times is not 0.1
    members = MemberPredictions.equal(values)
    assert (members.mean == 0.1).all()
    assert (members.epistemic == 0).all()


def test_one_member_has_no_spread_to_tell(values):
    assert np.isnan(MemberPredictions.equal(values[:1]).epistemic).all()
    alone = MemberPredictions(values[:2], None, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(alone.mean, values[1])
    assert np.isnan(alone.total).all()


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_value_that_is_missing_is_not_averaged_over(values, lost):
    values[2, 5] = lost
    members = MemberPredictions.equal(values)
    assert not np.isfinite(members.mean[5])
    assert np.isnan(members.total[5])
    assert np.isfinite(np.delete(members.total, 5)).all()


def test_member_of_weight_zero_does_not_count(values):
    values[6] = np.nan
    members = MemberPredictions(values, None, np.array([1, 1, 1, 1, 1, 1, 0]) / 6)
    np.testing.assert_allclose(members.mean, values[:6].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(members.epistemic, values[:6].std(axis=0, ddof=1), rtol=1e-12)


def test_take_first_and_draw(values):
    members = MemberPredictions(values, np.abs(values), np.array([4, 0, 1, 1, 1, 1, 0]) / 8)
    some = members.take(np.array([3, 1]))
    np.testing.assert_array_equal(some.mean, members.mean[[3, 1]])
    np.testing.assert_array_equal(some.total, members.total[[3, 1]])
    np.testing.assert_array_equal(members.take(members.mean > 0).mean > 0, True)
    np.testing.assert_allclose(members.first(3).weights, [0.8, 0.0, 0.2], rtol=1e-12)
    drawn = members.draw(np.array([1, 6]))
    np.testing.assert_allclose(drawn.mean, values[[1, 6]].mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(drawn.noise, np.abs(values[[1, 6]]))


def test_rows_do_not_depend_on_their_neighbors(values):
    """A shard's rows get the very numbers of the whole."""
    members = MemberPredictions.equal(values)
    shard = members.take(np.arange(4, 9))
    np.testing.assert_array_equal(shard.mean, members.mean[4:9])
    np.testing.assert_array_equal(shard.total, members.total[4:9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(3)}, r"values have shape \(3,\); expected \(n_members, n_rows\)"),
        ({"values": np.zeros((0, 3))}, "at least one member"),
        ({"weights": np.array([1.0])}, r"weights have shape \(1,\); expected \(2,\)"),
        ({"weights": np.array([1.5, -0.5])}, "a member's weight is -0.5"),
        ({"weights": np.array([np.nan, 1.0])}, "a member's weight is nan"),
        ({"weights": np.array([1.0, 1.0])}, "weights add up to 2; divide them by their sum"),
        ({"noise": np.zeros((1, 3))}, r"noise has shape \(1, 3\), values \(2, 3\)"),
        ({"noise": np.full((2, 3), -0.1)}, "noise is negative in 6 of 6 values"),
    ],
)
def test_what_cannot_be_members(change, message):
    given = {"values": np.zeros((2, 3)), "noise": None, "weights": np.full(2, 0.5)} | change
    with pytest.raises(DataError, match=message):
        MemberPredictions(**given)


def test_first_refuses_what_is_not_there(values):
    members = MemberPredictions(values, None, np.eye(7)[6])
    with pytest.raises(DataError, match="8 members asked for; this ensemble has 7"):
        members.first(8)
    with pytest.raises(DataError, match="the first 6 members have weight 0"):
        members.first(6)
