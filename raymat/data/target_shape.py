"""The shape of a target's distribution: a peak at exactly zero, and one mode or two.

The test for two modes fits one Gaussian and a mixture of two to the values (those at zero aside, if
they are a peak). There are two modes if all of this holds: the mixture's BIC is lower by more than
10 (Kass & Raftery, J. Am. Stat. Assoc. 1995, 90, 773: very strong evidence); the density of the
values themselves has a valley between the two means, a fifth lower than the lower of its two peaks
or deeper; and the smaller part holds at least a tenth of the values. A skewed, flat or heavy-tailed
distribution makes the BIC fall, too, but has no valley. The density is a Gaussian kernel's with
Silverman's bandwidth, 0.9 min(s, IQR / 1.34) n^(-1/5).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ZERO_PEAK = 0.02
"""Smallest share of values of exactly 0 that is called a peak."""
_MIN_BIC_GAIN, _MAX_VALLEY, _MIN_WEIGHT = 10.0, 0.8, 0.1
_MIN_VALUES = 50  # fewer tell nothing of modes
_MOST_VALUES = 50_000  # that are fitted; a larger set is drawn from
_STARTS = 4  # of the fit of the mixture
_POINTS = 512  # where the density is looked at
_NOISE = 1e-9  # of the size of the values: what varies less is one value

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Modes:
    """A mixture of two Gaussians beside a single one.

    Attributes:
        means: of the two, ascending, in the target's unit.
        stds: of the two.
        weights: share of the values in each.
        bic_gain: BIC of one Gaussian less that of two; positive speaks for two.
        valley: least density of the values between the means, over that of the lower peak.
    """

    means: tuple[float, float]
    stds: tuple[float, float]
    weights: tuple[float, float]
    bic_gain: float
    valley: float

    @property
    def is_bimodal(self) -> bool:
        """Whether the test of this module finds two modes."""
        return (
            self.bic_gain > _MIN_BIC_GAIN
            and self.valley <= _MAX_VALLEY
            and min(self.weights) >= _MIN_WEIGHT
        )


@dataclass(frozen=True)
class TargetShape:
    """What is said of the values' distribution.

    Attributes:
        n_values: how many.
        n_zeros: of these, exactly 0.
        modes: of the values, without those of 0 if they are a peak; None for fewer than 50
            different ones.
    """

    n_values: int
    n_zeros: int
    modes: Modes | None

    @property
    def has_zero_peak(self) -> bool:
        """Whether so many values are exactly 0 that they are a peak of their own."""
        return self.n_zeros >= ZERO_PEAK * self.n_values and self.n_zeros > 0

    def lines(self, unit: str) -> list[str]:
        """Say it in sentences; `unit` is the target's."""
        told = []
        if self.has_zero_peak:
            share = self.n_zeros / self.n_values
            told.append(
                f"peak at exactly zero: {self.n_zeros:,} of {self.n_values:,} values ({share:.1%})"
            )
        if self.modes is not None:
            told.append(_say_modes(self.modes, unit, are_others=self.has_zero_peak))
        return told


def find_shape(values: Floats) -> TargetShape:
    """Look at (n,) finite values; the same values give the same answer."""
    n_zeros = int(np.count_nonzero(values == 0.0))
    shape = TargetShape(len(values), n_zeros, None)
    others = values[values != 0.0] if shape.has_zero_peak else values
    if len(np.unique(others)) < _MIN_VALUES or not _varies(others):
        return shape
    return TargetShape(len(values), n_zeros, _fit_modes(others))


def _varies(values: Floats) -> bool:
    """Say whether values differ by more than the rounding of a constant, and can be squared."""
    with np.errstate(over="ignore"):
        spread = float(values.std())
    return _NOISE * float(np.abs(values).max()) < spread < np.inf


def _fit_modes(values: Floats) -> Modes:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(values) > _MOST_VALUES:
        values = np.random.default_rng(0).choice(values, _MOST_VALUES, replace=False)
    shift, scale = float(values.mean()), float(values.std())
    column = ((values - shift) / scale)[:, None]
    one = GaussianMixture(1, random_state=0).fit(column)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best of the starts is good enough
        two = GaussianMixture(2, n_init=_STARTS, random_state=0).fit(column)
    order = np.argsort(two.means_[:, 0])
    means = two.means_[order, 0] * scale + shift
    stds = np.sqrt(two.covariances_[order, 0, 0]) * scale
    weights = two.weights_[order]
    return Modes(
        means=(float(means[0]), float(means[1])),
        stds=(float(stds[0]), float(stds[1])),
        weights=(float(weights[0]), float(weights[1])),
        bic_gain=float(one.bic(column) - two.bic(column)),
        valley=_valley(values, means, stds),
    )


def _valley(values: Floats, means: Floats, stds: Floats) -> float:
    """Give the depth of the valley between two means, 1 where there is none."""
    from scipy.ndimage import gaussian_filter1d

    quarter, three_quarters = np.quantile(values, [0.25, 0.75])
    spread = min(float(values.std()), float(three_quarters - quarter) / 1.34 or np.inf)
    bandwidth = 0.9 * spread * len(values) ** -0.2
    low, high = means[0] - stds[0], means[1] + stds[1]
    margin = 4.0 * bandwidth
    counts, edges = np.histogram(values, bins=_POINTS, range=(low - margin, high + margin))
    density = gaussian_filter1d(counts.astype(np.float64), bandwidth / (edges[1] - edges[0]))
    middles = 0.5 * (edges[1:] + edges[:-1])
    between = np.flatnonzero((middles >= means[0]) & (middles <= means[1]))
    if not len(between):
        return 1.0
    lowest = int(between[density[between].argmin()])
    inside = np.flatnonzero((middles >= low) & (middles <= high))
    peaks = density[inside[0] : lowest + 1].max(), density[lowest : inside[-1] + 1].max()
    return float(density[lowest] / min(peaks))


def _say_modes(modes: Modes, unit: str, *, are_others: bool) -> str:
    which = "the other values" if are_others else "the values"
    found = "two modes" if modes.is_bimodal else "one mode"
    after = f" {unit}" if unit else ""
    parts = " and ".join(
        f"{mean:.3g} ± {std:.2g}{after} ({weight:.0%})"
        for mean, std, weight in zip(modes.means, modes.stds, modes.weights, strict=True)
    )
    depth = f"a valley at {modes.valley:.0%} of the lower peak" if modes.valley < 1 else "no valley"
    return (
        f"{which} have {found}: two Gaussians, at {parts}, gain {modes.bic_gain:,.0f} in BIC over"
        f" one, and between them there is {depth} (two modes: a gain above {_MIN_BIC_GAIN:g}, a"
        f" valley of at most {_MAX_VALLEY:.0%}, {_MIN_WEIGHT:.0%} of the values in each)"
    )
