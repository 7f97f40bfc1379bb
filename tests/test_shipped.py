"""Files that travel with raymat are found by name, and are in the wheel."""

import tomllib
from pathlib import Path

import pytest
from conftest import PROJECT

from raymat import shipped
from raymat.screening import criterion
from raymat.tuning import comparison_plan, space

FOLDERS = (space.FOLDER, criterion.FOLDER, comparison_plan.FOLDER)


def test_every_folder_of_shipped_files_is_in_the_wheel() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {folder: f"raymat/{folder}" for folder in FOLDERS}
    copied = (PROJECT / "clusters" / "Dockerfile").read_text("utf-8")
    assert all(f" {folder} {folder}\n" in copied for folder in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_found_beside_the_package_and_inside_it(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = shipped.shipped_files(folder)
    assert beside
    package = tmp_path / "raymat"
    (package / folder).mkdir(parents=True)
    (package / folder / "mine.yaml").touch()
    monkeypatch.setattr(shipped.raymat, "__file__", str(package / "__init__.py"))
    assert list(shipped.shipped_files(folder)) == ["mine"]  # as in an installed wheel
