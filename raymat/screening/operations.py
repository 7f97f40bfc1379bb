"""What an expression may compute: operators, functions and constants, all of them named here.

Numbers are float64. A condition is 1 where it holds, 0 where it does not and NaN where it cannot
be told because a number it compares is missing; ``and``, ``or`` and ``not`` follow Kleene's
three-valued logic, so ``False and unknown`` is false and ``not unknown`` stays unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LOW_WAVENUMBER,
    critical_wavelength_nm,
    poisson_ratio,
    stability_parameter,
)

Kind = Literal["number", "condition"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Operation:
    """One operator or function.

    Attributes:
        compute: gives the result of arrays that broadcast against each other.
        takes: kind of every argument.
        gives: kind of the result.
    """

    compute: Callable[..., Any]
    takes: tuple[Kind, ...]
    gives: Kind


def _numbers(compute: Callable[..., Any], n_arguments: int = 2) -> Operation:
    kind: Kind = "number"
    return Operation(compute, (kind,) * n_arguments, kind)


def _comparison(compare: Callable[..., Any]) -> Operation:
    return Operation(_Comparison(compare), ("number", "number"), "condition")


def _test(test: Callable[..., Any]) -> Operation:
    return Operation(test, ("number",), "condition")


@dataclass(frozen=True)
class _Comparison:
    """A comparison that is unknown where a side is missing."""

    compare: Callable[..., Any]

    def __call__(self, left: Values, right: Values) -> Values:
        unknown = np.isnan(left) | np.isnan(right)
        return np.where(unknown, np.nan, self.compare(left, right))


def _and(left: Values, right: Values) -> Values:
    return np.where((left == 0) | (right == 0), 0.0, left * right)


def _or(left: Values, right: Values) -> Values:
    return np.where((left == 1) | (right == 1), 1.0, left + right)


def _not(condition: Values) -> Values:
    return 1.0 - condition


def _where(condition: Values, then: Values, otherwise: Values) -> Values:
    chosen = np.where(condition == 1, then, otherwise)
    return np.where(np.isnan(condition), np.nan, chosen)


NEGATIVE = "unary -"  # no name can be spelt like this, nor like the operators below

OPERATORS: dict[str, Operation] = {
    "+": _numbers(np.add),
    "-": _numbers(np.subtract),
    "*": _numbers(np.multiply),
    "/": _numbers(np.divide),
    "**": _numbers(np.power),
    NEGATIVE: _numbers(np.negative, 1),
    "<": _comparison(np.less),
    "<=": _comparison(np.less_equal),
    ">": _comparison(np.greater),
    ">=": _comparison(np.greater_equal),
    "==": _comparison(np.equal),
    "!=": _comparison(np.not_equal),
    "and": Operation(_and, ("condition", "condition"), "condition"),
    "or": Operation(_or, ("condition", "condition"), "condition"),
    "not": Operation(_not, ("condition",), "condition"),
}

FUNCTIONS: dict[str, Operation] = {
    "abs": _numbers(np.abs, 1),
    "exp": _numbers(np.exp, 1),
    "log": _numbers(np.log, 1),
    "log10": _numbers(np.log10, 1),
    "sqrt": _numbers(np.sqrt, 1),
    "minimum": _numbers(np.minimum),
    "maximum": _numbers(np.maximum),
    "where": Operation(_where, ("condition", "number", "number"), "number"),
    "isfinite": _test(np.isfinite),
    "isinf": _test(np.isinf),
    "isnan": _test(np.isnan),
    # The lithium-metal interface: moduli in GPa, wavenumber in 1/m.
    "poisson_ratio": _numbers(poisson_ratio),
    "stability_parameter": _numbers(stability_parameter, 4),
    "critical_wavelength_nm": _numbers(critical_wavelength_nm, 3),
}

CONSTANTS: dict[str, float] = {
    "low_wavenumber": LOW_WAVENUMBER,  # 1/m
    "high_wavenumber": HIGH_WAVENUMBER,  # 1/m
}

OPERATIONS = {**OPERATORS, **FUNCTIONS}
