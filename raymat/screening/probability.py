"""How well so many members, or draws, know a probability."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Numbers = float | Values


def effective_members(weights: Values) -> float:
    r"""Give how many equally weighted members would know a mean as well (Kish 1965).

    .. math:: n = (\sum_n w_n)^2 / \sum_n w_n^2
    """
    return float(weights.sum() ** 2 / np.square(weights).sum())


def wilson_interval(
    successes: Numbers, n: Numbers, *, confidence: float = 0.95
) -> tuple[Values, Values]:
    r"""Give the interval of a probability from `successes` in `n` draws.

    .. math:: \frac{1}{1 + z^2/n} \left( p + \frac{z^2}{2n}
              \pm z \sqrt{\frac{p (1-p)}{n} + \frac{z^2}{4 n^2}} \right), \quad p = successes / n

    Wilson, J. Am. Stat. Assoc. 1927, 22, 209. Unlike p +- z sd it stays inside [0, 1] and has a
    width at p = 0: none of 100 members passing still allows a probability of 0.037. It speaks of
    the number of members alone, as if they were drawn at random; what all members share, such as
    the training set, it does not see.

    Args:
        successes: between 0 and n; need not be whole where members are weighted.
        n: number of draws; nan comes back where it is not above zero or `successes` lies outside.
        confidence: share of such intervals that hold the true probability, between 0 and 1.

    Returns:
        Lower and upper end, shaped as `successes` and `n` broadcast to.
    """
    n = np.asarray(n, dtype=np.float64)
    is_possible = (n > 0) & (successes >= 0) & (successes <= n)
    n = np.where(is_possible, n, np.nan)
    p = np.where(is_possible, successes, np.nan) / n
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    center = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (center - half) / (1 + z**2 / n), (center + half) / (1 + z**2 / n)
    # Exact at both ends, where rounding would leave 1e-18 for 0.
    return np.where(p == 0, 0.0, low), np.where(p == 1, 1.0, high)
