"""Target scaling: networks learn (y - mean) / std."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError

SMALLEST_STD = 1e-100
"""Smallest spread of a target: the square of a smaller one is soon no number."""
_ORDINARY = (0.01, 100.0, 1000.0)  # smallest and largest std, furthest mean
_ROUNDING = 1e-13  # of the size of the values: what varies less is one number and its rounding


@dataclass(frozen=True)
class TargetScaling:
    """A linear map between a target and what a network learns.

    Attributes:
        mean: in the target's unit.
        std: in the target's unit, positive.
    """

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, targets: NDArray[np.float64]) -> "TargetScaling":
        """Take mean and sample standard deviation (n - 1) of all training targets.

        The authors' code estimates both from at most 500 rows of the whole data set, test rows
        included; this uses the training rows only, all of them.

        Raises:
            DataError: fewer than two rows, or all targets are equal.
        """
        refuse_constant(targets, "training targets")
        return cls(mean=float(targets.mean()), std=float(targets.std(ddof=1)))

    def scale(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map targets to what the network learns."""
        return (targets - self.mean) / self.std

    def restore(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map network outputs back to the target's unit."""
        return scaled * self.std + self.mean


def is_ordinary(targets: NDArray[np.float64]) -> bool:
    """Say whether a network can learn training targets in their own unit.

    It can where their standard deviation lies between 0.01 and 100 and their mean within 1000 of 0.
    """
    low, high, furthest = _ORDINARY
    return low <= float(targets.std()) <= high and abs(float(targets.mean())) <= furthest


def refuse_constant(targets: NDArray[np.float64], what: str) -> None:
    """Refuse targets of which nothing can be learned; `what` are they, such as "usable values".

    Raises:
        DataError: fewer than two, all equal but for rounding, or too small to be squared.
    """
    n, size = len(targets), float(np.abs(targets).max(initial=0.0))
    spread = float(np.ptp(targets)) if n else 0.0
    if n < 2 or spread <= _ROUNDING * size:
        value = f" ({targets[0]:.6g})" if n else ""
        raise DataError(
            f"the {n:,} {what} are all equal{value}, so there is nothing to learn; choose another"
            " target or more rows"
        )
    if spread < SMALLEST_STD:
        raise DataError(
            f"the {n:,} {what} differ by {spread:.3g} at most, too little to compute with; use"
            " another unit"
        )
