"""Each recalibration, fitted on some rows, must hold what it promises on others."""

import json

import numpy as np
import pytest

from raymat.ensembles.calibration import score_uncertainty
from raymat.ensembles.recalibration import (
    KINDS,
    MIN_ROWS,
    Isotonic,
    SplitConformal,
    StdScaling,
    fit_recalibrations,
    read_recalibration,
    score_recalibrations,
)
from raymat.errors import DataError

LEVELS = (0.5, 0.9, 0.95)
N_ROWS = 4000
N_SIGMA = 4  # of statistical bounds: 6 in 100 000 seeds fail, and the seeds are fixed
ROUNDING = 1e-12


def bound(level, n_fit=N_ROWS, n_test=N_ROWS):
    """Binomial deviation of a coverage, of the rows scored and of those fitted on."""
    return N_SIGMA * np.sqrt(level * (1 - level) * (1 / n_fit + 1 / n_test))


def gaussian(rng, n):
    return rng.normal(size=n)


def heavy_tailed(rng, n):
    return rng.standard_t(3, size=n)


def skewed(rng, n):
    return rng.exponential(size=n) - 0.3


def draw(seed, *, factor=1.0, shape=gaussian, n=N_ROWS):
    """Rows whose standardised residuals are `factor` times `shape`."""
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(1.5, 0.5, n), np.exp(rng.normal(-2.0, 0.5, n))
    return mean + factor * std * shape(rng, n), mean, std


def coverages(found, rows):
    targets, mean, std = rows
    for level in LEVELS:
        low, high = found.interval(mean, std, level)
        yield level, float(((low <= targets) & (targets <= high)).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2.5, 1.0, 0.4], ids=["too sure", "right", "too wide"])
def test_coverage_of_gaussian_rows(kind, factor):
    found = KINDS[kind].fit(*draw(1, factor=factor))
    for level, covered in coverages(found, draw(2, factor=factor)):
        assert abs(covered - level) < bound(level)
    scores = found.score(*draw(2, factor=factor))
    assert scores["miscalibration_area"] < N_SIGMA * 0.5 * np.sqrt(2 / N_ROWS)
    # Fitted on rows of another factor, the same rows would not be covered.
    wrong = dict(coverages(KINDS[kind].fit(*draw(1, factor=1.3 * factor)), draw(2, factor=factor)))
    assert all(wrong[level] - level > bound(level) for level in LEVELS)


@pytest.mark.parametrize("kind", ["isotonic", "split_conformal"])
@pytest.mark.parametrize("shape", [heavy_tailed, skewed])
def test_coverage_of_rows_that_are_not_gaussian(kind, shape):
    found = KINDS[kind].fit(*draw(3, shape=shape))
    for level, covered in coverages(found, draw(4, shape=shape)):
        assert abs(covered - level) < bound(level)


def test_one_factor_does_not_mend_the_shape():
    """The documented limit of std scaling: it cannot cover heavy tails at every level."""
    found = StdScaling.fit(*draw(3, shape=heavy_tailed))
    covered = dict(coverages(found, draw(4, shape=heavy_tailed)))
    assert covered[0.5] - 0.5 > bound(0.5)


@pytest.mark.parametrize("factor", [2.5, 0.4])
def test_scaling_finds_the_factor_of_best_likelihood(factor):
    rows = draw(5, factor=factor)
    found = StdScaling.fit(*rows)
    assert abs(found.factor / factor - 1) < N_SIGMA / np.sqrt(2 * N_ROWS)
    targets, mean, std = rows
    best = score_uncertainty(targets, mean, found.scale(std))["nll"]
    assert best == found.score(*rows)["nll"]
    for other in (0.99, 1.01):
        assert score_uncertainty(targets, mean, other * found.scale(std))["nll"] > best


def test_isotonic_intervals_are_the_residuals_own_quantiles():
    """19 residuals stand at 5, 10, ... 95 %."""
    residuals = np.arange(-9.0, 10.0) ** 3
    found = Isotonic.from_residuals(np.random.default_rng(6).permutation(residuals))
    low, high = found.bounds(np.array([0.0, 0.5, 0.9, 0.95]))
    np.testing.assert_allclose(low[:3], [0.0, -125.0, -729.0], rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(high[:3], -low[:3], rtol=ROUNDING, atol=ROUNDING)
    assert (low[3], high[3]) == (-np.inf, np.inf)


def test_isotonic_sees_residuals_whose_probability_rounds_to_one():
    residuals = np.linspace(-30.0, 30.0, 199)
    _, high = Isotonic.from_residuals(residuals).bounds(np.array([0.9]))
    assert high[0] == pytest.approx(27.0, abs=0.5)


def test_isotonic_mends_a_bias():
    def biased(rng, n):
        return rng.normal(0.8, 1.0, size=n)

    found = Isotonic.fit(*draw(7, shape=biased))
    low, high = found.bounds(np.array([0.9]))
    assert 0.5 * (low[0] + high[0]) == pytest.approx(0.8, abs=0.1)


def test_isotonic_takes_equal_residuals():
    found = Isotonic.from_residuals(np.repeat([-1.0, 0.0, 2.0], 10))
    low, high = found.bounds(np.array([0.4]))
    assert -1.0 <= low[0] <= 0.0 <= high[0] <= 2.0


def test_conformal_quantile_is_the_corrected_one():
    """Of 19 scores the 90 % quantile is number ceil(20 * 0.9) = 18, and 96 % has none."""
    found = SplitConformal.from_residuals(np.arange(1.0, 20.0) * (-1.0) ** np.arange(19))
    low, high = found.bounds(np.array([0.0, 0.5, 0.9, 0.95, 0.96]))
    np.testing.assert_array_equal(high, [0.0, 10.0, 18.0, 19.0, np.inf])
    np.testing.assert_array_equal(low, -high)


def test_conformal_guarantee_holds_on_average_over_small_fits():
    """With 30 rows to fit on: mean coverage between p and p + 1/31; uncorrected it falls short."""
    rng = np.random.default_rng(10)
    fits = rng.standard_t(3, size=(4000, 30))
    new = np.abs(rng.standard_t(3, size=4000))
    corrected, plain = [], []
    for residuals, size in zip(fits, new, strict=True):
        corrected.append(size <= SplitConformal.from_residuals(residuals).bounds(_LEVEL)[1][0])
        plain.append(size <= np.sort(np.abs(residuals))[26])  # number 0.9 * 30 = 27
    error = np.sqrt(0.9 * 0.1 / 4000)
    assert 0.9 - N_SIGMA * error < np.mean(corrected) < 0.9 + 1 / 31 + N_SIGMA * error
    assert np.mean(plain) < 0.9


_LEVEL = np.array([0.9])


def test_scores_before_and_after():
    fitted = fit_recalibrations(*draw(1, factor=2.5))
    scores = score_recalibrations(fitted, *draw(2, factor=2.5))
    assert list(scores) == ["before", *KINDS]
    before = scores.pop("before")
    assert before["coverage_90"] < 0.55
    for kind, after in scores.items():
        assert abs(after["coverage_90"] - 0.9) < bound(0.9)
        assert after["miscalibration_area"] < 0.05 < before["miscalibration_area"]
        assert after["sharpness"] == pytest.approx(2.5 * before["sharpness"], rel=0.1)
        assert after["spearman"] == before["spearman"]  # the order of rows is left alone
        assert after.keys() == before.keys()
        assert (after["nll"] is None) == (kind != "std_scaling")
    assert scores["std_scaling"]["nll"] < before["nll"]


@pytest.mark.parametrize("kind", KINDS)
def test_unit_of_the_target_does_not_matter(kind):
    targets, mean, std = draw(11, factor=1.7, n=300)
    found, scaled = (KINDS[kind].fit(k * targets, k * mean, k * std) for k in (1, 8))
    for one, other in zip(
        found.interval(mean, std, 0.9), scaled.interval(8 * mean, 8 * std, 0.9), strict=True
    ):
        np.testing.assert_allclose(other, 8 * one, rtol=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_spread(kind):
    """A DFT value has no interval around it, even where a level's interval is infinite."""
    found = KINDS[kind].fit(*draw(12, n=30))
    for level in (0.9, 0.999):
        low, high = found.interval(np.array([1.0, 2.0]), np.array([0.0, np.nan]), level)
        assert low[0] == high[0] == 1.0
        assert np.isnan(low[1])
        assert np.isnan(high[1])


def test_infinite_sharpness_is_not_a_number():
    few = SplitConformal(np.array([1.0, 2.0]))
    scores = few.score(*draw(13, n=20))
    assert scores["sharpness"] is None
    assert scores["coverage_95"] == 1.0
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_through_json(kind):
    found = KINDS[kind].fit(*draw(14, factor=2.0, n=200))
    text = json.dumps(found.to_dict(), allow_nan=False)
    again = read_recalibration(json.loads(text), where="calibration.json")
    assert type(again) is type(found)
    levels = np.linspace(0.0, 0.99, 50)
    np.testing.assert_array_equal(again.bounds(levels), found.bounds(levels))


def test_stored_recalibration_that_cannot_be_read():
    with pytest.raises(DataError, match=r"c.json: 'isotone' is no recal.*did you mean 'isotonic'"):
        read_recalibration({"kind": "isotone"}, where="c.json")
    with pytest.raises(DataError, match=r"c.json: the numbers of 'isotonic' are damaged"):
        read_recalibration({"kind": "isotonic", "residuals": [0.0]}, where="c.json")
    with pytest.raises(DataError, match=r"c.json: the numbers of 'std_scaling' are damaged"):
        read_recalibration({"kind": "std_scaling", "factor": None}, where="c.json")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_cannot_be_fitted(kind):
    with pytest.raises(DataError, match=f"9 validation rows are too few.*at least {MIN_ROWS}"):
        KINDS[kind].fit(*draw(1, n=9))
    targets, mean, std = draw(1, n=20)
    with pytest.raises(DataError, match="std is not positive in 20 of 20 rows"):
        KINDS[kind].fit(targets, mean, 0 * std)
    with pytest.raises(DataError, match="interval level 1; expected a share"):
        KINDS[kind].fit(targets, mean, std).interval(mean, std, 1.0)


def test_exact_fit_is_no_ground_for_scaling():
    _, mean, std = draw(1, n=20)
    with pytest.raises(DataError, match="every validation row is predicted exactly"):
        StdScaling.fit(mean, mean, std)
