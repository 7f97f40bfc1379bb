"""The ends of axes: intervals of a histogram, and the frame of scores of a search."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_MOST, _FEWEST = 60, 5
_MANY = 1000  # values; of fewer none is an exception
_TAIL = 0.002  # of many values at either end, which would leave the rest a thin line
_REACH = 3.0  # times the median's distance from the best, beyond the median: what a frame shows
_MARGIN = 0.06  # of the frame's height, above and below
_NOISE = 1e-9  # of the size of the values: what varies less is one value


@dataclass(frozen=True)
class ScoreFrame:
    """The ends of an axis of scores, and how many scores lie beyond them.

    Attributes:
        low: lower end, with a margin.
        high: upper end, with a margin.
        n_outside: scores beyond the end of the worse ones.
    """

    low: float
    high: float
    n_outside: int

    def remark(self, what: str, *, is_higher_better: bool) -> str:
        """Return how many `what` lie outside, such as ``1 trial above the frame``, or nothing."""
        if not self.n_outside:
            return ""
        several = "s" if self.n_outside > 1 else ""
        side = "below" if is_higher_better else "above"
        return f"{self.n_outside:,} {what}{several} {side} the frame"


def score_frame(scores: ArrayLike, *, is_higher_better: bool) -> ScoreFrame:
    """Compute the frame that shows the best scores, and bad ones unless they are far from the rest.

    The best score is always inside. On the side of the worse ones the frame ends three times as
    far beyond the median as the best is on its other side, so a diverged trial does not make all
    others one line. Scores that are not finite are left out.
    """
    values = np.asarray(scores, dtype=np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        return ScoreFrame(0.0, 1.0, 0)
    losses = -known if is_higher_better else known
    best, median = float(losses.min()), float(np.quantile(losses, 0.5, method="lower"))
    is_shown = losses <= (median + _REACH * (median - best) if median > best else np.inf)
    end = float(losses[is_shown].max())
    margin = _MARGIN * (end - best or abs(end) or 1.0)
    low, high = best - margin, end + margin
    low, high = (-high, -low) if is_higher_better else (low, high)
    return ScoreFrame(low, high, int((~is_shown).sum()))


def intervals(values: Floats) -> Floats:
    """Give the n + 1 ends of n equal intervals for (m,) finite values.

    Whole numbers stand in the middle of theirs. They leave out a few values at either end where
    those lie far from all others.
    """
    tail = _TAIL if len(values) >= _MANY else 0.0
    low, high = (float(end) for end in np.quantile(values, [tail, 1.0 - tail]))
    if bool(np.all(values == np.round(values))) and high - low < 2**31:
        step = max(1, -(-int(high - low + 1) // _MOST))
        return np.arange(low - 0.5, high + 0.5 + step, step)
    size = max(abs(low), abs(high))
    if high - low <= _NOISE * size:
        margin = 0.5 * (size or 1.0)
        return np.array([low - margin, high + margin])
    n = max(_FEWEST, min(_MOST, len(values) // 4))
    return np.linspace(low, high, n + 1)
