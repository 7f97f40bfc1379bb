"""Intervals of histograms hold the values they are made for, whatever their size."""

import numpy as np
import pytest

from raymat.reports.intervals import intervals

RNG = np.random.default_rng(0)
VALUES = {
    "usual": RNG.normal(2.0, 0.3, 500),
    "one value": np.array([3.7]),
    "constant": np.full(40, 7.3),
    "noise of a constant": 7.3 + 1e-15 * np.arange(300),
    "zero": np.zeros(5),
    "two": np.array([1.25, 2.5]),
    "huge": np.array([*RNG.normal(0.0, 1.0, 99), 1e300]),
    "both ends": np.array([-1e300, 1e300]),
    "tiny": 1e-300 * np.arange(1, 9),
}


@pytest.mark.parametrize("kind", VALUES)
def test_they_hold_all_of_few_values(kind: str) -> None:
    values = VALUES[kind]
    edges = intervals(values)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    counts, _ = np.histogram(values, bins=edges)
    assert counts.sum() == len(values)


def test_whole_numbers_stand_in_the_middle() -> None:
    assert intervals(np.array([1.0, 2.0, 4.0])).tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    edges = intervals(np.arange(1.0, 301.0))
    assert set(np.diff(edges)) == {5.0}
    assert np.histogram(np.arange(1.0, 301.0), edges)[0].tolist() == [5] * 60


def test_exceptions_among_many_are_left_out() -> None:
    values = np.concatenate([RNG.normal(0.0, 1.0, 10_000), [1e6]])
    assert intervals(values)[-1] < 10.0
