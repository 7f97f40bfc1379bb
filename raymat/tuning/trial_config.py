"""The whole configuration of one trial, and the dotted keys that reach into it.

``model.n_conv`` is field `n_conv` of the model's own config class, ``training.lr`` field `lr` of
the training settings. Spaces, trial tables and ``best.yaml`` all use these keys.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SerializeAsAny

from raymat.config import Config, ConfigT, build_config, check_field
from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError, RunError, did_you_mean
from raymat.models import available, load_spec
from raymat.text import quoted
from raymat.training.loops import training_config

BATCH_SIZE = "training.batch_size"
_SMALLEST_BATCH = 2  # crystals; batch norm needs two values


class TrialConfig(Config):
    """One configuration: which model, its sizes, and how it is trained.

    Attributes:
        model: name of the model, one of ``raymat.models.available()``.
        architecture: the model's own config, such as `CGCNNConfig`.
        training: how it is fitted.
    """

    model: str
    architecture: SerializeAsAny[Config]
    training: SerializeAsAny[Config]

    def flat(self) -> dict[str, Any]:
        """Give every value under its dotted key, such as ``model.n_conv``."""
        parts = {"model": self.architecture, "training": self.training}
        return {
            f"{section}.{field}": value
            for section, part in parts.items()
            for field, value in part.model_dump(mode="json").items()
        }

    def decided_by(self, crystals: CrystalSet) -> "TrialConfig":
        """Give the same configuration with what it leaves to the data settled."""
        open_fields = {
            field: value
            for field, value in load_spec(self.model).from_data(crystals).items()
            if getattr(self.architecture, field) is None
        }
        return self.model_copy(
            update={"architecture": self.architecture.model_copy(update=open_fields)}
        )

    def to_yaml_dict(self) -> dict[str, Any]:
        """Give ``{"model": name, "config": {dotted key: value}}``, which `from_dict` reads."""
        return {"model": self.model, "config": self.flat()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, where: str) -> "TrialConfig":
        """Rebuild a configuration; a key that is left out takes its default.

        Args:
            content: a mapping with `model` and `config`, nested or with dotted keys; other keys are
                not looked at.
            where: what to call the source in a message, such as a file's path.

        Raises:
            ConfigError: the model or a key is unknown, or a value does not fit.
        """
        config = flat_config(content, where=where)
        return build_trial_config(str(content["model"]), config, where=f"{where}: config")


def flat_config(content: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a configuration's values under dotted keys, whichever form it has.

    ``{training: {epochs: 2}}`` and ``{training.epochs: 2}`` are the same.

    Raises:
        ConfigError: the model or a key is unknown, or a key stands there in both forms.
    """
    config, where_config = content.get("config", {}), f"{where}: config"
    if not isinstance(config, Mapping):
        raise ConfigError(f"{where_config}: takes keys and values, found {quoted(config)}")
    sections = config_sections(content.get("model"), where=where)
    found: dict[str, Any] = {}
    for key, value in config.items():
        is_nested = key in sections and isinstance(value, Mapping)
        own = {f"{key}.{field}": v for field, v in value.items()} if is_nested else {key: value}
        for dotted, single in own.items():
            check_key(dotted, sections, where=where_config)
            if dotted in found:
                raise ConfigError(
                    f"{where_config}: '{dotted}' is given twice, nested and dotted; remove one"
                )
            found[dotted] = single
    return found


def halve_batches(config: TrialConfig) -> TrialConfig:
    """Give the configuration with batches of half the size, for a GPU with too little memory.

    Raises:
        RunError: they cannot be halved.
    """
    size = getattr(config.training, "batch_size", None)
    if size is None or size < 2 * _SMALLEST_BATCH:
        what = "" if size is None else f" with batches of {size}"
        raise RunError(
            f"the GPU's memory is too small for {config.model}{what}; give a trial a larger share"
            " of it (--gpus 1), or make the network or the crystals smaller"
        )
    training = config.training.model_copy(update={"batch_size": size // 2})
    return config.model_copy(update={"training": training})


def config_sections(model: object, *, where: str) -> dict[str, type[Config]]:
    """Give the config class that each first part of a dotted key lands in.

    Raises:
        ConfigError: no model has that name.
    """
    known = available()
    if model not in known:
        hint = did_you_mean(str(model), known)
        what = "no model is named; add a line 'model: NAME'" if model is None else "unknown model"
        raise ConfigError(
            f"{where}: {what}{f' {quoted(model)}' if model is not None else ''}{hint}"
        )
    spec = load_spec(str(model))
    return {"model": spec.config, "training": training_config(spec)}


def check_key(key: object, sections: Mapping[str, type[Config]], *, where: str) -> None:
    """Check that a dotted key reaches a field.

    Raises:
        ConfigError: it does not; the message names the closest key that does.
    """
    section, _, field = str(key).partition(".")
    if section in sections and field:
        check_field(sections[section], field, where=where, shown=str(key))
        return
    known = dotted_keys(sections)
    same_field = [k for k in known if k.partition(".")[2] == (field or section)]
    hint = did_you_mean(str(key), known) if len(same_field) != 1 else _meant(same_field[0])
    starts = " or ".join(f"'{name}.'" for name in sections)
    raise ConfigError(f"{where}: {quoted(str(key))} does not begin with {starts}{hint}")


def dotted_keys(sections: Mapping[str, type[Config]]) -> tuple[str, ...]:
    """Give every key that a space may name."""
    return tuple(f"{name}.{field}" for name, cls in sections.items() for field in cls.model_fields)


def default_values(keys: Iterable[str], model: str) -> dict[str, Any]:
    """Give the default of each dotted key, as its config class or the model's spec has it."""
    default = build_trial_config(model, {}, where=f"defaults of {model}")
    parts = {"model": default.architecture, "training": default.training}
    split = {key: key.partition(".") for key in keys}
    return {key: getattr(parts[name], field) for key, (name, _, field) in split.items()}


def build_trial_config(model: str, values: Mapping[str, Any], *, where: str) -> TrialConfig:
    """Build the typed configs from dotted keys that `check_key` accepts.

    Raises:
        ConfigError: a value does not fit.
    """
    sections = config_sections(model, where=where)
    own = {f"training.{field}": value for field, value in load_spec(model).training.items()}
    return TrialConfig(
        model=model,
        architecture=_build_section(sections["model"], "model", values, where=where),
        training=_build_section(sections["training"], "training", own | dict(values), where=where),
    )


def _build_section(
    cls: type[ConfigT], section: str, values: Mapping[str, Any], *, where: str
) -> ConfigT:
    prefix = f"{section}."
    within = {key[len(prefix) :]: v for key, v in values.items() if key.startswith(prefix)}
    return build_config(cls, within, where=where, prefix=prefix)


def _meant(key: str) -> str:
    return f"; did you mean '{key}'?"
