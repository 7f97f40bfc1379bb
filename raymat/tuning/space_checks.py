"""What a space must satisfy as a whole before anything starts."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from raymat.errors import ConfigError
from raymat.text import quoted
from raymat.tuning.distributions import MOST_VALUES, Scalar
from raymat.tuning.parameters import Alternative, values_reaching
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.trial_config import build_trial_config

_N_PROBES = 200  # configurations drawn to find values that exclude each other


def check_settings(space: SearchSpace) -> None:
    """Check budget, scheduler and search against each other and against the distributions.

    Raises:
        ConfigError: the grace period outlasts a trial, or a grid is asked of a continuous range.
    """
    grace_period, epochs = space.scheduler.grace_period, space.budget.epochs
    if space.scheduler.name == "asha" and grace_period > epochs:
        raise ConfigError(
            f"{space.path}: scheduler: grace_period {grace_period} is longer than a trial, which "
            f"has budget.epochs {epochs}; lower it or raise the epochs"
        )
    if space.search.name == "grid":
        _check_grid(space)


def check_values(space: SearchSpace) -> None:
    """Build the configs from `fixed` and `try_first`, at the ends of ranges, at random places.

    Raises:
        ConfigError: a value lies outside the bounds of its config class, values exclude each
            other, or a configuration to try first lies outside the space.
    """
    build_trial_config(space.model, space.fixed, where=f"{space.path}: fixed")
    for number, values in enumerate(space.try_first, start=1):
        where = f"{space.path}: try_first: entry {number}"
        build_trial_config(space.model, {**space.fixed, **values}, where=where)
        _check_drawable(space, values, where)
    _check_extremes(space)
    _check_combinations(space)


def _check_grid(space: SearchSpace) -> None:
    most = 1
    for parameter in space.parameters:
        sizes = [1]
        for alternative in parameter.alternatives:
            try:
                sizes.append(len(alternative.distribution.grid_values()))
            except ConfigError as cause:
                raise ConfigError(f"{space.path}: search: {alternative.name}: {cause}") from cause
        most *= max(sizes)
    if most > MOST_VALUES:
        raise ConfigError(
            f"{space.path}: search: the grid may have {most:,} points, more than {MOST_VALUES:,};"
            " add steps, or name tpe or random"
        )


def _check_drawable(space: SearchSpace, values: Mapping[str, Any], where: str) -> None:
    """Refuse values that the search could never propose itself; the default always passes."""
    for key, alternative in space.active(values).items():
        value, default, distribution = values[key], space.defaults[key], alternative.distribution
        if value != default and not distribution.contains(value):
            raise ConfigError(
                f"{where}: '{key}' is {quoted(value)}, outside the space: expected"
                f" {distribution.describe()}, or the default {default!r}"
            )


def _check_extremes(space: SearchSpace) -> None:
    for alternative, values in extreme_values(space):
        where = f"{space.path}: space: {alternative.name}"
        build_trial_config(space.model, {**space.fixed, **values}, where=where)


def extreme_values(space: SearchSpace) -> Iterator[tuple[Alternative, dict[str, Scalar]]]:
    """Give values that put one key at a time to each end of each of its distributions."""
    by_key = {parameter.key: parameter for parameter in space.parameters}
    for parameter in space.parameters:
        for alternative in parameter.alternatives:
            reached = values_reaching(alternative, by_key)
            for value in alternative.distribution.extremes():
                yield alternative, {**reached, parameter.key: value}


def _check_combinations(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    where = f"{space.path}: space: some combinations cannot be built; exclude them with 'when'"
    for _ in range(_N_PROBES):
        values = {**space.fixed, **space.sample(rng)}
        build_trial_config(space.model, values, where=where)
