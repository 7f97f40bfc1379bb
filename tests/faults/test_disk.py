"""Output folders that cannot be written: read-only, taken, or on a disk that fills up."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import SLOW_TRIALS, Raymat, assert_quiet, assert_whole, log, write_space

TRIALS, EPOCHS = SLOW_TRIALS["budget"]["trials"], SLOW_TRIALS["budget"]["epochs"]

Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A small file system of its own; the function mounts it with options, or anew with others."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a small disk is not possible here: {done.stderr.strip()}")

    yield folder, mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def error_of(command: Raymat) -> str:
    """Give the one line of error that a command ends with."""
    assert_quiet(command.text())
    lines = [line for line in command.text().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, command.text()
    return lines[0]


@pytest.mark.slow  # half a minute; the read-only disk below is told at once
def test_full_disk_ends_the_run_and_resume_completes_it(
    tmp_path: Path, disk: tuple[Path, Mount]
) -> None:
    folder, mount = disk
    mount("size=2m")
    run, space = folder / "run", write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", run, folder=tmp_path)
    assert command.wait() == 1
    error = error_of(command)
    assert "cannot be written (No space left on device" in error
    ended = [e["status"] for e in log(run) if e["event"] == "trial_ended"]
    assert "failed" not in ended  # no trial is to blame

    mount("remount,size=200m")
    again = Raymat("resume", run, folder=tmp_path)
    assert again.wait() == 0
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)


def test_read_only_disk_is_told_at_once(tmp_path: Path, disk: tuple[Path, Mount]) -> None:
    folder, mount = disk
    mount("size=1m,ro")
    space = write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", folder / "run", folder=tmp_path)
    assert command.wait() == 2
    assert f"{folder / 'run'}: cannot be written (Read-only file system)" in error_of(command)


def test_folder_without_permission_is_told_at_once(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the read-only disk stands for it")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    space = write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", closed / "run", folder=tmp_path)
    assert command.wait() == 2
    assert "cannot be written (Permission denied)" in error_of(command)


def test_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine", encoding="utf-8")
    space = write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", tmp_path / "run", folder=tmp_path)
    assert command.wait() == 2
    assert "the folder exists and is not empty; choose another --out" in error_of(command)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    space = write_space(tmp_path / "slow.yaml")
    command = Raymat("tune", "--space", space, "--out", tmp_path / "run", folder=tmp_path)
    assert command.wait() == 2
    assert f"{tmp_path / 'run'}: cannot be written" in error_of(command)


def test_resume_of_no_run_is_refused(tmp_path: Path) -> None:
    command = Raymat("resume", tmp_path, folder=tmp_path)
    assert command.wait() == 2
    assert "not a run directory (no run.json in it)" in error_of(command)
