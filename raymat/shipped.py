"""YAML files that travel with raymat, found by name: search spaces, criteria, comparison plans."""

from pathlib import Path

import raymat
from raymat.errors import ConfigError, did_you_mean
from raymat.reading import real_path


def shipped_files(folder: str) -> dict[str, Path]:
    """Give the YAML files of a folder that travels with raymat, by name."""
    package = Path(raymat.__file__).parent
    inside, beside = package / folder, package.parent / folder
    found = inside if inside.is_dir() else beside  # a wheel, or a source checkout
    return {path.stem: path for path in sorted(found.glob("*.yaml"))}


def find_yaml(path_or_name: str, folder: str, *, what: str) -> Path:
    """Give the path of a file, or of a shipped one by its name (with or without ``.yaml``).

    Args:
        path_or_name: as a user writes it; a file of that name comes first.
        folder: of the shipped ones.
        what: they are, for the message.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    shipped = shipped_files(folder)
    name = path_or_name.removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    hint = did_you_mean(path.stem, shipped)
    raise ConfigError(f"{path_or_name}: neither a file nor a shipped {what}{hint}")


def shown_path(path: Path) -> str:
    """Give a path as messages show it: relative to the working directory if it lies below."""
    here, resolved = Path.cwd(), real_path(path)
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else path)
