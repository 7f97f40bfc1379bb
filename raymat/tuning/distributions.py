"""The plain distributions of a search space: choice, int, log_int, uniform, log_uniform.

They are data: what may be drawn, and how densely. Handing them to a search algorithm is the
business of whoever runs the search.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Self, TypeAlias, TypeGuard

import numpy as np
from pydantic import Field, field_validator, model_validator

from raymat.config import Config
from raymat.errors import ConfigError
from raymat.text import quoted

Scalar: TypeAlias = str | int | float | bool | None

Whole = Annotated[int, Field(ge=-(10**15), le=10**15)]

MOST_VALUES = 100_000
"""Most values of a grid; each is written out."""
MOST_CHOICES = 1_000
_SHOWN_CHOICES = 20  # of a message
_LONGEST_CHOICE = 200  # characters
_STEP_TOLERANCE = 1e-9  # in steps: 0.2 / 0.05 is 4 only up to rounding


class Distribution(Config, ABC):
    """What one searched key may take."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw one value."""

    @abstractmethod
    def contains(self, value: object) -> bool:
        """Say whether `value` can be drawn."""

    @abstractmethod
    def describe(self) -> str:
        """Give what can be drawn, in words for a message."""

    @abstractmethod
    def extremes(self) -> tuple[Scalar, ...]:
        """Give the values that a bound can forbid: both ends, or every choice."""

    @abstractmethod
    def grid_values(self) -> tuple[Scalar, ...]:
        """Give every value, for a grid search.

        Raises:
            ConfigError: the distribution is continuous, or has more than `MOST_VALUES` values.
        """


class Choice(Distribution):
    """One of a few values, equally likely."""

    values: tuple[Any, ...] = Field(max_length=MOST_CHOICES)

    @field_validator("values")
    @classmethod
    def _usable(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("the list is empty; give at least one value")
        for index, value in enumerate(values):
            if not _is_scalar(value):
                raise ValueError(
                    f"choices are words, numbers, true, false or null, not {quoted(value)}"
                )
            if isinstance(value, str) and len(value) > _LONGEST_CHOICE:
                raise ValueError(f"a word has at most {_LONGEST_CHOICE} characters")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"numbers must be finite, not {value}")
            if any(_same(value, other) for other in values[:index]):
                raise ValueError(f"{quoted(value)} stands in the list twice")
        return values

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw one value."""
        drawn: Scalar = self.values[int(rng.integers(len(self.values)))]
        return drawn

    def contains(self, value: object) -> bool:
        """Say whether `value` is one of the choices."""
        return any(_same(value, choice) for choice in self.values)

    def describe(self) -> str:
        """Give the choices, such as ``one of 1, 'a'``."""
        shown = ", ".join(map(quoted, self.values[:_SHOWN_CHOICES]))
        return f"one of {shown}{', ...' if len(self.values) > _SHOWN_CHOICES else ''}"

    def extremes(self) -> tuple[Scalar, ...]:
        """Give every choice."""
        return self.values

    def grid_values(self) -> tuple[Scalar, ...]:
        """Give every choice."""
        return self.values


class Int(Distribution):
    """A whole number from `low` to `high`, both included.

    Attributes:
        low: the smallest value.
        high: the largest value.
        log: whether small values are drawn as densely, per factor, as large ones.
        step: distance between neighboring values, counted from `low`.
    """

    low: Whole
    high: Whole
    log: bool = False
    step: int = Field(1, ge=1, le=10**15)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, log=self.log)
        if self.log and self.step != 1:
            raise ValueError("a logarithmic distribution takes no step")
        if (self.high - self.low) % self.step:
            raise ValueError(f"step {self.step} does not lead from {self.low} to {self.high}")
        return self

    def sample(self, rng: np.random.Generator) -> int:
        """Draw one value."""
        if not self.log:
            return self.low + self.step * int(rng.integers(self._n_values))
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(max(round(drawn), self.low), self.high)

    def contains(self, value: object) -> bool:
        """Say whether `value` is a whole number within the bounds and on a step."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    def describe(self) -> str:
        """Give the range, such as ``32 to 256 in steps of 32``."""
        steps = f" in steps of {self.step}" if self.step > 1 else ""
        return f"a whole number, {self.low} to {self.high}{steps}"

    def extremes(self) -> tuple[int, int]:
        """Give both ends."""
        return self.low, self.high

    def grid_values(self) -> tuple[int, ...]:
        """Give every value, ascending.

        Raises:
            ConfigError: there are too many.
        """
        if self._n_values > MOST_VALUES:
            raise ConfigError(
                f"{self._n_values:,} values are more than the {MOST_VALUES:,} that a grid takes;"
                " add a step"
            )
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def _n_values(self) -> int:
        return (self.high - self.low) // self.step + 1


class Uniform(Distribution):
    """A number from `low` to `high`, all equally likely; with a `step`, only multiples from `low`.

    Attributes:
        low: the smallest value.
        high: the largest value.
        step: distance between neighboring values, or None for any number in between.
    """

    low: float
    high: float
    step: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, log=False)
        if self.step is not None:
            _check_step(self.low, self.high, self.step)
        return self

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        if self.step is None:
            return float(rng.uniform(self.low, self.high))
        values = self.grid_values()
        return values[int(rng.integers(len(values)))]

    def contains(self, value: object) -> bool:
        """Say whether `value` is a number within the bounds and on a step."""
        if not _is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or any(math.isclose(value, v) for v in self.grid_values())

    def describe(self) -> str:
        """Give the range, such as ``5 to 8 in steps of 0.2``."""
        steps = f" in steps of {self.step:g}" if self.step is not None else ""
        return f"a number, {self.low:g} to {self.high:g}{steps}"

    def extremes(self) -> tuple[float, float]:
        """Give both ends."""
        return self.low, self.high

    def grid_values(self) -> tuple[float, ...]:
        """Give every value, ascending.

        Raises:
            ConfigError: there is no step.
        """
        if self.step is None:
            raise ConfigError("uniform has no grid; add a step, or list the values with choice")
        n_steps = round((self.high - self.low) / self.step)
        return tuple(float(v) for v in np.linspace(self.low, self.high, n_steps + 1))


class LogUniform(Distribution):
    """A positive number from `low` to `high`, its logarithm equally likely.

    Attributes:
        low: the smallest value, above zero.
        high: the largest value.
    """

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, log=True)
        return self

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)

    def contains(self, value: object) -> bool:
        """Say whether `value` is a number within the bounds."""
        return _is_number(value) and self.low <= value <= self.high

    def describe(self) -> str:
        """Give the range, such as ``0.0001 to 0.01``."""
        return f"a number, {self.low:g} to {self.high:g}"

    def extremes(self) -> tuple[float, float]:
        """Give both ends."""
        return self.low, self.high

    def grid_values(self) -> tuple[float, ...]:
        """Refuse: a continuous range has no grid.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("log_uniform has no grid; list the values with choice")


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, found [{low:g}, {high:g}]")
    if not math.isfinite(high - low):
        raise ValueError(f"the range is too wide, found [{low:g}, {high:g}]")
    if log and low <= 0:
        raise ValueError(f"a logarithm needs low above 0, found [{low:g}, {high:g}]")


def _check_step(low: float, high: float, step: float) -> None:
    if step <= 0:
        raise ValueError(f"step must be above 0, found {step:g}")
    n_steps = (high - low) / step
    if n_steps >= MOST_VALUES:
        raise ValueError(f"step {step:g} makes more than {MOST_VALUES:,} values; leave it out")
    if round(n_steps) < 1 or abs(n_steps - round(n_steps)) > _STEP_TOLERANCE * n_steps:
        raise ValueError(f"step {step:g} does not lead from {low:g} to {high:g}")


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(left: object, right: object) -> bool:
    """Compare as YAML does: 1 and true are different values."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)
