r"""How far a predicted spread can be trusted.

Numbers are scored as Gaussians of the predicted mean and standard deviation. With standardised
residuals :math:`r = (y - \mu) / \sigma` and the central interval of each level p:

.. math:: \mathrm{NLL} = \left\langle \ln \sigma + \tfrac12 \ln 2\pi + \tfrac12 r^2 \right\rangle,
          \quad \mathrm{miscalibration\ area} = \int_0^1 |\hat p(p) - p| \, dp

where :math:`\hat p(p)` is the share of rows inside (Kuleshov et al., ICML 2018; Tran et al., Mach.
Learn.: Sci. Technol. 2020, 1, 025006). No correction for few members is applied; what few members
alone cost is told by `expected_coverage`. Classes are scored by their probabilities.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from raymat.errors import DataError
from raymat.training.metrics import FEWEST_ROWS, gaussian_likelihood

Floats = NDArray[np.float64]
Scores = dict[str, float | None]  # None: not defined for these rows or this spread
Bounds = Callable[[Floats], tuple[Floats, Floats]]  # levels -> ends of r's central interval

N_LEVELS = 100  # of the calibration curve, both ends included, as in uncertainty-toolbox
COVERAGE_LEVELS = (0.50, 0.90, 0.95)
# What `score_uncertainty` gives, but for the number of rows.
SPREAD_SCORES = (
    *("nll", "miscalibration_area", "coverage_50", "coverage_90", "coverage_95"),
    *("sharpness", "spearman"),
)
ONE_SIGMA = 0.6826894921370859  # share of a Gaussian within one standard deviation
N_BINS = 15  # of the expected calibration error: Guo et al., ICML 2017


def gaussian_bounds(levels: Floats) -> tuple[Floats, Floats]:
    """Give the ends of the standard normal distribution's central interval of each level."""
    upper = np.asarray(ndtri(0.5 + 0.5 * levels), dtype=np.float64)
    return -upper, upper


def standardised_residuals(targets: Floats, mean: Floats, std: Floats) -> Floats:
    """Give (target - mean) / std of every row.

    Raises:
        DataError: no rows, different lengths, values that are not finite, or a std that is not
            positive, for which no density exists.
    """
    _check_same_length(targets=targets, mean=mean, std=std)
    without = int((std <= 0).sum())
    if without:
        raise DataError(
            f"std is not positive in {without} of {len(std)} rows, first row"
            f" {int(np.argmax(std <= 0))}; leave out rows without spread, such as those of"
            " identical members or of DFT values"
        )
    residuals: Floats = (targets - mean) / std
    return residuals


def has_spread(std: Floats) -> NDArray[np.bool_]:
    """Say which rows (n_rows,) can be scored: not those in which all members agree, std 0."""
    return ~(std <= 0)  # a std of nan is an error, which must not go unseen


def score_uncertainty(targets: Floats, mean: Floats, std: Floats) -> Scores:
    """Score a predicted mean and standard deviation of a number.

    Args:
        targets: (n_rows,).
        mean: (n_rows,), unit of the target.
        std: (n_rows,), unit of the target.

    Returns:
        nll: mean negative log likelihood, for targets in their own unit.
        miscalibration_area: 0 (perfect) to 0.5.
        coverage_50, coverage_90, coverage_95: share of rows inside the central interval.
        sharpness: root mean square std, unit of the target.
        spearman: rank correlation of absolute error and std; None where either is constant, or
            of fewer than five rows.
        n: rows.

    Raises:
        DataError: see `standardised_residuals`.
    """
    standardised_residuals(targets, mean, std)  # checks the rows
    nll = gaussian_likelihood(targets, mean, std)
    return {"nll": nll, **score_intervals(targets, mean, std, gaussian_bounds)}


def score_intervals(targets: Floats, mean: Floats, std: Floats, bounds: Bounds) -> Scores:
    """Score the intervals ``mean + std * bounds(level)``: all of `score_uncertainty` but the NLL.

    `sharpness` is the root mean square half-width of the interval of one standard deviation
    (68.27 %), which for a Gaussian is the standard deviation; None where that is infinite.
    """
    residuals = standardised_residuals(targets, mean, std)
    covered = _shares_inside(residuals, bounds(np.array(COVERAGE_LEVELS)))
    low, high = bounds(np.array([ONE_SIGMA]))
    half_width = 0.5 * float(high[0] - low[0])
    sharpness = half_width * float(np.sqrt(np.square(std).mean()))
    return {
        "miscalibration_area": miscalibration_area(
            *calibration_curve(targets, mean, std, bounds=bounds)
        ),
        **{
            f"coverage_{100 * level:.0f}": float(share)
            for level, share in zip(COVERAGE_LEVELS, covered, strict=True)
        },
        "sharpness": sharpness if np.isfinite(sharpness) else None,
        "spearman": _rank_correlation(np.abs(targets - mean), std),
        "n": len(targets),
    }


def calibration_curve(
    targets: Floats,
    mean: Floats,
    std: Floats,
    *,
    bounds: Bounds = gaussian_bounds,
    n_levels: int = N_LEVELS,
) -> tuple[Floats, Floats]:
    """Give the levels from 0 to 1 and the share of rows inside each central interval.

    Returns:
        expected and observed, (n_levels,) each; a perfect spread has both the same.
    """
    expected = np.linspace(0.0, 1.0, n_levels)
    residuals = standardised_residuals(targets, mean, std)
    return expected, _shares_inside(residuals, bounds(expected))


def miscalibration_area(expected: Floats, observed: Floats) -> float:
    """Give the area between a calibration curve, linear between its points, and the diagonal."""
    difference = observed - expected
    left, right = difference[:-1], difference[1:]
    size = np.abs(left) + np.abs(right)
    # Two triangles where the curve crosses the diagonal, else one trapezium.
    crossing = (np.square(left) + np.square(right)) / np.where(size > 0, size, 1.0)
    height = np.where(left * right < 0, crossing, size)
    return float(0.5 * (np.diff(expected) * height).sum())


def expected_coverage(level: float, n_members: int) -> float:
    r"""Give the coverage that few members alone allow to the interval mean ± z std.

    If the target is one more draw from the normal distribution that the members were drawn from,
    :math:`(y - \mu) / (s \sqrt{1 + 1/n})` follows Student's t with n - 1 degrees of freedom: 90 %
    intervals of 5 members then hold 79 %, of 100 members 89.5 %.

    Args:
        level: nominal level of the Gaussian interval, 0 to 1.
        n_members: members of equal weight, at least 2.

    Raises:
        DataError: fewer than two members.
    """
    if n_members < 2:
        raise DataError(f"{n_members} member has no spread; expected at least 2")
    reach = ndtri(0.5 + 0.5 * level) / np.sqrt(1.0 + 1.0 / n_members)
    return float(2.0 * stdtr(n_members - 1, reach) - 1.0)


def score_probabilities(targets: Floats, probabilities: Floats) -> Scores:
    """Score predicted probabilities of class 1.

    Args:
        targets: (n_rows,), 0 or 1.
        probabilities: (n_rows,), 0 to 1.

    Returns:
        nll: log loss in nats; certainty about the wrong class counts as one rounding error of 1.
        brier: mean squared difference of probability and class.
        ece: expected calibration error over `N_BINS` bins of equal width.
        n: rows.

    Raises:
        DataError: no rows, different lengths, a target that is no class, a value that is no
            probability.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    _check_same_length(targets=targets, probabilities=probabilities)
    _check_classes(targets, probabilities)
    classes = targets.astype(np.int64)
    return {
        "nll": float(log_loss(classes, probabilities, labels=[0, 1])),
        "brier": float(brier_score_loss(classes, probabilities, pos_label=1)),
        "ece": _expected_calibration_error(targets, probabilities),
        "n": len(targets),
    }


def _expected_calibration_error(targets: Floats, probabilities: Floats) -> float:
    bins = np.minimum((probabilities * N_BINS).astype(np.int64), N_BINS - 1)
    gaps = np.bincount(bins, weights=probabilities - targets, minlength=N_BINS)
    return float(np.abs(gaps).sum() / len(targets))


def _shares_inside(residuals: Floats, bounds: tuple[Floats, Floats]) -> Floats:
    """Give the share of residuals in each closed interval."""
    ordered = np.sort(residuals)
    low, high = bounds
    inside = np.searchsorted(ordered, high, "right") - np.searchsorted(ordered, low, "left")
    shares: Floats = inside / len(ordered)
    return shares


def _rank_correlation(errors: Floats, std: Floats) -> float | None:
    from scipy.stats import spearmanr

    if len(errors) < FEWEST_ROWS or np.ptp(errors) == 0 or np.ptp(std) == 0:
        return None
    return float(spearmanr(errors, std).statistic)


def _check_same_length(**columns: Floats) -> None:
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"columns differ in shape: {found}; expected one value a row in each")
    for name, values in columns.items():
        lost = int((~np.isfinite(values)).sum())
        if lost or len(values) == 0:
            found = f"{lost} of {len(values)} values are not finite" if lost else "no rows"
            raise DataError(f"{name}: {found}; score rows that have a target and a prediction")


def _check_classes(targets: Floats, probabilities: Floats) -> None:
    strange = targets[(targets != 0) & (targets != 1)]
    if len(strange):
        raise DataError(f"targets: {float(strange[0]):g} is no class; expected 0 or 1")
    outside = probabilities[(probabilities < 0) | (probabilities > 1)]
    if len(outside):
        raise DataError(
            f"probabilities: {float(outside[0]):g} is outside 0 to 1; numbers are scored by"
            " score_uncertainty"
        )
