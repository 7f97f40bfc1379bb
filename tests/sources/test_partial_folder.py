"""One process at a time in a partial folder, and nothing of it survives without an owner."""

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from raymat.errors import DataError, RunError
from raymat.sources import partial_folder as module
from raymat.sources.partial_folder import hold_partial, partial_folder, remove_partial

FACTS = {"filter": "a"}


def hold(out: Path, facts: dict[str, str] | None = None):
    return hold_partial(out, facts or FACTS, finished="part-*")


def test_a_lock_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """A ends and C begins while B is between opening the lock and taking it."""
    out = tmp_path / "out.parquet"
    with ExitStack() as a, ExitStack() as c:
        a.enter_context(hold(out))
        flock = fcntl.flock

        def ended_meanwhile(lock: int, how: int) -> None:
            monkeypatch.setattr(module.fcntl, "flock", flock)
            a.close()  # removes the folder, and with it the file that B has open
            c.enter_context(hold(out))
            flock(lock, how)

        monkeypatch.setattr(module.fcntl, "flock", ended_meanwhile)
        with pytest.raises(RunError, match="another process is at work"), hold(out):
            pass


def test_who_has_removed_its_folder_leaves_the_next_one_alone(tmp_path):
    out = tmp_path / "out.parquet"
    with ExitStack() as a, ExitStack() as c:
        remove_partial(a.enter_context(hold(out)))
        folder = c.enter_context(hold(out, {"filter": "c"}))
        a.close()
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "command.json"]


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    mkdir = Path.mkdir

    def removed_meanwhile(path: Path, **how: bool) -> None:
        monkeypatch.setattr(Path, "mkdir", mkdir)
        mkdir(path, **how)
        shutil.rmtree(path)

    monkeypatch.setattr(Path, "mkdir", removed_meanwhile)
    with hold(out) as folder:
        assert (folder / ".lock").exists()


ROUNDS = """
import os, sys, time
from pathlib import Path
from raymat.errors import RunError
from raymat.sources.partial_folder import hold_partial

out, held = Path(sys.argv[1]), 0
inside = out.with_name("inside")
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    try:
        with hold_partial(out, {}, finished="part-*"):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if somebody else is inside
            held += 1
            inside.unlink()
    except RunError:
        pass
print(held)
"""


def test_processes_that_come_and_go_are_never_inside_together(tmp_path):
    command = [sys.executable, "-c", ROUNDS, str(tmp_path / "out.parquet"), "1.0"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [words for _, words in ended] == ["", "", ""]
    assert all(int(held) > 0 for held, _ in ended)
    assert list(tmp_path.iterdir()) == []


def remove_some(out: Path, n_files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with three parts, and begin to remove it: the end comes after `n_files`."""
    left = iter(range(n_files))
    unlink = os.unlink

    def killed(path: Path, **more: int) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, **more)

    with hold(out) as folder, monkeypatch.context() as patched:
        for number in range(3):
            (folder / f"part-{number}").touch()
        patched.setattr(os, "unlink", killed)
        remove_partial(folder)


@pytest.mark.parametrize("n_files", [0, 1, 2])
def test_removal_killed_at_any_instant_leaves_no_parts_without_an_owner(
    tmp_path, monkeypatch, n_files
):
    """Whatever is gone by then, another command never takes what is left for its own."""
    out = tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt):
        remove_some(out, n_files, monkeypatch)
    assert len(list(partial_folder(out).glob("part-*"))) == 3 - n_files
    with pytest.raises(DataError, match="holds parts of another command"):
        hold(out, {"filter": "b"}).__enter__()
    with hold(out):
        pass


def test_parts_of_another_kind_of_command_stay(tmp_path):
    """A fetch leaves alone what a killed import has left under the same name."""
    out = tmp_path / "out.parquet"
    with hold_partial(out, {}, finished="part-*") as folder:
        (folder / "part-0").touch()
    with (
        pytest.raises(DataError, match="holds parts of another command, which goes on there"),
        hold_partial(out, {}, finished="page-*"),
    ):
        pass
    assert (folder / "part-0").exists()
    with hold_partial(out, {}, finished="part-*"):
        pass


def test_parts_of_nobody_are_refused(tmp_path):
    out = tmp_path / "out.parquet"
    with hold(out) as folder:
        (folder / "part-1").touch()
    (folder / "command.json").write_text("{")
    with pytest.raises(DataError, match=r"command\.json, which says of what, is missing or dam"):
        hold(out).__enter__()
    assert (folder / "part-1").exists()


def test_what_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be made \(Not a directory\); choose another -o"):
        hold(tmp_path / "file" / "out.parquet").__enter__()
    (tmp_path / "out.parquet.partial").touch()
    with pytest.raises(DataError, match=r"cannot be made \(Not a directory\); choose another -o"):
        hold(tmp_path / "out.parquet").__enter__()
