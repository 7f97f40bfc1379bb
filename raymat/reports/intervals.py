"""The intervals of a histogram, for numbers of any size; whole numbers stand in their middle."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST, _FEWEST = 60, 5
_MANY = 1000  # values; of fewer none is an exception
_TAIL = 0.002  # of many values at either end, which would leave the rest a thin line
_NOISE = 1e-9  # of the size of the values: what varies less is one value


def intervals(values: Floats) -> Floats:
    """Give the n + 1 ends of n equal intervals for (m,) finite values.

    They leave out a few values at either end where those lie far from all others.
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
