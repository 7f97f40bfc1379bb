"""Wilson's interval and the effective number of members."""

import numpy as np
import pytest

from raymat.screening.probability import effective_members, wilson_interval

PRINTED = 5e-5  # published intervals are printed to four digits


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_interval_equals_scipys(confidence):
    from scipy.stats import binomtest

    for n in (1, 3, 10, 100):
        for k in {0, 1, n // 2, n - 1, n}:
            expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
            found = wilson_interval(k, n, confidence=confidence)
            assert np.allclose(found, (expected.low, expected.high), rtol=1e-9, atol=1e-12)


def test_published_intervals():
    """Newcombe, Stat. Med. 1998, 17, 857, Table I, method 3."""
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert np.allclose(wilson_interval(k, n), (low, high), rtol=0, atol=PRINTED)


def test_interval_has_a_width_at_the_ends_and_touches_them_exactly():
    low, high = wilson_interval(np.array([0.0, 100.0]), 100)
    assert low[0] == 0.0
    assert high[0] == pytest.approx(0.0370, abs=PRINTED)
    assert high[1] == 1.0
    assert low[1] == pytest.approx(1 - 0.0370, abs=PRINTED)


def test_interval_holds_the_true_probability_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.98, 20_000)
    low, high = wilson_interval(rng.binomial(100, truth).astype(float), 100)
    # Three standard errors of the share, and the 0.5 % that whole counts cost.
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 0), (1, 0), (5, 4), (-1, 4), (np.nan, 4), (1, np.nan), (1, -2)]
)
def test_impossible_counts_give_nan(successes, n):
    assert np.isnan(wilson_interval(successes, n)).all()
    assert np.isnan(wilson_interval(np.array([successes, 1.0]), n)[0][0])


def test_equal_weights_count_members():
    assert effective_members(np.full(100, 0.01)) == pytest.approx(100)
    assert effective_members(np.array([1.0, 0.0, 0.0])) == 1.0
    assert effective_members(np.array([2.0, 1.0, 1.0])) == pytest.approx(16 / 6)
