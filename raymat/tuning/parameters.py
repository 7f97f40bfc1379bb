"""The searched keys of a space: what each may take, and under which condition."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from raymat.config import build_config
from raymat.errors import ConfigError, did_you_mean
from raymat.text import quoted
from raymat.tuning.distribution_reader import parse_distribution
from raymat.tuning.distributions import Choice, Distribution, Scalar

_MOST_ALTERNATIVES = 100


@dataclass(frozen=True)
class Alternative:
    """One distribution of a searched key.

    Attributes:
        name: unique in the space: the key, with the condition where the key has several
            alternatives, such as ``training.lr[training.optimizer=adam]``.
        distribution: what may be drawn.
        when: the values that other keys must have for this alternative to hold; {} is always.
    """

    name: str
    distribution: Distribution
    when: Mapping[str, Choice]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Say whether the condition holds; `values` has every key it names."""
        return all(wanted.contains(values[key]) for key, wanted in self.when.items())


@dataclass(frozen=True)
class Parameter:
    """A searched key. The first alternative whose condition holds is used.

    Where none holds, the key is not searched and keeps the default of its config class.
    """

    key: str
    alternatives: tuple[Alternative, ...]

    def alternative(self, values: Mapping[str, Any]) -> Alternative | None:
        """Give the alternative in force, given the values of the keys in the conditions."""
        return next((a for a in self.alternatives if a.holds(values)), None)

    def parents(self) -> tuple[str, ...]:
        """Give the keys that the conditions name."""
        return tuple({key: None for a in self.alternatives for key in a.when})

    def may_take(self, value: object, default: object) -> bool:
        """Say whether some trial can have this value."""
        drawn = any(a.distribution.contains(value) for a in self.alternatives)
        rests = all(a.when for a in self.alternatives) and value == default
        return drawn or rests


def parse_parameter(key: str, content: object, *, where: str) -> Parameter:
    """Build a parameter from its YAML form: one distribution, or a list of alternatives.

    Raises:
        ConfigError: a distribution or condition is malformed, or an alternative is never reached.
    """
    items = content if isinstance(content, list) else [content]
    if not items:
        raise ConfigError(f"{where}: the list of alternatives is empty")
    if len(items) > _MOST_ALTERNATIVES:
        raise ConfigError(
            f"{where}: {len(items):,} alternatives are more than {_MOST_ALTERNATIVES}"
        )
    alternatives = tuple(
        _parse_alternative(key, item, alone=len(items) == 1, where=where) for item in items
    )
    for earlier in alternatives[:-1]:
        if not earlier.when:
            raise ConfigError(
                f"{where}: an alternative without 'when' always holds, so those after it are "
                "never used; put it last"
            )
    names = [a.name for a in alternatives]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two alternatives have the same condition; merge them")
    return Parameter(key, alternatives)


def in_order(parameters: Mapping[str, Parameter], *, where: str) -> tuple[Parameter, ...]:
    """Order parameters so that each stands after those its conditions name.

    Raises:
        ConfigError: conditions run in a circle.
    """
    graph = {key: parameter.parents() for key, parameter in parameters.items()}
    try:
        return tuple(parameters[key] for key in TopologicalSorter(graph).static_order())
    except CycleError as cause:
        circle = " -> ".join(reversed(cause.args[1]))
        raise ConfigError(f"{where}: conditions run in a circle: {circle}") from cause


def check_conditions(
    parameters: Mapping[str, Parameter],
    fixed: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    where: str,
) -> None:
    """Check that every condition names a searched key and values that it can take.

    Raises:
        ConfigError: it does not.
    """
    for parameter in parameters.values():
        for alternative in parameter.alternatives:
            here = f"{where}: {parameter.key}: when"
            for key, wanted in alternative.when.items():
                if key not in parameters:
                    raise ConfigError(
                        f"{here}: {quoted(key)} {_not_searched(key, parameters, fixed)}"
                    )
                _check_reachable(parameters[key], wanted, defaults[key], where=here)


def values_reaching(
    alternative: Alternative, parameters: Mapping[str, Parameter]
) -> dict[str, Scalar]:
    """Give values of other keys under which `alternative` is used, their own conditions met too."""
    reached: dict[str, Scalar] = {}
    for key, wanted in alternative.when.items():
        value = wanted.values[0]
        for source in parameters[key].alternatives:
            if source.distribution.contains(value):
                reached |= values_reaching(source, parameters)
                break
        reached[key] = value
    return reached


def _parse_alternative(key: str, content: object, *, alone: bool, where: str) -> Alternative:
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where}: takes a distribution such as {{int: [1, 5]}}, found {quoted(content)}"
        )
    when = _parse_condition(content["when"], where=where) if "when" in content else {}
    rest = {name: value for name, value in content.items() if name != "when"}
    suffix = "" if alone else f"[{_written(when)}]"
    return Alternative(f"{key}{suffix}", parse_distribution(rest, where=where), when)


def _parse_condition(content: object, *, where: str) -> dict[str, Choice]:
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{where}: when: takes {{key: value}}, found {quoted(content)}")
    return {
        str(key): _parse_wanted(value, where=f"{where}: when: {key}")
        for key, value in content.items()
    }


def _parse_wanted(value: object, *, where: str) -> Choice:
    values = value if isinstance(value, list) else [value]
    return build_config(Choice, {"values": values}, where=where)


def _written(when: Mapping[str, Choice]) -> str:
    parts = (f"{key}={'|'.join(str(v) for v in c.values)}" for key, c in when.items())
    return ",".join(parts) or "otherwise"


def _not_searched(key: str, parameters: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> str:
    if key in fixed:
        return f"is fixed to {quoted(fixed[key])}, so the condition is no condition; remove it"
    return f"is not a key of this space{did_you_mean(key, parameters)}"


def _check_reachable(parent: Parameter, wanted: Choice, default: object, *, where: str) -> None:
    for value in wanted.values:
        if not parent.may_take(value, default):
            raise ConfigError(f"{where}: '{parent.key}' never takes {quoted(value)} in this space")
