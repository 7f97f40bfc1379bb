"""From what every member says of a candidate to the numbers of the table.

Sums run along the members of one candidate at a time, so that a candidate's numbers do not depend,
not even in the last digit, on which others share its shard.
"""

import numpy as np
from numpy.typing import NDArray

from raymat.screening.probability import effective_members, wilson_interval

Floats = NDArray[np.float64]


def mean_and_std(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    r"""Average over the members, those that say infinity left out.

    .. math:: \mu = \sum_n w_n x_n, \quad
              s^2 = \sum_n w_n (x_n - \mu)^2 / (1 - \sum_n w_n^2), \quad \sum_n w_n = 1

    For equal weights s is the sample standard deviation (n - 1).

    Args:
        values: (n_members, n_candidates), infinite where a quantity has no bound.
        weights: (n_members,) above zero, of any sum.

    Returns:
        Mean, infinite where no member is finite, and standard deviation, NaN where fewer than two
        are; (n_candidates,) each.
    """
    by_candidate = np.ascontiguousarray(values.T)
    is_finite = np.isfinite(by_candidate)
    shares = np.where(is_finite, weights, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares /= shares.sum(axis=1, keepdims=True)
        first = np.take_along_axis(by_candidate, is_finite.argmax(axis=1)[:, None], axis=1)
        # From the first finite member on, so that members that agree have no spread at all.
        apart = np.where(is_finite, by_candidate - first, 0.0)
        shift = (shares * apart).sum(axis=1, keepdims=True)
        squares = (shares * np.square(apart - shift)).sum(axis=1)
        std = np.sqrt(squares / (1.0 - np.square(shares).sum(axis=1)))
        mean = np.where(is_finite.any(axis=1), (first + shift)[:, 0], by_candidate.sum(axis=1))
    return mean, np.where(is_finite.sum(axis=1) > 1, std, np.nan)


def share_with_interval(holds: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Give the weighted share of the members that a condition holds for, and its 95 % interval.

    The interval is Wilson's for the effective number of members.

    Args:
        holds: (n_members, n_candidates), 1 or 0.
        weights: (n_members,) above zero, of any sum.

    Returns:
        Share, lower and upper end, (n_candidates,) each.
    """
    by_candidate = np.ascontiguousarray(holds.T)
    share = np.clip((by_candidate * weights).sum(axis=1) / weights.sum(), 0.0, 1.0)
    n = effective_members(weights)
    low, high = wilson_interval(share * n, n)
    return share, low, high
