"""`raymat status` and `raymat runs`: read from the logs of runs, whatever became of them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from raymat.cli import main
from raymat.reports.run_status import is_at_work, read_status
from raymat.tracking.run_directory import RunDirectory

NOW = datetime.fromisoformat("2025-03-01T10:10:00+00:00")
FACTS = {"host": "node", "pid": 1, "device": "cpu", "n_parameters": 9, "featurize_time_s": 0.0}


def event(minute: float, name: str, **values: Any) -> dict[str, Any]:
    at = f"2025-03-01T10:{int(minute):02d}:{60 * (minute % 1):02.0f}+00:00"
    return {"event": name, "time": at, **values}


def started(minute: float, trial: int) -> dict[str, Any]:
    values = {"trial": trial, "seed": trial, "values": {"training.lr": 0.1}}
    return event(minute, "trial_started", **values, config=values["values"])


def epoch(minute: float, trial: int, score: float) -> dict[str, Any]:
    metrics = {"epoch": 1, "train_loss": 1.0, "val_score": score, "time_s": 1.0}
    return event(minute, "epoch", trial=trial, **metrics, train_time_s=1.0, facts=FACTS)


def ended(minute: float, trial: int, status: str) -> dict[str, Any]:
    return event(minute, "trial_ended", trial=trial, status=status, error=None)


BEGUN = {"trials": 5, "time_budget_s": None, "cpu": 1.0, "gpu": 0.0}
SEARCH = [
    event(0, "search_started", **BEGUN),
    *(started(0, 0), epoch(1, 0, 0.5), ended(2, 0, "complete")),
    *(started(2, 1), epoch(3, 1, 0.25), ended(4, 1, "stopped")),
    started(4, 2),
]


def write_run(path: Path, events: list[dict[str, Any]], **header: Any) -> Path:
    path.mkdir(parents=True)
    content = {"command": "tune", "status": "running", "unit": "eV", **header}
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    (path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), "utf-8")
    (path / ".lock").touch()
    return path


def test_search_that_another_process_is_at(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", SEARCH)
    assert not is_at_work(path)
    assert read_status(path, now=NOW).status == "dead"
    with RunDirectory(path):
        assert is_at_work(path)
        found = read_status(path, now=NOW)
    assert (found.status, found.done, found.total, found.running) == ("running", 2, 5, 1)
    assert found.best == "best validation MAE 0.25 eV (trial 1, epoch 1)"
    assert found.seconds_left == pytest.approx(3 * 120.0)  # two trials in four minutes
    assert found.last_event == pytest.approx(6 * 60.0)


def test_pace_is_that_of_this_session(tmp_path: Path) -> None:
    resumed = [event(8, "search_started", **BEGUN), ended(9, 2, "complete")]
    path = write_run(tmp_path / "run", [*SEARCH, *resumed])
    with RunDirectory(path):
        assert read_status(path, now=NOW).seconds_left == pytest.approx(2 * 60.0)


@pytest.mark.parametrize(
    ("command", "events", "text"),
    [
        (
            "ensemble",
            [event(0, "ensemble_started", members=4, epochs=9), event(1, "member_ended", member=0)],
            "1 of 4 members done",
        ),
        (
            "screen",
            [event(0, "screening_started", shards=20), event(1, "shard_ended", shard=3)],
            "1 of 20 shards done",
        ),
        (
            "explain",
            [
                event(0, "explaining_started", explanations=300),
                event(1, "explanations_grown", result={"explanations": [{}] * 70, "failed": 5}),
            ],
            "75 of 300 explanations done",
        ),
        (
            "compare",
            [event(0, "comparison_started", cells=8), event(1, "cell_ended", cell="a")],
            "1 of 8 cells done",
        ),
    ],
)
def test_every_command_is_counted(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    command: str,
    events: list[dict[str, Any]],
    text: str,
) -> None:
    path = write_run(tmp_path / "run", events, command=command, status="interrupted")
    assert main.run(["status", str(path)]) == 0
    said = capfd.readouterr().out
    assert text in said
    assert f"{path}: {command}, interrupted" in said
    assert f"continue with: raymat resume {path}" in said


def test_runs_of_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scored = event(5, "scored", metrics={"unit": "eV", "test": {"mae": 0.125}})
    write_run(tmp_path / "first", [*SEARCH, scored], status="complete")
    write_run(tmp_path / "second", SEARCH)
    broken = write_run(tmp_path / "third", [])
    (broken / "run.json").write_text("{", encoding="utf-8")
    assert main.run(["runs", str(tmp_path)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "first tune complete 2/5 trials test MAE 0.125 eV" in said
    assert "second tune its process is gone 2/5 trials best validation MAE 0.25 eV" in said
    assert "third damaged" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "nowhere"), "nowhere: not a run directory (no run.json in it)"),
        (("runs", "nowhere"), "nowhere: no such folder; name the one that runs lie in"),
    ],
)
def test_nonsense_is_one_line(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main.run(list(words)) == 2
    assert capfd.readouterr().err.strip() == f"error: {message}"


def test_wrong_address_is_not_remembered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {"address": None}
    path = write_run(tmp_path / "run", SEARCH, status="interrupted", arguments=arguments)
    before = (path / "run.json").read_bytes()
    assert main.run(["resume", str(path), "--address", "nonsense"]) == 2
    assert "--address nonsense: expected HOST:PORT" in capfd.readouterr().err
    assert (path / "run.json").read_bytes() == before


def test_folder_without_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", str(tmp_path)]) == 0
    assert capfd.readouterr().out.strip() == f"{tmp_path}: no runs"
