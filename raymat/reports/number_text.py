"""Numbers as a table shows them."""

import math

import numpy as np
from numpy.typing import ArrayLike

MOST_DECIMALS = 8  # smaller numbers are written with a power of ten


def spread(mean: float, std: float = math.nan) -> str:
    """Give ``0.0768 ± 0.0021``: two digits of the deviation; four of the mean if there is none."""
    if not math.isfinite(mean):
        return "-"
    if not math.isfinite(std) or std == 0:  # 0: such as the parameters of a default
        return number(mean)
    decimals = max(0, 1 - math.floor(math.log10(std)))
    if decimals > MOST_DECIMALS:
        return f"{mean:.4g} ± {std:.2g}"
    return f"{mean:,.{decimals}f} ± {std:,.{decimals}f}"


def number(value: float) -> str:
    """Give four digits, or a whole number in full."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1000 or (value == round(value) and abs(value) < 1e15):
        return f"{value:,.0f}"
    decimals = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}" if decimals < 8 else f"{value:.3g}"


def signed_interval(low: float, high: float) -> str:
    """Give both ends with their sign, ``-`` where there is no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "-"
    decimals = _decimals(max(abs(low), abs(high)))
    if decimals > MOST_DECIMALS:
        return f"{low:+.3g} to {high:+.3g}"
    return f"{low:+.{decimals}f} to {high:+.{decimals}f}"


def signed(value: float) -> str:
    """Give three digits and the sign."""
    if not math.isfinite(value):
        return "-"
    decimals = _decimals(abs(value))
    return f"{value:+.3g}" if decimals > MOST_DECIMALS else f"{value:+.{decimals}f}"


def _decimals(size: float) -> int:
    return max(0, 2 - math.floor(math.log10(size or 1.0)))


def n_decimals(values: ArrayLike) -> int:
    """Give how many decimals tell numbers of one table apart: three digits of their range."""
    reach = float(np.ptp(values)) or float(np.max(np.abs(values)))
    return min(8, max(0, 2 - math.floor(math.log10(reach)))) if reach else 2


def with_minus(text: str) -> str:
    """Give a number's text with the minus sign of the printed page."""
    return text.replace("-", "−")


def size(mean: float, std: float = math.nan) -> str:
    """Give bytes in kB or MB (powers of 1000)."""
    if not math.isfinite(mean):
        return "-"
    unit, scale = ("MB", 1e6) if mean >= 1e6 else ("kB", 1e3)
    text = spread(mean / scale, std / scale)
    return f"{text} {unit}"


def short(value: float) -> str:
    """Give three digits, with k for thousands and M for millions."""
    if not math.isfinite(value):
        return "-"
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale * 0.9995:
            return _three(value / scale) + unit
    return _three(value)


def _three(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
