"""YAML to typed, frozen configuration, or an error that names the key and the file."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raymat.errors import ConfigError, did_you_mean


class Config(BaseModel):
    """A frozen configuration that refuses unknown keys.

    Field names are the YAML keys; defaults and bounds stand in the subclass and nowhere else.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, empty, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"{path}: cannot be read ({cause})") from cause
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as cause:
        raise ConfigError(f"{path}: not valid YAML: {_one_line(cause)}") from cause
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise ConfigError(f"{path}: expected keys and values, found {found}")
    return content


def build_config(cls: type[ConfigT], values: dict[str, Any], *, where: str) -> ConfigT:
    """Check `values` against a config class.

    Args:
        cls: the config class.
        values: keys and values as they stood in the file.
        where: what to call the place in a message, such as ``"cgcnn.yaml: model"``.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    for key in values:
        check_field(cls, key, where=where)
    try:
        return cls(**values)
    except ValidationError as cause:
        raise ConfigError(f"{where}: {_first_problem(cause)}") from cause


def check_field(cls: type[Config], key: str, *, where: str, shown: str | None = None) -> None:
    """Check that `key` is a field of `cls`; `shown` is the key as the user wrote it."""
    if key in cls.model_fields:
        return
    prefix = shown[: -len(key)] if shown and shown.endswith(key) else ""
    hint = did_you_mean(key, cls.model_fields)
    if prefix:
        hint = hint.replace("did you mean '", f"did you mean '{prefix}")
    raise ConfigError(f"{where}: '{shown or key}' is not a field of {cls.__name__}{hint}")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    text = f"'{key}': {message}" if key else message
    return f"{text} (found {problem['input']!r})" if key else text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: plain ``1e-3`` is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\."
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
