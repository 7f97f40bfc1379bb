"""Files that a command writes: one rule on those that exist, and on folders that do not."""

from pathlib import Path

import pytest

from raymat.cli import main
from raymat.cli.outputs import prepare_files
from raymat.errors import ConfigError, RunError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_existing_files_are_kept_unless_they_may_be_replaced() -> None:
    there = Path("there.csv")
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"-o there\.csv: exists already; .* --overwrite"):
        prepare_files(Path("new.csv"), there, overwrite=False)
    prepare_files(Path("new.csv"), there, overwrite=True)
    assert there.read_text("utf-8") == "mine"  # it is replaced when its successor is whole


def test_missing_folders_are_made_before_the_work() -> None:
    prepare_files(Path("a/b/new.csv"), overwrite=False)
    assert Path("a/b").is_dir()
    Path("file").touch()
    with pytest.raises(RunError, match=r"file/deep: cannot be made .*; choose another -o"):
        prepare_files(Path("file/deep/new.csv"), overwrite=False)


def test_folders_and_devices_are_no_files() -> None:
    Path("folder.csv").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.csv: is a folder; name a file"):
        prepare_files(Path("folder.csv"), overwrite=True)
    with pytest.raises(ConfigError, match=r"/dev/null: is not a regular file"):
        prepare_files(Path("/dev/null"), overwrite=True)


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["check", "delta"], "rejected.csv"),
        (["duplicates", "delta"], "duplicates.csv"),
        (["describe", "delta"], "delta.html"),
    ],
)
def test_commands_of_data_keep_files_that_exist(
    words: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    (Path("out") / file).write_text("mine", encoding="utf-8")
    assert main.run(["data", *words, "--out", "out"]) == 2
    assert f"--out out/{file}: exists already; choose another --out, or replace it with" in (
        capsys.readouterr().err
    )
    assert (Path("out") / file).read_text("utf-8") == "mine"


def test_a_list_is_replaced_if_that_is_asked_for() -> None:
    words = ["data", "check", "delta", "--out", "new/out"]
    assert main.run(words) == 0
    assert main.run(words) == 2
    assert main.run([*words, "--overwrite"]) == 0
    assert Path("new/out/rejected.csv").read_text("utf-8") == "material_id,reason\n"
