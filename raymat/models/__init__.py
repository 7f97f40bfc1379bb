"""One model a file; the file name is the registration."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from raymat.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from raymat.models._spec import ModelSpec


def available() -> tuple[str, ...]:
    """List the models, without importing them."""
    names = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(name for name in names if not name.startswith("_")))


@cache
def load_spec(name: str) -> "ModelSpec":
    """Import one model's file and give what it declares.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in available():
        raise ConfigError(f"there is no model '{name}'{did_you_mean(name, available())}")
    spec: ModelSpec = import_module(f"raymat.models.{name}").SPEC
    return spec
