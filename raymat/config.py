"""YAML to typed, frozen configuration, or an error that names the key and the file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raymat.errors import ConfigError, did_you_mean, one_line


class Config(BaseModel):
    """A frozen configuration that refuses unknown keys.

    Field names are the YAML keys; defaults and bounds stand in the subclass and nowhere else.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


ConfigT = TypeVar("ConfigT", bound=Config)

# pydantic's kind of problem -> what the value must be, filled in with pydantic's own context
_WORDING = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "literal_error": "must be one of {expected}",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must hold keys and values",
    "model": "must hold keys and values",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, empty, names a key twice, or holds something
            else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"{path}: cannot be read ({cause})") from cause
    try:
        content = yaml.load(text, Loader=_Loader)
    except _RepeatedKeyError as cause:
        raise ConfigError(f"{path}: {cause}") from None
    except yaml.YAMLError as cause:
        raise ConfigError(f"{path}: not valid YAML: {one_line(cause)}") from cause
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise ConfigError(f"{path}: expected keys and values, found {found}")
    return content


def build_config(
    cls: type[ConfigT], values: dict[str, Any], *, where: str, prefix: str = ""
) -> ConfigT:
    """Check `values` against a config class.

    Args:
        cls: the config class.
        values: keys and values as they stood in the file.
        where: what to call the place in a message, such as ``"cgcnn.yaml: model"``.
        prefix: what stood before each key in the file, such as ``"model."``.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    for key in values:
        check_field(cls, key, where=where, shown=f"{prefix}{key}")
    try:
        return cls(**values)
    except ValidationError as cause:
        raise ConfigError(f"{where}: {_first_problem(cause, prefix)}") from cause


def check_field(cls: type[Config], key: str, *, where: str, shown: str | None = None) -> None:
    """Check that `key` is a field of `cls`; `shown` is the key as the user wrote it."""
    if key in cls.model_fields:
        return
    prefix = shown[: -len(key)] if shown and shown.endswith(key) else ""
    hint = did_you_mean(key, cls.model_fields)
    if prefix:
        hint = hint.replace("did you mean '", f"did you mean '{prefix}")
    raise ConfigError(f"{where}: '{shown or key}' is not a field of {cls.__name__}{hint}")


def _first_problem(error: ValidationError, prefix: str) -> str:
    problem = error.errors()[0]
    key = ".".join(part for part in problem["loc"] if isinstance(part, str))
    shown, kind, found = f"'{prefix}{key}'", problem["type"], problem["input"]
    if kind == "missing":
        return f"{shown} is missing"
    expected = _wording(kind, problem.get("ctx", {}))
    if expected is not None:
        return f"{shown} {expected} (found {found!r})"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{shown}: {message} (found {found!r})" if key else message


def _wording(kind: str, context: Mapping[str, Any]) -> str | None:
    """Say in plain words what a value must be, None for a problem that says so itself."""
    if kind not in _WORDING:
        return _KINDS.get(kind.partition("_")[0])
    facts = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
    return _WORDING[kind].format(**facts).replace("' or '", "', '")


class _RepeatedKeyError(yaml.YAMLError):
    """A mapping names a key twice, of which YAML readers silently keep the last."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (plain ``1e-3`` is a number, not a string), and no key twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise _RepeatedKeyError(
                    f"line {line}: '{name}' stands in line {lines[name]} already; remove one"
                )
            lines[name] = line
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\."
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
