"""A run directory: one holder, an honest status, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tmpfs import fill, mounted

from raymat.cli.predict import load_predictor
from raymat.errors import ConfigError, RunError
from raymat.tracking.events import EventLog, read_events
from raymat.tracking.run_directory import (
    RunDirectory,
    amend_arguments,
    package_versions,
    read_header,
)

HEADER = {"command": "tune", "seed": 3}


def status(path):
    return read_header(path)["status"]


def begin(path, **options):
    run = RunDirectory.create(path, HEADER, **options)
    run.emit("trial_started", trial=0)
    return run


def interrupt(path):
    def work():
        with begin(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()


def test_header_of_a_new_run(tmp_path):
    with RunDirectory.create(tmp_path / "run", HEADER) as run:
        header = run.header
        assert header["status"] == "running"
        assert header["command"] == "tune"
        assert header["seed"] == 3
        assert {"host", "platform", "cpus", "started", "argv"} <= set(header)
        assert header["versions"] == package_versions()
        assert header["versions"]["python"].startswith("3.")
        assert "torch" in header["versions"]


def test_complete(tmp_path):
    with begin(tmp_path / "run"):
        pass
    header = read_header(tmp_path / "run")
    assert header["status"] == "complete"
    assert header["error"] is None
    assert header["started"] <= header["ended"]
    last = json.loads((tmp_path / "run/events.jsonl").read_text(encoding="utf-8").split("\n")[-2])
    assert (last["event"], last["status"]) == ("run_ended", "complete")


def test_failed(tmp_path):
    def work():
        with begin(tmp_path / "run"):
            raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError, match="by zero"):
        work()
    assert status(tmp_path / "run") == "failed"
    assert read_header(tmp_path / "run")["error"] == "by zero"


def test_interrupted_and_reopened(tmp_path):
    interrupt(tmp_path / "run")
    assert status(tmp_path / "run") == "interrupted"
    with RunDirectory.reopen(tmp_path / "run") as run:
        assert status(tmp_path / "run") == "running"
        assert run.header["seed"] == 3
        run.emit("epoch", epoch=2)
        assert [e["event"] for e in run.events()] == ["trial_started", "run_ended", "epoch"]
    assert status(tmp_path / "run") == "complete"
    assert "resumed" in read_header(tmp_path / "run")


def test_listeners_hear_logged_and_passing_events(tmp_path):
    heard = []
    with begin(tmp_path / "run", listeners=(heard.append,)) as run:
        run.mention("progress", done=3)
        run.emit("epoch", val_score=float("nan"))
        logged = [e["event"] for e in run.events()]
    assert [e["event"] for e in heard] == ["trial_started", "progress", "epoch", "run_ended"]
    assert logged == ["trial_started", "epoch"]
    assert heard[1]["done"] == 3
    assert heard[2]["val_score"] is None


def test_run_that_never_began_leaves_nothing(tmp_path):
    def work():
        with RunDirectory.create(tmp_path / "run", HEADER):
            raise ConfigError("bad key")

    with pytest.raises(ConfigError, match="bad key"):
        work()
    assert not (tmp_path / "run").exists()
    with begin(tmp_path / "run"):
        pass


def test_existing_run(tmp_path):
    interrupt(tmp_path / "run")
    before = (tmp_path / "run/run.json").read_bytes()
    message = "the folder exists and is not empty; continue it with `raymat resume .*run`, or"
    with pytest.raises(RunError, match=message):
        RunDirectory.create(tmp_path / "run", HEADER)
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_existing_complete_run_and_foreign_folder(tmp_path):
    with begin(tmp_path / "run"):
        pass
    with pytest.raises(RunError, match="it holds a complete run; choose another --out"):
        RunDirectory.create(tmp_path / "run", HEADER)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="exists and is not empty; choose another --out"):
        RunDirectory.create(tmp_path / "foreign", HEADER)
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


def test_empty_folder_may_be_used(tmp_path):
    (tmp_path / "run").mkdir()
    with begin(tmp_path / "run"):
        pass
    assert status(tmp_path / "run") == "complete"


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match=r"run: cannot be written .*choose another --out"):
        RunDirectory.create(tmp_path / "run", HEADER)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "not a run directory"), ("{torn", "cannot be read"), ("[]", "expected a JSON object")],
)
def test_not_a_run_directory(tmp_path, text, message):
    if text is not None:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        RunDirectory.reopen(tmp_path)


def test_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write to any folder; the read-only disk below stands for it")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match=r"Permission denied.*choose another --out"):
            RunDirectory.create(tmp_path / "run", HEADER)
    finally:
        tmp_path.chmod(0o700)


def test_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk") as disk:
        command = ["mount", "-o", "remount,ro", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a disk cannot be made read-only here")
        with pytest.raises(RunError, match=r"Read-only file system.*choose another --out"):
            RunDirectory.create(disk / "run", HEADER)


def test_files_are_replaced_whole(tmp_path):
    with begin(tmp_path / "run") as run:
        run.write_text("best.yaml", "model: cgcnn\n")

        def broken():
            with run.replacing("best.yaml") as temporary:
                temporary.write_text("half", encoding="utf-8")
                raise RuntimeError("killed")

        with pytest.raises(RuntimeError, match="killed"):
            broken()
        assert (run.path / "best.yaml").read_text(encoding="utf-8") == "model: cgcnn\n"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", "best.yaml", "events.jsonl", "run.json"}
    assert (tmp_path / "run/run.json").stat().st_mode & 0o777 == 0o644


HOLDER = """
import sys, time
from pathlib import Path
from raymat.tracking.run_directory import amend_arguments, RunDirectory
with RunDirectory.create(Path(sys.argv[1]), {"command": "tune"}) as run:
    number = 0
    while True:
        run.emit("trial_started", trial=number)
        number += 1
        if number == 100:
            print("working", flush=True)
        time.sleep(0.0005)
"""


@pytest.fixture
def holder(tmp_path):
    """A process at work in a run directory."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "working\n"
        yield process
        process.kill()


def test_second_process_is_kept_out(holder, tmp_path):
    with pytest.raises(RunError, match="another raymat process is at work in this folder"):
        RunDirectory.reopen(tmp_path / "run")
    with pytest.raises(RunError, match="the folder exists and is not empty"):
        RunDirectory.create(tmp_path / "run", HEADER)
    assert holder.poll() is None
    assert status(tmp_path / "run") == "running"


def test_killed_process_leaves_a_run_that_can_be_resumed(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert status(tmp_path / "run") == "running"
    with RunDirectory.reopen(tmp_path / "run") as run:
        events = run.events()
        assert [e["trial"] for e in events] == list(range(len(events)))
        assert len(events) >= 100
    assert status(tmp_path / "run") == "complete"


def test_ctrl_c_in_another_process(holder, tmp_path):
    holder.send_signal(signal.SIGINT)
    holder.wait()
    assert status(tmp_path / "run") == "interrupted"
    with RunDirectory.reopen(tmp_path / "run"):
        pass


def test_two_starts_at_once_have_one_winner(tmp_path):
    code = HOLDER.replace("while True:", "while number < 200:")
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert any("RunError" in text for text in told)
    assert status(tmp_path / "run") == "complete"
    with RunDirectory.reopen(tmp_path / "run") as run:
        trials = [e["trial"] for e in run.events() if e["event"] == "trial_started"]
    assert trials == list(range(200))


def test_full_disk_during_a_run(tmp_path):
    """One line for the user, the lock free, everything before it kept, and it can go on."""
    with mounted(tmp_path / "disk") as disk:
        filler = fill_during_a_run(disk)
        filler.unlink()
        with RunDirectory.reopen(disk / "run") as run:
            numbers = [e["number"] for e in run.events() if e["event"] == "epoch"]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= 5
        assert status(disk / "run") == "complete"


def fill_during_a_run(disk: Path) -> Path:
    def work():
        with begin(disk / "run") as run:
            for number in range(5):
                run.emit("epoch", number=number)
            fill(disk)
            for number in range(5, 200):
                run.emit("epoch", number=number, text="x" * 1000)

    with pytest.raises(RunError, match=r"run: cannot be written \(No space left on device\)"):
        work()
    return disk / "filler"


def test_disk_that_is_full_from_the_start(tmp_path):
    """Nothing half-made stays behind that a second try would stumble over."""
    with mounted(tmp_path / "disk") as disk:
        filler = fill(disk)
        for _ in range(2):
            with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
                RunDirectory.create(disk / "run", HEADER)
        filler.unlink()
        with begin(disk / "run"):
            pass
        assert status(disk / "run") == "complete"


def test_times_are_utc_and_rising(tmp_path):
    with begin(tmp_path / "run") as run:
        time.sleep(0.002)
        run.emit("epoch")
        first, second = (event["time"] for event in run.events())
    assert first < second
    assert first.endswith("+00:00")


def test_full_disk_while_a_table_is_written(tmp_path):
    """Every file of a run goes through `replacing`: the old one stays, the error is one line."""

    def work(run):
        with run.replacing("trials.parquet") as temporary:
            temporary.write_bytes(b"x" * 200_000)

    with mounted(tmp_path / "disk") as disk, begin(disk / "run") as run:
        run.write_text("trials.parquet", "old")
        with pytest.raises(RunError, match=r"run: cannot be written \(No space left on device\)"):
            work(run)
        assert (run.path / "trials.parquet").read_text(encoding="utf-8") == "old"
        assert not list(run.path.glob(".trials.parquet.*"))


def test_a_start_that_was_killed_before_it_had_a_header_does_not_block_the_next(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "events.jsonl").touch()
    with RunDirectory.create(tmp_path, {"command": "tune"}) as run:
        assert run.header["status"] == "running"


def test_arguments_of_an_interrupted_run_can_be_changed(tmp_path):
    """Also those of the runs within, as a series has; and only those that there are."""
    asked = {"address": None, "seed": 1}
    header = {"command": "explain", "arguments": {"properties": [asked]}}
    with RunDirectory.create(tmp_path / "run", header), pytest.raises(RunError, match="at work"):
        amend_arguments(tmp_path / "run", {"address": "auto"})
    header = {"command": "explain", "arguments": asked}
    with RunDirectory.create(tmp_path / "run" / "band_gap", header):
        pass
    amend_arguments(tmp_path / "run", {"address": "auto", "concurrency": 2})
    changed = {"address": "auto", "seed": 1}
    assert read_header(tmp_path / "run")["arguments"] == {"properties": [changed]}
    assert read_header(tmp_path / "run" / "band_gap")["arguments"] == changed


PRECIOUS = b"the only copy\nof a thesis, its last line without an end"


@pytest.fixture
def precious(tmp_path):
    file = tmp_path / "thesis.tex"
    file.write_bytes(PRECIOUS)
    return file


def test_links_out_of_a_run_are_not_followed(tmp_path, precious):
    """Resuming would cut off the last line of what the log leads to, and append to it."""
    interrupt(tmp_path / "run")
    log = tmp_path / "run/events.jsonl"
    log.unlink()
    log.symlink_to(precious)
    for read in (read_header, RunDirectory.reopen):
        with pytest.raises(RunError, match=r"events.jsonl: a link that leads out of the folder"):
            read(tmp_path / "run")
    with pytest.raises(RunError, match="a link, which is not followed"):
        EventLog(log)
    with pytest.raises(RunError, match="a link, which is not followed"):
        read_events(log)
    assert precious.read_bytes() == PRECIOUS


@pytest.mark.parametrize("name", ["best", "wandb/latest", "figure.svg", "run.json"])
def test_any_link_out_of_a_run_is_refused(tmp_path, precious, name):
    interrupt(tmp_path / "run")
    link = tmp_path / "run" / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(precious, link.parent))
    if name == "run.json":
        link.unlink()
        link.symlink_to("/etc/passwd")
    with pytest.raises(RunError, match=f"{name}: a link that leads out of the folder"):
        read_header(tmp_path / "run")


def test_links_within_a_run_and_to_a_run_are_followed(tmp_path):
    """W&B makes such links."""
    interrupt(tmp_path / "run")
    (tmp_path / "run/wandb/first").mkdir(parents=True)
    (tmp_path / "run/wandb/latest").symlink_to("first")
    (tmp_path / "run/wandb/lost").symlink_to("removed")
    (tmp_path / "latest").symlink_to("run")
    assert status(tmp_path / "latest") == "interrupted"
    with RunDirectory.reopen(tmp_path / "latest"):
        pass
    assert status(tmp_path / "run") == "complete"


@pytest.mark.parametrize("name", ["events.jsonl", "run.json", "best/model.json", ".lock"])
@pytest.mark.timeout(60)
def test_pipe_in_a_run_keeps_nobody_waiting(tmp_path, name):
    interrupt(tmp_path / "run")
    pipe = tmp_path / "run" / name
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(RunError, match=f"{name}: a pipe, socket or device, not a regular file"):
        RunDirectory.reopen(tmp_path / "run")


def test_log_with_a_second_name_is_left_alone(tmp_path, precious):
    interrupt(tmp_path / "run")
    log = tmp_path / "run/events.jsonl"
    precious.write_bytes(log.read_bytes() + b'{"event": "torn')
    log.unlink()
    log.hardlink_to(precious)
    before = precious.read_bytes()
    with pytest.raises(RunError, match="a second name"):
        RunDirectory.reopen(tmp_path / "run")
    assert precious.read_bytes() == before


@pytest.mark.parametrize("content", [PRECIOUS, b"no line end", b'{"title": 1}\n{"torn', b"[1]\n{"])
def test_file_that_is_no_event_log_is_left_alone(tmp_path, content):
    interrupt(tmp_path / "run")
    log = tmp_path / "run/events.jsonl"
    log.write_bytes(content)
    with pytest.raises(RunError, match=r"events.jsonl: not an event log of raymat"):
        RunDirectory.reopen(tmp_path / "run")
    assert log.read_bytes() == content
    assert status(tmp_path / "run") == "interrupted"


def test_models_behind_links_are_refused(tmp_path, precious):
    interrupt(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/model.json").write_text("{}", encoding="utf-8")
    (tmp_path / "run/best").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="best: a link that leads out of the folder"):
        load_predictor(tmp_path / "run")
    (tmp_path / "elsewhere/model.safetensors").symlink_to(precious)
    with pytest.raises(RunError, match=r"model.safetensors: a link that leads out of the folder"):
        load_predictor(tmp_path / "elsewhere")
