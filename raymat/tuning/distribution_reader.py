"""Distributions from their YAML form."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from raymat.config import build_config
from raymat.errors import ConfigError, did_you_mean
from raymat.text import plain, quoted
from raymat.tuning.distributions import Choice, Distribution, Int, LogUniform, Uniform

_Reader: TypeAlias = Callable[[Any, dict[str, Any], str], Distribution]


def parse_distribution(content: Mapping[str, Any], *, where: str) -> Distribution:
    """Build a distribution from its YAML form, such as ``{int: [32, 256], step: 32}``.

    Args:
        content: the mapping as it stood in the file, without `when`.
        where: what to call the place in a message.

    Raises:
        ConfigError: the name or an option is unknown, or the bounds make no sense.
    """
    name, options = _name_and_options(content, where)
    if name not in _READERS:
        raise ConfigError(
            f"{where}: unknown distribution {quoted(name)}{did_you_mean(name, _READERS)}"
        )
    return _READERS[name](content[name], options, f"{where}: {name}")


def _name_and_options(content: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    keys = [str(key) for key in content]
    known = [key for key in keys if key in _READERS]
    others = [key for key in keys if key not in _READERS and key != "step"]
    if len(known) == 1 and others:
        hint = did_you_mean(others[0], ("step", "when"))
        raise ConfigError(f"{where}: {quoted(others[0])} is not an option of {known[0]}{hint}")
    if len(known or others) != 1:
        found = plain(", ".join(known or others)) or "none"
        raise ConfigError(f"{where}: needs one of {', '.join(_READERS)}; found {found}")
    return (known or others)[0], {key: content[key] for key in keys if key == "step"}


def _read_choice(content: Any, options: dict[str, Any], where: str) -> Distribution:
    if not isinstance(content, list):
        raise ConfigError(f"{where}: takes a list of values, found {quoted(content)}")
    return build_config(Choice, {"values": content, **options}, where=where)


def _range_reader(cls: type[Distribution], **fixed: Literal[True]) -> _Reader:
    def read(content: Any, options: dict[str, Any], where: str) -> Distribution:
        if not isinstance(content, list) or len(content) != 2:
            raise ConfigError(f"{where}: takes [low, high], found {quoted(content)}")
        low, high = content
        return build_config(cls, {"low": low, "high": high, **fixed, **options}, where=where)

    return read


_READERS: dict[str, _Reader] = {
    "choice": _read_choice,
    "int": _range_reader(Int),
    "log_int": _range_reader(Int, log=True),
    "uniform": _range_reader(Uniform),
    "log_uniform": _range_reader(LogUniform),
}
