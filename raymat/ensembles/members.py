"""What makes the members of an ensemble differ: their rows, their seeds, their configuration.

Every member learns from a random share of the training rows, drawn without replacement, and has
weights of its own (Ahmad et al., ACS Cent. Sci. 2018, 4, 996: 100 members on 60 % each). All
members share the validation rows, by which each chooses its epoch, and none sees a test row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError

MAX_ATTEMPTS = 2  # a member that fails is tried once more, with another seed
FEWEST_ROWS = 2  # of a fit


@dataclass(frozen=True)
class MemberPlan:
    """One member before it is trained.

    Attributes:
        number: from 0 on.
        attempt: 0 for the first, 1 for the second after a failure.
        configuration: which of the ensemble's configurations it has.
        seed: of its rows, weights, order and dropout.
        rows: training rows it learns from, ascending.
    """

    number: int
    attempt: int
    configuration: int
    seed: int
    rows: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return member_name(self.number)


def plan_member(
    number: int,
    attempt: int,
    *,
    seed: int,
    fraction: float,
    train: NDArray[np.int64],
    n_configurations: int = 1,
) -> MemberPlan:
    """Draw a member; the same arguments give the same member, whichever are trained beside it.

    Args:
        number: from 0 on; members take the configurations in turn.
        attempt: 0, or 1 after a failure: other rows, other weights.
        seed: of the ensemble. Two ensembles with one seed and one split, such as those of the
            bulk and the shear modulus, draw the same rows for members of the same number.
        fraction: of the training rows.
        train: row numbers of the training part.
        n_configurations: configurations of the ensemble.

    Raises:
        DataError: the share is too small for a fit.
    """
    n_rows = round(fraction * len(train))
    if n_rows < FEWEST_ROWS:
        raise DataError(
            f"a share of {fraction:g} of {len(train):,} training rows leaves a member {n_rows};"
            " raise --fraction or use more rows"
        )
    own_seed = member_seed(seed, number, attempt)
    rows = np.random.default_rng(own_seed).choice(train, size=n_rows, replace=False)
    return MemberPlan(number, attempt, number % n_configurations, own_seed, np.sort(rows))


def member_seed(seed: int, number: int, attempt: int) -> int:
    """Give a member's seed, 32 bits; neighboring members and ensembles do not resemble each other.

    `numpy.random.SeedSequence` mixes the three, so ensemble 1's member 0 is not ensemble 0's
    member 1, as it would be with a sum.
    """
    return int(np.random.SeedSequence([seed, number, attempt]).generate_state(1)[0])


def member_name(number: int) -> str:
    """Give the name of a member's folder, such as ``0057``."""
    return f"{number:04d}"
