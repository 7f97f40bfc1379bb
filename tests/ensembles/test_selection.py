"""Greedy selection: what it must find, and what it must not be moved by."""

import numpy as np
import pytest

from raymat.ensembles.predictions import MemberPredictions
from raymat.ensembles.selection import select_members
from raymat.errors import DataError


@pytest.fixture
def targets():
    return np.random.default_rng(1).normal(size=400)


def noisy(targets, levels, seed=2):
    rng = np.random.default_rng(seed)
    return np.stack([targets + level * rng.normal(size=len(targets)) for level in levels])


def mean_error(values, weights, targets):
    return np.abs(MemberPredictions(values, None, weights).mean - targets).mean()


def test_exact_member_is_all_that_is_needed(targets):
    values = noisy(targets, [0.3, 0.0, 0.5])
    np.testing.assert_array_equal(select_members(values, targets), [0.0, 1.0, 0.0])


def test_opposite_errors_are_chosen_together(targets):
    error = np.random.default_rng(3).normal(size=len(targets))
    values = np.stack([targets + error, targets - error, targets + 1.1 * error[::-1]])
    np.testing.assert_array_equal(select_members(values, targets), [0.5, 0.5, 0.0])


def test_repeated_draws_weigh():
    """Only 2 : 1 of the first two members is exact; round 31 must not spoil it."""
    targets = np.array([0.0, 3.0, -3.0])
    error = np.array([1.0, 1.0, -2.0])
    values = np.stack([targets + error, targets - 2 * error, targets + 5.0])
    weights = select_members(values, targets, n_rounds=31)
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3, 0.0], rtol=1e-12)


def test_never_worse_than_the_best_member_or_a_shorter_search(targets):
    values = noisy(targets, np.linspace(0.2, 1.0, 12))
    errors = [
        mean_error(values, select_members(values, targets, n_rounds=n), targets)
        for n in (1, 3, 10, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(np.abs(values - targets).mean(axis=1).min(), rel=1e-12)
    assert errors[-1] < 0.9 * errors[0]


def test_weights_of_equally_good_members_generalise(targets):
    """On new rows the choice beats every single member."""
    values, new = noisy(targets, [0.5] * 10), noisy(targets, [0.5] * 10, seed=4)
    weights = select_members(values, targets)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert np.count_nonzero(weights) >= 8
    assert mean_error(new, weights, targets) < 0.5 * np.abs(new - targets).mean(axis=1).min()


def test_sorted_start(targets):
    values = noisy(targets, [0.9, 0.2, 0.3, 0.25])
    weights = select_members(values, targets, n_rounds=3, n_start=3)
    np.testing.assert_allclose(weights, [0.0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-12)


def test_ties_go_to_the_first(targets):
    values = np.stack([targets, targets, targets])
    np.testing.assert_array_equal(select_members(values, targets), [1.0, 0.0, 0.0])


def test_classes_are_judged_by_likelihood():
    """Always certain and once wrong loses against never certain and never wrong."""
    targets = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    certain = np.where(np.arange(8) == 7, 0.0, targets)
    humble = np.where(targets > 0.5, 0.7, 0.3)
    values = np.stack([certain, humble])
    by_likelihood = select_members(values, targets, task="classification", n_rounds=1)
    np.testing.assert_array_equal(by_likelihood, [0.0, 1.0])
    np.testing.assert_array_equal(select_members(values, targets, n_rounds=1), [1.0, 0.0])
    mixed = select_members(values, targets, task="classification")
    assert 0 < mixed[0] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(4)}, r"values have shape \(4,\), validation targets \(4,\)"),
        ({"targets": np.zeros(3)}, r"shape \(2, 4\), validation targets \(3,\)"),
        ({"values": np.zeros((2, 0)), "targets": np.zeros(0)}, "with a row at least"),
        ({"targets": np.array([0.0, np.nan, 0.0, 0.0])}, "validation target is not finite"),
        ({"values": np.array([[0.0] * 4, [np.nan] * 4])}, "member 1 gives values that are not"),
        ({"n_start": 3}, "n_start=3 with n_rounds=100 and 2 members"),
        ({"n_start": 0}, "n_start=0"),
        ({"n_rounds": 0}, "n_rounds=0"),
    ],
)
def test_what_cannot_be_selected_from(change, message):
    given = {"values": np.zeros((2, 4)), "targets": np.zeros(4)} | change
    with pytest.raises(DataError, match=message):
        select_members(**given)
