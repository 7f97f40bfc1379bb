"""Reading a search space: a YAML file becomes a `SearchSpace`, or an error.

Every key and value is checked against the config class that it lands in, so no trial starts that
cannot be built.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymat.config import ConfigT, build_config, read_yaml
from raymat.data.splits import SplitConfig  # light on purpose: a typo must be told at once
from raymat.errors import ConfigError, did_you_mean
from raymat.shipped import find_yaml, shipped_files, shown_path
from raymat.text import quoted
from raymat.tuning.parameters import (
    Parameter,
    check_conditions,
    in_order,
    parse_parameter,
)
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Budget, Resources, Scheduler, Search, WandbMode
from raymat.tuning.space_checks import check_settings, check_values
from raymat.tuning.trial_config import (
    check_key,
    config_sections,
    default_values,
)

__all__ = ["SearchSpace", "parse_space", "read_space", "shipped_spaces"]

FOLDER = "search_spaces"  # of those that travel with raymat
_DEFAULTS = ("model", "data", "target", "split")
_SEARCH = ("space", "try_first", "fixed", "budget", "scheduler", "search", "resources", "wandb")
_KEYS = (*_DEFAULTS, *_SEARCH)
_SELECT_KEY = "training.select"
_TIME_KEY = "training.epochs"


def read_space(path_or_name: str) -> SearchSpace:
    """Read a space from a file, or a shipped one by its name (``cgcnn`` or ``cgcnn.yaml``).

    Raises:
        ConfigError: there is no such file or shipped space, or something in it cannot be used;
            the message names the file and the key.
    """
    path = find_yaml(path_or_name, FOLDER, what="search space")
    return parse_space(read_yaml(path), path=shown_path(path))


def shipped_spaces() -> dict[str, Path]:
    """Give the spaces that travel with raymat, by name."""
    return shipped_files(FOLDER)


def parse_space(content: Mapping[str, Any], *, path: str) -> SearchSpace:
    """Check a space in its YAML form.

    Args:
        content: the keys and values of the file.
        path: what messages call the file.

    Raises:
        ConfigError: a key or value cannot be used.
    """
    _check_top_level(content, path)
    sections = config_sections(content.get("model"), where=path)
    fixed = _mapping(content, "fixed", path)
    searched = _mapping(content, "space", path)
    for part, keys in (("space", searched), ("fixed", fixed)):
        for key in keys:
            check_key(key, sections, where=f"{path}: {part}")
            _check_not_time(key, where=f"{path}: {part}")
    if _SELECT_KEY in searched:
        raise ConfigError(
            f"{path}: space: '{_SELECT_KEY}' cannot be searched: trials are compared by one score;"
            " set it in 'fixed'"
        )
    parameters = _read_parameters(searched, fixed, path)
    defaults = default_values(parameters, str(content["model"]))
    check_conditions(parameters, fixed, defaults, where=f"{path}: space")
    space = SearchSpace(
        model=str(content["model"]),
        data=_text(content, "data", path),
        target=_text(content, "target", path),
        parameters=in_order(parameters, where=f"{path}: space"),
        defaults=defaults,
        fixed=fixed,
        try_first=_read_try_first(content, defaults, path),
        budget=_read_budget(content, path),
        scheduler=_settings(Scheduler, content, "scheduler", path),
        search=_settings(Search, content, "search", path),
        resources=_read_resources(content, path),
        split=_read_split(content, path),
        wandb=read_wandb(content, path),
        path=path,
        content=dict(content),
    )
    check_settings(space)
    check_values(space)
    return space


def _check_top_level(content: Mapping[str, Any], path: str) -> None:
    for key in content:
        if key not in _KEYS:
            raise ConfigError(
                f"{path}: {quoted(str(key))} is not a key of a search space"
                f"{did_you_mean(str(key), _KEYS)}"
            )


def _mapping(content: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    found = content.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {key}: takes keys and values, found {quoted(found)}")
    return found


def _text(content: Mapping[str, Any], key: str, path: str) -> str | None:
    found = content.get(key)
    if found is not None and not isinstance(found, str):
        raise ConfigError(f"{path}: {key}: takes a name, found {quoted(found)}")
    return found


def _check_not_time(key: str, *, where: str) -> None:
    if key == _TIME_KEY:
        raise ConfigError(
            f"{where}: '{_TIME_KEY}' cannot be set here: epochs are the time axis of the search; "
            "set 'budget: {epochs: ...}'"
        )


def _read_parameters(
    searched: Mapping[str, Any], fixed: Mapping[str, Any], path: str
) -> dict[str, Parameter]:
    if not searched:
        raise ConfigError(
            f"{path}: space: nothing is searched; add a key such as "
            "'training.lr: {log_uniform: [1.0e-4, 1.0e-2]}'"
        )
    for key in searched:
        if key in fixed:
            raise ConfigError(f"{path}: '{key}' stands both in space and in fixed; remove one")
    return {
        key: parse_parameter(key, form, where=f"{path}: space: {key}")
        for key, form in searched.items()
    }


def _read_try_first(
    content: Mapping[str, Any], defaults: Mapping[str, Any], path: str
) -> tuple[dict[str, Any], ...]:
    found = content.get("try_first") or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ConfigError(
            f"{path}: try_first: takes a list of {{key: value}}, found {quoted(found)}"
        )
    for item in found:
        for key in item:
            if key not in defaults:
                hint = did_you_mean(str(key), defaults)
                raise ConfigError(
                    f"{path}: try_first: {quoted(str(key))} is not a key of this space{hint}"
                )
    return tuple({**defaults, **item} for item in found)


def _settings(cls: type[ConfigT], content: Mapping[str, Any], key: str, path: str) -> ConfigT:
    return build_config(cls, _mapping(content, key, path), where=f"{path}: {key}")


def _read_budget(content: Mapping[str, Any], path: str) -> Budget:
    if content.get("budget") is None:
        raise ConfigError(f"{path}: budget is missing; add 'budget: {{trials: 64, epochs: 60}}'")
    return _settings(Budget, content, "budget", path)


def _read_resources(content: Mapping[str, Any], path: str) -> Resources | None:
    if content.get("resources") is None:
        return None
    return _settings(Resources, content, "resources", path)


def read_wandb(content: Mapping[str, Any], path: str) -> WandbMode | None:
    """Read whether runs are brought to W&B; YAML takes `on` and `off` for true and false.

    Raises:
        ConfigError: another value.
    """
    found = content.get("wandb")
    modes: dict[Any, WandbMode] = {"online": "online", "offline": "offline", "off": "off"}
    modes |= {True: "online", False: "off"}
    if found is None:
        return None
    if not isinstance(found, bool | str) or found not in modes:  # 1 would count as true
        raise ConfigError(f"{path}: wandb: takes off, offline or online, found {quoted(found)}")
    return modes[found]


def _read_split(content: Mapping[str, Any], path: str) -> SplitConfig | None:
    if content.get("split") is None:
        return None
    return _settings(SplitConfig, content, "split", path)
