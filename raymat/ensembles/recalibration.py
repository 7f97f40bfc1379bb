r"""Three ways to make a predicted spread hold what it says, fitted on validation rows.

Each learns how the standardised residuals :math:`r = (y - \mu)/\sigma` of the validation rows are
really distributed, and gives intervals :math:`[\mu + \sigma a_p, \mu + \sigma b_p]`:

* `StdScaling`: still Gaussian, every std times one factor.
* `Isotonic`: any distribution, also one-sided (Kuleshov et al., ICML 2018).
* `SplitConformal`: any distribution, symmetric, with a guaranteed coverage.

One shape for all rows: none changes the order of the rows by spread, and none knows which row is
unlike the validation rows. The guarantee of all three ends where new rows are not drawn like the
validation rows, as under a split by chemical system.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from raymat.ensembles.calibration import (
    Floats,
    Scores,
    gaussian_bounds,
    score_intervals,
    score_uncertainty,
    standardised_residuals,
)
from raymat.errors import DataError, did_you_mean

MIN_ROWS = 10  # of a fit; below, even the 80 % interval would rest on the outermost two rows
INTERVAL = 0.9  # of predictions that a user is given
ROUNDING = 1e-9  # 1 - 0.9 and the like miss the share of a row by less


class Recalibration(ABC):
    """A fitted recalibration.

    Attributes:
        kind: its name in files.
    """

    kind: ClassVar[str]

    @classmethod
    def fit(cls, targets: Floats, mean: Floats, std: Floats) -> Self:
        """Fit on validation rows, (n_rows,) each, in the unit of the target.

        Raises:
            DataError: fewer than `MIN_ROWS` rows, or a std that is not positive.
        """
        residuals = standardised_residuals(targets, mean, std)
        if len(residuals) < MIN_ROWS:
            raise DataError(
                f"{len(residuals)} validation rows are too few to recalibrate the spread;"
                f" expected at least {MIN_ROWS}"
            )
        return cls.from_residuals(residuals)

    @classmethod
    @abstractmethod
    def from_residuals(cls, residuals: Floats) -> Self:
        """Fit on standardised residuals, (n_rows,)."""

    @abstractmethod
    def bounds(self, levels: Floats) -> tuple[Floats, Floats]:
        """Give the ends, in std from the mean, of the central interval of each level."""

    def interval(self, mean: Floats, std: Floats, level: float) -> tuple[Floats, Floats]:
        """Give the lower and upper end of every row's interval, in the unit of the target.

        A row without spread (std 0) keeps an interval of width 0, one with std nan gets nan.

        Args:
            mean: (n_rows,).
            std: (n_rows,), before recalibration.
            level: share of rows that it shall hold, 0 to below 1.

        Raises:
            DataError: a level outside that range.
        """
        if not 0.0 <= level < 1.0:
            raise DataError(f"interval level {level:g}; expected a share from 0 to below 1")
        low, high = self.bounds(np.array([level]))
        with np.errstate(invalid="ignore"):  # 0 * inf
            ends = [np.where(std == 0, mean, mean + std * end) for end in (low, high)]
        return ends[0], ends[1]

    def score(self, targets: Floats, mean: Floats, std: Floats) -> Scores:
        """Score on other rows, as `score_uncertainty`; `nll` is None where there is no density."""
        return {"nll": None, **score_intervals(targets, mean, std, self.bounds)}

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Give everything needed to make it again, ready for JSON."""

    @classmethod
    @abstractmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Make it again from what `to_dict` gave."""


@dataclass(frozen=True)
class StdScaling(Recalibration):
    r"""Every std times one factor, the maximum of the Gaussian likelihood.

    .. math:: s^2 = \langle r^2 \rangle

    Levi et al., Sensors 2022, 22, 5540. One factor sets the scale, not the shape: residuals of few
    members have heavier tails than a Gaussian, and coverage then fits at one level only.
    """

    kind: ClassVar[str] = "std_scaling"
    factor: float

    @classmethod
    def from_residuals(cls, residuals: Floats) -> Self:
        """Give the root mean square residual as factor; an exact fit, of which it is 0, is refused.

        Raises:
            DataError: every residual is 0.
        """
        factor = float(np.sqrt(np.square(residuals).mean()))
        if factor == 0:
            raise DataError(
                "every validation row is predicted exactly, which leaves a spread of 0;"
                " recalibrate on rows that no member was fitted to"
            )
        return cls(factor)

    def bounds(self, levels: Floats) -> tuple[Floats, Floats]:
        """Give the Gaussian interval of each level, in std before recalibration."""
        low, high = gaussian_bounds(levels)
        return self.factor * low, self.factor * high

    def scale(self, std: Floats) -> Floats:
        """Give the recalibrated standard deviations."""
        return self.factor * std

    def score(self, targets: Floats, mean: Floats, std: Floats) -> Scores:
        """Score on other rows as the Gaussian that it is."""
        return score_uncertainty(targets, mean, self.scale(std))

    def to_dict(self) -> dict[str, Any]:
        """Give kind and factor."""
        return {"kind": self.kind, "factor": self.factor}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Make it again from what `to_dict` gave."""
        return cls(float(stored["factor"]))


@dataclass(frozen=True, eq=False)
class Isotonic(Recalibration):
    """The residuals' own cumulative distribution, by isotonic regression.

    Kuleshov et al., ICML 2018, Algorithm 1, with two departures. Residuals take the place of their
    Gaussian probabilities, of which they are a monotone function: beyond 8 std, usual for an
    ensemble that is too sure, the probability rounds to 1. And rank / (n + 1) takes the place of
    rank / n, so that levels beyond what n rows can tell give infinite intervals.

    Attributes:
        residuals: increasing, in std from the mean.
        probabilities: cumulative probability of each.
    """

    kind: ClassVar[str] = "isotonic"
    residuals: Floats
    probabilities: Floats

    @classmethod
    def from_residuals(cls, residuals: Floats) -> Self:
        """Fit the cumulative distribution of the residuals."""
        from sklearn.isotonic import IsotonicRegression

        ordered = np.sort(residuals)
        ranks = np.arange(1.0, len(ordered) + 1.0) / (len(ordered) + 1.0)
        fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(ordered, ranks)
        return cls(np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_))

    def bounds(self, levels: Floats) -> tuple[Floats, Floats]:
        """Give the quantiles (1 - p)/2 and (1 + p)/2 of each level p; they need not be symmetric.

        Infinite beyond the outermost rows.
        """
        return self._quantiles(0.5 - 0.5 * levels), self._quantiles(0.5 + 0.5 * levels)

    def _quantiles(self, shares: Floats) -> Floats:
        within = np.clip(shares, self.probabilities[0], self.probabilities[-1])
        found = np.interp(within, self.probabilities, self.residuals)
        beyond = shares - within
        return np.where(np.abs(beyond) < ROUNDING, found, np.copysign(np.inf, beyond))

    def to_dict(self) -> dict[str, Any]:
        """Give kind, residuals and probabilities."""
        return {
            "kind": self.kind,
            "residuals": self.residuals.tolist(),
            "probabilities": self.probabilities.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Make it again from what `to_dict` gave."""
        columns = (stored["residuals"], stored["probabilities"])
        return cls(*(np.asarray(column, dtype=np.float64) for column in columns))


@dataclass(frozen=True, eq=False)
class SplitConformal(Recalibration):
    r"""Split conformal intervals, scaled by each row's std.

    The half-width of level p is the k-th smallest :math:`|y - \mu|/\sigma` of n validation rows,
    :math:`k = \lceil (n + 1) p \rceil`, infinite for k > n. For rows drawn like them, at least p
    and at most p + 1/(n + 1) of the intervals hold the target (Lei et al., J. Am. Stat. Assoc.
    2018, 113, 1094).

    Attributes:
        scores: absolute residuals of the validation rows, in std, increasing.
    """

    kind: ClassVar[str] = "split_conformal"
    scores: Floats

    @classmethod
    def from_residuals(cls, residuals: Floats) -> Self:
        """Keep the sizes of the residuals."""
        return cls(np.sort(np.abs(residuals)))

    def bounds(self, levels: Floats) -> tuple[Floats, Floats]:
        """Give plus and minus the quantile of each level, with the finite-sample correction."""
        ends = np.concatenate([[0.0], self.scores, [np.inf]])
        places = np.ceil((len(self.scores) + 1) * levels - ROUNDING).astype(np.int64)
        upper = ends[places]
        return -upper, upper

    def to_dict(self) -> dict[str, Any]:
        """Give kind and scores."""
        return {"kind": self.kind, "scores": self.scores.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Make it again from what `to_dict` gave."""
        return cls(np.asarray(stored["scores"], dtype=np.float64))


KINDS: dict[str, type[Recalibration]] = {
    cls.kind: cls for cls in (StdScaling, Isotonic, SplitConformal)
}


def fit_recalibrations(targets: Floats, mean: Floats, std: Floats) -> dict[str, Recalibration]:
    """Fit every kind on the same validation rows."""
    return {kind: cls.fit(targets, mean, std) for kind, cls in KINDS.items()}


def interval_columns(found: Recalibration | None, mean: Floats, std: Floats) -> dict[str, Floats]:
    """Give ``lower_90`` and ``upper_90`` of every row, as `Recalibration.interval`; {} for None."""
    if found is None:
        return {}
    lower, upper = found.interval(mean, std, INTERVAL)
    return {"lower_90": lower, "upper_90": upper}


def score_recalibrations(
    fitted: Mapping[str, Recalibration], targets: Floats, mean: Floats, std: Floats
) -> dict[str, Scores]:
    """Score rows that no member saw before recalibration (``"before"``) and after each kind."""
    before = {"before": score_uncertainty(targets, mean, std)}
    return before | {kind: found.score(targets, mean, std) for kind, found in fitted.items()}


def read_recalibration(stored: Mapping[str, Any], *, where: str) -> Recalibration:
    """Make a stored recalibration again.

    Args:
        stored: what `Recalibration.to_dict` gave.
        where: the file, for messages.

    Raises:
        DataError: an unknown kind, or one whose numbers are missing.
    """
    kind = str(stored.get("kind"))
    if kind not in KINDS:
        raise DataError(f"{where}: '{kind}' is no recalibration{did_you_mean(kind, KINDS)}")
    try:
        return KINDS[kind].from_dict(stored)
    except (KeyError, TypeError, ValueError) as cause:
        raise DataError(
            f"{where}: the numbers of '{kind}' are damaged ({cause}); calibrate the ensemble again"
        ) from cause
