"""YAML to typed, frozen configuration, or an error that names the key and the file."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raymat.errors import ConfigError, did_you_mean, one_line
from raymat.reading import DEEPEST, MOST_VALUES, YAML_BYTES, check_values, read_text
from raymat.text import plain, quoted

# What a machine can hold or a person can wait for; larger numbers are slips of the pen.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Trials = Annotated[int, Field(ge=1, le=100_000)]
Concurrency = Annotated[int, Field(ge=1, le=100_000)]
Gpus = Annotated[float, Field(ge=0.0, le=1_000.0)]
Threads = Annotated[int, Field(ge=1, le=1_024)]


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


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: the file is missing, no regular file, unreadable, too large once its
            references are followed, empty, names a key twice, or holds something else.
    """
    try:
        text = read_text(path, at_most=YAML_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError) as cause:
        raise ConfigError(f"{path}: cannot be read ({one_line(cause)})") from cause
    try:
        content = yaml.load(text, Loader=_Loader)
        check_values(content)
    except _RefusedError as cause:
        raise ConfigError(f"{path}: {cause}") from None
    except yaml.YAMLError as cause:
        raise ConfigError(f"{path}: not valid YAML: {one_line(cause)}") from cause
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as cause:
        # A value that is not what its own tag or form says, such as `!!int x`.
        raise ConfigError(f"{path}: holds a value that cannot be used: {one_line(cause)}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise ConfigError(f"{path}: expected keys and values, found {found}")
    return content


def build_config(
    cls: type[ConfigT], values: dict[str, Any], *, where: str, prefix: str = ""
) -> ConfigT:
    """Check `values` against a config class; nothing is converted but whole numbers to numbers.

    Args:
        cls: the config class.
        values: keys and values as they stood in the file.
        where: what to call the place in a message, such as ``"cgcnn.yaml: model"``.
        prefix: what stood before each key in the file, such as ``"model."``.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    for key in values:
        check_field(cls, str(key), where=where, shown=f"{prefix}{key}")
    try:
        # As JSON, of which pydantic takes lists for tuples and mappings for configs also where it
        # takes "5", true and 1.0 for no whole number.
        return cls.model_validate_json(_json_text(values, where), strict=True)
    except ValidationError as cause:
        raise ConfigError(f"{where}: {_first_problem(cause, prefix)}") from cause


def _json_text(values: Mapping[str, Any], where: str) -> str:
    try:
        text = json.dumps(values, default=_as_json)
    except (TypeError, ValueError, RecursionError) as cause:
        raise ConfigError(f"{where}: {one_line(cause)}") from cause
    if _NUL.search(text):
        raise ConfigError(f"{where}: text with the character NUL, which no name can hold")
    return text


def _as_json(value: Any) -> Any:
    """Return the JSON form of what code, or a tag in a file, puts into a configuration."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # a number or array of NumPy
        return value.tolist()
    raise TypeError(f"a value of kind {type(value).__name__} has no place here: {quoted(value)}")


def check_field(cls: type[Config], key: str, *, where: str, shown: str | None = None) -> None:
    """Check that `key` is a field of `cls`; `shown` is the key as the user wrote it."""
    if key in cls.model_fields:
        return
    prefix = shown[: -len(key)] if shown and shown.endswith(key) else ""
    hint = did_you_mean(key, cls.model_fields)
    if prefix:
        hint = hint.replace("did you mean '", f"did you mean '{prefix}")
    named = quoted(shown or key)
    raise ConfigError(f"{where}: {named} is not a field of {cls.__name__}{hint}")


def _first_problem(error: ValidationError, prefix: str) -> str:
    problem = error.errors()[0]
    key = ".".join(part for part in problem["loc"] if isinstance(part, str))
    shown, kind, found = f"'{prefix}{plain(key)}'", problem["type"], quoted(problem["input"])
    if kind == "missing":
        return f"{shown} is missing"
    expected = _wording(kind, problem.get("ctx", {}))
    if expected is not None:
        return f"{shown} {expected} (found {found})"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{shown}: {message} (found {found})" if key else message


def _wording(kind: str, context: Mapping[str, Any]) -> str | None:
    """Say in plain words what a value must be, None for a problem that says so itself."""
    if kind not in _WORDING:
        return _KINDS.get(kind.partition("_")[0])
    facts = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
    return _WORDING[kind].format(**facts).replace("' or '", "', '")


class _RefusedError(yaml.YAMLError):
    """What YAML allows and is refused here; the message names the line."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (plain ``1e-3`` is a number, not a string), and no key twice.

    Depth and the number of values are bounded while the text is read; a value that is referred to
    counts as often as it is used, so references within references cannot multiply without limit.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}  # values in a node, of those composed so far

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one value, and refuse what is too deep, too large or within itself."""
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > DEEPEST:
            raise _RefusedError(f"line {line}: nested more than {DEEPEST} deep")
        is_reference = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_reference and node not in self._sizes:
            raise _RefusedError(f"line {line}: a value refers to itself")
        if not is_reference:
            self._sizes[node] = 1 + sum(self._sizes[part] for part in _parts(node))
        if self._sizes[node] > MOST_VALUES:
            raise _RefusedError(f"line {line}: more than {MOST_VALUES:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping of which no key stands twice."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                raise _RefusedError(f"line {line}: a list or mapping stands in place of a key")
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise _RefusedError(
                    f"line {line}: {quoted(name)} stands in line {lines[name]} already; remove one"
                )
            lines[name] = line
        return node


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


# A date is text, as in YAML 1.2.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\."
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
