"""What `raymat ensemble` says while it works, from its events alone."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from raymat.cli.ensemble_progress import EnsembleProgress
from raymat.ensembles.record import EnsembleRecord


def started(done: int = 0, failed: int = 0) -> dict[str, Any]:
    counts = {"members": 5, "done": done, "failed": failed, "epochs": 10, "n_train": 1234}
    return {"event": "ensemble_started", **counts}


DATA: dict[str, Any] = {
    "event": "data", "target": "y", "unit": "GPa", "task": "regression", "threshold": None,
    "data": {"name": "delta", "n_used": 71, "n_rejected": 0},
    "split": {"kind": "random", "seed": 0, "rows": {"train": 43, "validation": 14, "test": 14}},
    "unseen_elements": {}, "leakage_line": "no relatives",
}  # fmt: skip
BEGUN: list[dict[str, Any]] = [
    {"event": "member_started", "member": number, "attempt": 0, "seed": number}
    for number in range(3)
]
HAPPENED: list[dict[str, Any]] = [
    *BEGUN,
    {"event": "member_epochs", "epochs": {"0": 10, "1": 5, "2": 5}},
    {"event": "member_ended", "member": 0, "row": {"val_score": 0.5}},
    {"event": "member_failed", "member": 1, "attempt": 0, "seed": 1, "error": "diverged"},
    {"event": "member_started", "member": 1, "attempt": 1, "seed": 9},
    {"event": "member_failed", "member": 1, "attempt": 1, "seed": 9, "error": "diverged again"},
    {"event": "member_ended", "member": 2, "row": {"val_score": 0.3}},
    {"event": "something_new"},
]


def said(*heard: dict[str, Any], **options: Any) -> list[str]:
    out = StringIO()
    with EnsembleProgress(console=Console(file=out, width=40), **options) as progress:
        for event in heard:
            progress(event)
    assert "\x1b" not in out.getvalue()
    return out.getvalue().splitlines()


def test_plain_lines() -> None:
    lines = said(DATA, started(), *HAPPENED)
    assert "ensemble: 5 members of up to 10 epochs, 1,234 training rows each" in lines
    assert "member 1 failed: diverged; it is tried again with another seed" in lines
    assert "member 1 failed: diverged again; it is left out" in lines
    assert lines[-1].startswith(
        "2 of 5 members, 1 failed, 1 tried again; validation MAE of a member 0.4 GPa; "
    )
    assert lines[-1].endswith(" elapsed")


def test_resumed_run_counts_what_was_done() -> None:
    lines = said(DATA, started(done=2, failed=1), *BEGUN[:1])
    assert any(line.endswith("each, 2 of them trained before") for line in lines)
    assert lines[-1].startswith("2 of 5 members, 1 failed; ")


def test_warnings_and_left_out_rows_are_said() -> None:
    lines = said(
        {"event": "warning", "text": "no applicability domain"},
        {"event": "left_out", "count": 3, "first": "mp-1 no neighbors"},
    )
    assert "warning: no applicability domain" in lines
    assert any("mp-1 no neighbors" in line for line in lines)


def test_quiet_is_silent() -> None:
    assert said(DATA, started(), *HAPPENED, quiet=True) == []
    assert said() == []


def test_time_left_counts_epochs_of_running_members() -> None:
    progress = EnsembleProgress(quiet=True)
    for event in (DATA, started(done=1), *BEGUN):
        progress(event)
    begun = progress._started
    assert progress.say_time(begun + 60.0) == "1 min 00 s elapsed"  # nothing to go by yet
    progress({"event": "member_epochs", "epochs": {"0": 10, "1": 5, "2": 5}})
    assert progress.members_done() == pytest.approx(1 + 2.0)
    # Two members in a minute, two are left.
    assert progress.say_time(begun + 60.0) == "1 min 00 s elapsed, about 1 min 00 s left"


def test_live_display() -> None:
    out = StringIO()
    with EnsembleProgress(console=Console(file=out, force_terminal=True, width=80)) as progress:
        for event in (DATA, started(), *HAPPENED[:5]):
            progress(event)
        shown = Console(width=80, file=StringIO())
        shown.print(progress.render())
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "ensemble  training members" in text
    assert "1 of 5 members; validation MAE" in text
    assert "member 1  epoch 5 of 10" in text
    assert "member 0  epoch" not in text  # it does not run any more
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def test_counts_agree_with_the_record() -> None:
    record, progress = EnsembleRecord(5), EnsembleProgress(quiet=True)
    row = {"val_score": 0.1}
    for event in (DATA, started(), *HAPPENED):
        progress(event)
        record.take({**event, "row": row} if event["event"] == "member_ended" else event)
    assert (progress.done, progress.failed) == (len(record.ended), len(record.given_up))
