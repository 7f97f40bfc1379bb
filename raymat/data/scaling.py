"""Target scaling: networks learn (y - mean) / std."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError


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
        if len(targets) < 2 or float(np.ptp(targets)) == 0.0:
            raise DataError(
                f"the {len(targets)} training targets are all equal, so there is nothing to learn;"
                " choose another target or more rows"
            )
        return cls(mean=float(targets.mean()), std=float(targets.std(ddof=1)))

    def scale(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map targets to what the network learns."""
        return (targets - self.mean) / self.std

    def restore(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map network outputs back to the target's unit."""
        return scaled * self.std + self.mean
