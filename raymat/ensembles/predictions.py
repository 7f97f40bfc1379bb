r"""What the members of an ensemble predict, and the spread that follows from it.

With members' values :math:`x_n`, predicted noise :math:`\sigma_n` and weights :math:`w_n`
(:math:`\sum_n w_n = 1`), as in Lakshminarayanan et al., NeurIPS 2017:

.. math:: \mu = \sum_n w_n x_n, \quad
          \sigma^2 = \underbrace{\frac{\sum_n w_n (x_n - \mu)^2}{1 - \sum_n w_n^2}}_{epistemic}
                   + \underbrace{\sum_n w_n \sigma_n^2}_{aleatoric}

For equal weights the first term is the sample variance (n - 1); for others it is the same
unbiased estimate with `effective_members` in the place of n.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError

Floats = NDArray[np.float64]

SUM_TOLERANCE = 1e-9  # how far weights may add up to something else than 1


@dataclass(frozen=True, eq=False)
class MemberPredictions:
    """Every member's prediction of every row, in the unit of the target (or P of class 1).

    A value that is not finite stands for a member that has no prediction of that row; `mean` and
    the spreads of that row are then nan, unless the member's weight is 0.

    Attributes:
        values: (n_members, n_rows).
        noise: (n_members, n_rows) standard deviation that heteroscedastic members predict of the
            target itself; None for members that predict a mean only.
        weights: (n_members,), none negative, sum 1.

    Raises:
        DataError: shapes that do not fit, negative noise, or weights that are no shares.
    """

    values: Floats
    noise: Floats | None
    weights: Floats

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) == 0:
            raise DataError(
                f"members' values have shape {self.values.shape}; expected (n_members, n_rows)"
                " with at least one member"
            )
        _check_weights(self.weights, len(self.values))
        if self.noise is not None:
            _check_noise(self.noise, self.values)

    @classmethod
    def equal(cls, values: Floats, noise: Floats | None = None) -> Self:
        """Give members that count the same."""
        n_members = max(len(values), 1)
        return cls(values, noise, np.full(len(values), 1.0 / n_members))

    @property
    def n_members(self) -> int:
        """Members, also those of weight 0."""
        return len(self.values)

    @property
    def n_rows(self) -> int:
        """Rows (crystals)."""
        return int(self.values.shape[1])

    @property
    def effective_members(self) -> float:
        """Kish's effective number, 1 / sum of squared weights; n_members for equal weights."""
        return float(1.0 / np.square(self.weights).sum())

    @property
    def mean(self) -> Floats:
        """(n_rows,) weighted mean of the members."""
        return self._average(self.values)

    @property
    def epistemic(self) -> Floats:
        """(n_rows,) spread between members; nan where one member holds all the weight.

        It is the spread of single members, not the standard error of their mean.
        """
        if np.count_nonzero(self.weights) < 2:
            return np.full(self.n_rows, np.nan)
        kept = 1.0 - 1.0 / self.effective_members  # (n - 1)/n: the mean is the members' own
        with np.errstate(invalid="ignore"):
            squares = np.square(self.values - self.mean)
        return np.sqrt(self._average(squares) / kept)

    @property
    def aleatoric(self) -> Floats:
        """(n_rows,) root of the mean variance that members predict; 0 when they predict none."""
        if self.noise is None:
            return np.zeros(self.n_rows)
        return np.sqrt(self._average(np.square(self.noise)))

    @property
    def total(self) -> Floats:
        """(n_rows,) standard deviation, epistemic and aleatoric together."""
        return np.hypot(self.epistemic, self.aleatoric)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        """Give the same members on some rows, by position or by mask."""
        noise = None if self.noise is None else self.noise[:, rows]
        return type(self)(self.values[:, rows], noise, self.weights)

    def first(self, n: int) -> Self:
        """Give the first `n` members, their weights scaled to sum 1.

        Raises:
            DataError: there are not so many, or none of them has any weight.
        """
        if not 1 <= n <= self.n_members:
            raise DataError(f"{n} members asked for; this ensemble has {self.n_members}")
        weights = self.weights[:n]
        if weights.sum() <= 0:
            raise DataError(f"the first {n} members have weight 0; take more of them")
        noise = None if self.noise is None else self.noise[:n]
        return type(self)(self.values[:n], noise, weights / weights.sum())

    def draw(self, members: NDArray[np.integer]) -> Self:
        """Give some members, by position, that count the same whatever their weights."""
        noise = None if self.noise is None else self.noise[members]
        return self.equal(self.values[members], noise)

    def _average(self, values: Floats) -> Floats:
        """Average over members, exactly the common value where all agree."""
        counted = self.weights > 0
        chosen, weights = values[counted], self.weights[counted, None]
        with np.errstate(invalid="ignore"):  # inf - inf: no prediction, nan as documented
            mean: Floats = chosen[0] + (weights * (chosen - chosen[0])).sum(axis=0)
        return mean


def _check_weights(weights: Floats, n_members: int) -> None:
    if weights.shape != (n_members,):
        raise DataError(f"weights have shape {weights.shape}; expected ({n_members},)")
    if not np.isfinite(weights).all() or (weights < 0).any():
        worst = float(weights[~(weights >= 0) | ~np.isfinite(weights)][0])
        raise DataError(f"a member's weight is {worst}; expected a number from 0 to 1")
    if abs(float(weights.sum()) - 1.0) > SUM_TOLERANCE:
        raise DataError(f"weights add up to {float(weights.sum()):g}; divide them by their sum")


def _check_noise(noise: Floats, values: Floats) -> None:
    if noise.shape != values.shape:
        raise DataError(f"noise has shape {noise.shape}, values {values.shape}; expected the same")
    if (noise < 0).any():
        raise DataError(
            f"predicted noise is negative in {int((noise < 0).sum())} of {noise.size} values;"
            " expected a standard deviation"
        )
