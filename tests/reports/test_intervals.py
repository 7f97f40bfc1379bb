"""Intervals of histograms hold the values they are made for, whatever their size."""

import numpy as np
import pytest

from raymat.reports.intervals import intervals, score_frame

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


@pytest.mark.parametrize("is_higher_better", [False, True])
@pytest.mark.parametrize("n", [3, 5, 12, 40])
def test_frame_holds_the_winner_and_not_what_diverged(n: int, is_higher_better: bool) -> None:
    usual = np.linspace(0.80, 0.90, n)
    worst = -1e6 if is_higher_better else 1e6
    frame = score_frame(np.append(usual, [worst, np.nan]), is_higher_better=is_higher_better)
    assert frame.low < 0.80 < 0.90 < frame.high
    assert frame.high - frame.low < 0.2
    assert frame.n_outside == 1
    side = "below" if is_higher_better else "above"
    said = frame.remark("trial", is_higher_better=is_higher_better)
    assert said == f"1 trial {side} the frame"


@pytest.mark.parametrize("scores", [[], [np.nan], [0.5], [0.5, 0.5, 0.5], [0.0, 0.0], [0.1, 1e6]])
def test_frame_of_few_scores_holds_them_all(scores: list[float]) -> None:
    values = np.array(scores, dtype=np.float64)
    frame = score_frame(values, is_higher_better=False)
    known = values[np.isfinite(values)]
    assert frame.low < frame.high
    assert ((frame.low < known) & (known < frame.high)).all()
    assert frame.n_outside == 0
    assert frame.remark("trial", is_higher_better=False) == ""
