import os
import signal
import time
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from raymat.cli import progress as progress_module
from raymat.cli.progress import RunProgress, render
from raymat.cli.progress_text import say_duration, say_event, say_status
from raymat.cli.run_state import RunState
from raymat.cli.runs import FailedRunError, running
from raymat.errors import DataError, RunError

START = 1_700_000_000.0
DATA: dict[str, Any] = {
    "data": {"name": "delta", "n_rows": 71, "n_used": 70, "n_rejected": 1},
    "target": "y",
    "unit": "GPa",
    "task": "regression",
    "split": {"kind": "random", "rows": {"train": 100, "validation": 7, "test": 7}},
    "leakage_line": "leakage: 0 of 7 test rows",
}


def at(second: float, event: str, **values: Any) -> dict[str, Any]:
    time = datetime.fromtimestamp(START + second, UTC).isoformat(timespec="milliseconds")
    return {"event": event, "time": time, **values}


def started(second: float, trial: int, epochs: int = 10) -> dict[str, Any]:
    config = {"training.epochs": epochs}
    return at(second, "trial_started", trial=trial, seed=trial, values={}, config=config)


def epoch(second: float, trial: int, number: int, score: float | None) -> dict[str, Any]:
    values = {"train_loss": 1.0, "val_score": score, "time_s": 1.0, "facts": {}}
    return at(second, "epoch", trial=trial, epoch=number, **values)


def ended(
    second: float, trial: int, status: str = "complete", error: str | None = None
) -> dict[str, Any]:
    return at(second, "trial_ended", trial=trial, status=status, error=error)


def state_after(*events: dict[str, Any]) -> RunState:
    state = RunState(started=START)
    for event in (at(0, "data", **DATA), at(1, "search_started", trials=6, cpu=1, gpu=0), *events):
        state.take(event)
    return state


@pytest.fixture
def searching() -> RunState:
    """Six trials: one complete in 10 s, one failed in 6 s, two running since second 10."""
    return state_after(
        started(0, 0),
        started(0, 1),
        epoch(5, 0, 1, 3.0),
        epoch(6, 1, 1, 0.1),
        ended(6, 1, "failed", "training diverged in epoch 2"),
        epoch(10, 0, 2, 2.0),
        ended(10, 0),
        started(10, 2),
        started(10, 3),
        epoch(12, 2, 1, 1.5),
        epoch(14, 2, 2, 1.8),
    )


def test_counts_and_best(searching: RunState) -> None:
    assert searching.ended == {"complete": 1, "stopped": 0, "failed": 1}
    assert searching.running == [2, 3]
    best = searching.best()
    assert best is not None
    assert (best.number, best.best, best.best_epoch) == (2, 1.5, 1)  # 0.1 belongs to a failed one


def test_best_of_a_classification_is_the_highest() -> None:
    state = RunState()
    state.take(at(0, "data", **{**DATA, "task": "classification", "unit": ""}))
    for event in (started(0, 0), epoch(1, 0, 1, 0.7), epoch(2, 0, 2, 0.9), epoch(3, 0, 3, 0.8)):
        state.take(event)
    best = state.best()
    assert best is not None
    assert (best.best, best.best_epoch) == (0.9, 2)
    assert "AUC 0.9 (trial 0, epoch 2)" in say_status(state, START + 3)


def test_time_left(searching: RunState) -> None:
    # mean wall (10 + 6) / 2 = 8 s; 2 waiting, 2 running for 4 s each, 2 at once:
    # (2 * 8 + 4 + 4) / 2
    assert searching.seconds_left(START + 14) == pytest.approx(12.0)


def test_time_left_is_unknown_before_a_trial_ended() -> None:
    state = state_after(started(0, 0), epoch(3, 0, 1, 1.0))
    assert state.seconds_left(START + 3) is None
    assert "left" not in say_status(state, START + 3)


def test_time_left_is_never_more_than_the_time_budget(searching: RunState) -> None:
    searching.take(at(1, "search_started", trials=6, cpu=1, gpu=0, time_budget_s=20))
    assert searching.seconds_left(START + 14) == pytest.approx(7.0)
    assert searching.seconds_left(START + 40) == 0.0
    searching.take(at(1, "search_started", trials=6, cpu=1, gpu=0, time_budget_s=900))
    assert searching.seconds_left(START + 14) == pytest.approx(12.0)
    searching.replay([])
    searching.take(at(1000, "trial_resumed", trial=2))
    assert searching.budget_left(START + 1000) is None  # that budget was of the session before


def test_time_budget_is_shown_before_a_trial_ended() -> None:
    state = state_after(started(0, 0), epoch(3, 0, 1, 1.0))
    state.take(at(1, "search_started", trials=6, cpu=1, gpu=0, time_budget_s=120))
    assert "1 min 58 s left" in say_status(state, START + 3)
    assert "at most" in say_status(state, START + 3)


def test_time_left_of_a_single_training() -> None:
    state = RunState()
    state.take(at(0, "training_started", device="cpu", threads=1))
    for event in (started(0, 0), epoch(2, 0, 1, 1.0), epoch(4, 0, 2, 1.0)):
        state.take(event)
    assert state.seconds_left(START + 4) == pytest.approx(16.0)
    assert "epoch 2 of 10" in say_status(state, START + 4)


def test_throughput_counts_the_last_minute(searching: RunState) -> None:
    assert searching.crystals_per_s(START + 20) == pytest.approx(5 * 100 / 20)
    assert searching.crystals_per_s(START + 72) == pytest.approx(1 * 100 / 60)


def test_epochs_of_long_ago_are_forgotten() -> None:
    state = state_after(started(0, 0, epochs=5000))
    for second in range(1, 5001):
        state.take(epoch(second, 0, second, 1.0))
    assert len(state._epoch_times) == 60
    assert state.crystals_per_s(START + 5000) == pytest.approx(60 * 100 / 60)


def test_resume_replays_what_was_done_but_not_its_time() -> None:
    state = RunState()
    state.replay(
        [
            at(0, "data", **DATA),
            at(1, "search_started", trials=3, cpu=1, gpu=0),
            started(1, 0),
            epoch(2, 0, 1, 1.0),
            ended(3, 0),
            started(3, 1),
            epoch(4, 1, 1, 0.5),
        ]
    )
    assert (state.n_ended, state.running, state.walls) == (1, [], [])
    state.take(at(1000, "trial_resumed", trial=1))
    assert state.running == [1]
    assert state.trials[1].epoch == 1
    state.take(ended(1004, 1))
    assert state.walls == [4.0]


def test_live_display(searching: RunState) -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    console.print(render("tune cgcnn", searching, START + 14))
    text = out.getvalue()
    for words in (
        "tune cgcnn  training trials",
        "2 of 6 trials ended (1 complete, 0 stopped, 1 failed), 2 running",
        "best validation MAE 1.5 GPa (trial 2, epoch 1)",
        "36 crystals/s, 14 s elapsed, about 12 s left",
        "validation MAE (GPa)",
    ):
        assert words in text
    rows = [line.split() for line in text.splitlines()]
    assert ["2", "2", "of", "10", "1.8", "1.5", "1", "4", "s"] in rows
    assert ["3", "0", "of", "10", "-", "-", "-", "4", "s"] in rows


def test_live_display_has_a_bar_for_the_graphs() -> None:
    state = RunState(started=START)

    def drawn() -> str:
        out = StringIO()
        Console(file=out, force_terminal=True, width=100, color_system=None).print(
            render("tune", state, START)
        )
        return out.getvalue()

    assert "━" not in drawn()
    lengths = []
    for done in (100, 700, 1000):
        state.take({"event": "features", "done": done, "total": 1000})
        assert f"building features: {done:,} of 1,000 crystals" in drawn()
        lengths.append(drawn().count("━"))
    assert lengths == [6, 42, 60]
    state.take(at(9, "features_ready"))
    assert "━" not in drawn()


def test_features_are_said_with_a_time_that_is_worth_it() -> None:
    state = RunState(started=START)
    ready = at(1, "features_ready", line="graphs: 12 neighbors of 40 atoms", time_s=0.3)
    assert say_event(ready, state) == ["graphs: 12 neighbors of 40 atoms"]
    slow = {**ready, "time_s": 12.34}
    assert say_event(slow, state) == ["graphs: 12 neighbors of 40 atoms; 12.3 s"]


def test_crystals_left_out_are_counted_and_one_is_named() -> None:
    event = at(1, "left_out", count=1204, first="mp-1 holds Xe")
    (line,) = say_event(event, RunState(started=START))
    assert line == "left out: 1,204 crystals the model cannot read, such as mp-1 holds Xe"


def test_classes_are_said_with_their_threshold() -> None:
    data = {**DATA, "unit": "", "task": "classification", "threshold": 1.23456789}
    lines = say_event(at(0, "data", **data), RunState(started=START))
    assert "classes: 1 for y above 1.23457, 0 at or below it" in lines
    plain = say_event(at(0, "data", **DATA), RunState(started=START))
    assert len(plain) == len(lines) - 1


def test_live_display_shows_only_so_many_trials() -> None:
    state = state_after(*[started(0, n) for n in range(40)])
    out = StringIO()
    Console(file=out, width=100).print(render("tune", state, START))
    assert "and 28 more" in out.getvalue()


def test_live_display_starts_and_stops_on_a_terminal() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with RunProgress("tune cgcnn", console=console) as progress:
        progress(at(0, "data", **DATA))
        progress(started(0, 0))
        progress(epoch(1, 0, 1, 2.0))
    text = out.getvalue()
    assert "\x1b[?25l" in text  # the cursor is hidden while it runs
    assert text.index("\x1b[?25h") > text.index("\x1b[?25l")
    assert "data: delta, 70 crystals, 1 rows rejected; target: y (GPa)" in text
    assert "best validation MAE 2 GPa (trial 0, epoch 1)" in text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time the display sees."""
    now = [START]
    monkeypatch.setattr(progress_module.time, "time", lambda: now[0])
    return now


def plain_lines(events: list[dict[str, Any]], clock: list[float], **options: Any) -> list[str]:
    out = StringIO()
    with RunProgress("tune x", console=Console(file=out, width=40), **options) as progress:
        for event in events:
            clock[0] = datetime.fromisoformat(event["time"]).timestamp()
            progress(event)
    return out.getvalue().splitlines()


def test_plain_lines(clock: list[float]) -> None:
    lines = plain_lines(
        [
            at(0, "data", **DATA),
            at(1, "search_started", trials=2, cpu=1, gpu=0.5),
            started(1, 0),
            *[epoch(1 + n, 0, n, 5.0 - n / 10) for n in range(1, 26)],
            ended(27, 0),
            started(27, 1),
            ended(28, 1, "failed", "its process died"),
        ],
        clock,
    )
    assert lines[0] == "tune x: starting"
    assert lines[2] == "split: random, 100 train, 7 validation, 7 test"
    assert lines[4] == "search: 2 trials, 1 CPU and 0.5 GPU each"
    assert lines[-3] == "trial 0 complete after 25 epochs: best validation MAE 2.5 GPa in epoch 25"
    assert lines[-2] == "trial 1 failed after 0 epochs: its process died"
    assert lines[-1].startswith("2 of 2 trials ended (1 complete, 0 stopped, 1 failed); best")
    status = [line for line in lines if "elapsed" in line]
    assert len(status) == 2  # 25 epochs in 25 s: one line in ten seconds
    assert "\x1b" not in "".join(lines)


def test_quiet_is_silent(clock: list[float]) -> None:
    assert plain_lines([at(0, "data", **DATA), started(0, 0)], clock, quiet=True) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert say_duration(seconds) == text


def test_unknown_events_pass() -> None:
    state = RunState()
    event = at(0, "something_new", value=1)
    state.take(event)
    assert say_event(event, state) == []


def terminate_inside(run: Path) -> None:
    with running(run, RunProgress("t", quiet=True)):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def fail_inside(run: Path, error: Exception, *events: dict[str, Any]) -> None:
    progress = RunProgress("t", quiet=True)
    with running(run, progress):
        for event in events:
            progress(event)
        raise error


@pytest.mark.parametrize("has_run", [True, False])
def test_sigterm_leaves_a_resumable_run(
    tmp_path: Path, has_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if has_run:
        (tmp_path / "run.json").touch()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit, match="130") as caught:
        terminate_inside(tmp_path)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before
    said = capsys.readouterr().err
    line = f"interrupted; continue with: raymat resume {tmp_path}\n"
    assert said == (line if has_run else "interrupted before the run began\n")


def test_failure_before_the_run_began_is_unusable_input(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists") as caught:
        fail_inside(tmp_path, RunError("the folder exists"))
    assert not isinstance(caught.value, FailedRunError)


def test_failure_of_a_run_has_its_own_exit_code(tmp_path: Path) -> None:
    data = at(0, "data", **DATA)
    (tmp_path / "run.json").touch()
    for error in (RunError("none of 4 trials"), DataError("none of 4 trials")):
        with pytest.raises(FailedRunError, match=f"none of 4 trials .run: {tmp_path}") as caught:
            fail_inside(tmp_path, error, data)
        assert caught.value.exit_code == 1


def test_input_that_is_refused_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column"):
        fail_inside(tmp_path, DataError("no column"), at(0, "data", **DATA))
