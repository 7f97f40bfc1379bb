"""The event log: every whole line counts, a torn one does not."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
from tmpfs import fill, mounted

from raymat.errors import RunError
from raymat.tracking.events import EventLog, now, read_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def log(path):
    log = EventLog(path)
    yield log
    log.close()


def test_one_json_object_a_line(log, path):
    given = log.append("epoch", trial=3, epoch=1, val_score=0.25)
    log.append("trial_ended", durable=True, trial=3, status="complete")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == given
    assert read_events(path)[1]["status"] == "complete"
    assert [event["event"] for event in read_events(path)] == ["epoch", "trial_ended"]
    assert given["time"] <= now()
    assert given["time"].endswith("+00:00")


def test_values_that_are_not_finite_become_null(log, path):
    values = {"a": math.nan, "b": [1.0, math.inf], "c": {"d": (-math.inf, 2)}, "e": 0.5}
    given = log.append("epoch", **values)
    assert "NaN" not in path.read_text(encoding="utf-8")
    assert "Infinity" not in path.read_text(encoding="utf-8")
    found = read_events(path)[0]
    assert found["a"] is None
    assert found["b"] == [1.0, None]
    assert found["c"] == {"d": [None, 2]}
    assert found["e"] == 0.5
    assert given["a"] is None  # listeners hear what the log holds


def test_text_in_any_alphabet(log, path):
    log.append("data", formula="Li₂O", note="a\nb")
    assert read_events(path)[0]["formula"] == "Li₂O"
    assert read_events(path)[0]["note"] == "a\nb"


def test_missing_log_is_empty(path):
    assert read_events(path) == []


@pytest.mark.parametrize("torn", [b'{"event": "ep', b"{", '{"a": "Å'.encode()[:-1]])
def test_torn_last_line(log, path, torn):
    log.append("first")
    log.close()
    with path.open("ab") as file:
        file.write(torn)
    assert [event["event"] for event in read_events(path)] == ["first"]
    again = EventLog(path)
    again.append("second")
    again.close()
    assert [event["event"] for event in read_events(path)] == ["first", "second"]
    assert path.read_bytes().count(b"\n") == 2


def test_damage_before_the_end_is_told_with_its_place(log, path):
    log.append("first")
    log.append("second")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"event": \n' + lines[1])
    with pytest.raises(RunError, match=r"events.jsonl, line 2: damaged"):
        read_events(path)


def test_log_that_is_one_torn_line(path):
    path.write_bytes(b'{"event": "ep')
    EventLog(path).close()
    assert path.read_bytes() == b""


def test_reader_sees_what_was_appended_at_once(log, path):
    for i in range(3):
        log.append("epoch", i=i)
        assert len(read_events(path)) == i + 1


WRITER = """
import sys
from pathlib import Path
from raymat.tracking.events import EventLog
log = EventLog(Path(sys.argv[1]))
number = 0
while True:
    log.append("epoch", number=number, text="x" * 300)
    number += 1
"""


def test_killed_writer_leaves_a_readable_log(path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
        deadline = time.monotonic() + 30
        while len(read_events(path)) < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    log = EventLog(path)
    log.append("resumed")
    log.close()
    *numbers, last = read_events(path)
    assert [event["number"] for event in numbers] == list(range(len(numbers)))
    assert len(numbers) >= 50
    assert last["event"] == "resumed"


def append_many(log):
    for number in range(100):
        log.append("epoch", number=number, text="x" * 1000)


def test_full_disk_loses_only_the_event_that_did_not_fit(tmp_path):
    """The log stays whole lines, and goes on when there is room again."""
    with mounted(tmp_path / "disk") as disk:
        log = EventLog(disk / "events.jsonl")
        log.append("before")
        filler = fill(disk)
        with pytest.raises(OSError, match="No space left"):
            append_many(log)
        content = (disk / "events.jsonl").read_bytes()
        assert content.endswith(b"\n")
        assert len(read_events(disk / "events.jsonl")) == content.count(b"\n")
        filler.unlink()
        log.append("after")
        log.close()
        events = read_events(disk / "events.jsonl")
        assert events[0]["event"] == "before"
        assert events[-1]["event"] == "after"


def test_closing_on_a_full_disk(tmp_path):
    with mounted(tmp_path / "disk") as disk:
        log = EventLog(disk / "events.jsonl")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            append_many(log)
        log.close()
