"""`raymat status` and `raymat runs`: read from the logs of runs, whatever became of them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raymat.cli import main, runs_list
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


def test_a_training_is_counted_in_epochs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    begun = event(0, "trial_started", trial=0, seed=0, values={}, config={"training.epochs": 10})
    first = {**epoch(2, 0, 0.5), "epoch": 1}
    events = [begun, first, {**epoch(4, 0, 0.25), "epoch": 2}]
    asked = {"config": {"model": "cgcnn"}, "target": "band_gap", "data": "/data/mp.parquet"}
    path = write_run(tmp_path / "run", events, command="train", arguments=asked)
    with RunDirectory(path):
        found = read_status(path, now=NOW)
        assert main.run(["status", str(path)]) == 0
        assert main.run(["runs", str(tmp_path)]) == 0
    assert (found.status, found.done, found.total, found.word) == ("running", 2, 10, "epochs")
    assert found.best == "best validation MAE 0.25 eV (trial 0, epoch 1)".replace(
        "epoch 1", "epoch 2"
    )
    assert found.seconds_left == pytest.approx(8 * 120.0)  # two epochs in four minutes
    said = " ".join(capfd.readouterr().out.split())
    assert "target band_gap (eV), model cgcnn, data mp 2 of 10 epochs done" in said
    assert "run train running 2/10 epochs best validation MAE 0.25 eV" in said


def test_a_training_that_was_continued_has_the_pace_of_this_session(tmp_path: Path) -> None:
    begun = event(0, "trial_started", trial=0, seed=0, values={}, config={"training.epochs": 4})
    events = [begun, epoch(1, 0, 0.5), event(8, "trial_resumed", trial=0), epoch(9, 0, 0.4)]
    path = write_run(tmp_path / "run", events, command="train")
    with RunDirectory(path):
        assert read_status(path, now=NOW).seconds_left == pytest.approx(2 * 60.0)


# --- which run is which --------------------------------------------------------------------------


def finished(
    path: Path, mae: float, *, target: str = "K", data: str = "a", split: str = "s"
) -> Path:
    """Write a complete search with a test score."""
    scored = event(5, "scored", metrics={"unit": "eV", "test": {"mae": mae}})
    return write_run(
        path,
        [*SEARCH, scored],
        status="complete",
        target=target,
        started="2025-03-01T10:00:00+00:00",
        data={"name": data, "sha256": f"{data}-hash"},
        split={"sha256": split},
        arguments={"space": {"model": "cgcnn"}, "target": target},
    )


@pytest.fixture
def several(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    finished(folder / "k-first", 0.25)
    finished(folder / "k better", 0.125)
    finished(folder / "k-other", 0.0625, split="t")
    finished(folder / "g", 0.5, target="G", data="b")
    write_run(folder / "k-running", SEARCH, target="K", status="interrupted")
    return folder


def listed(capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main.run(["runs", *words]) == 0
    return capfd.readouterr().out.splitlines()


def test_runs_tell_target_unit_data_model_and_date(
    several: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    head, *rows = listed(capfd, str(several), "--sort", "run")
    assert head.split() == [
        *("run", "command", "status", "done", "result", "target", "unit", "model", "data", "date"),
    ]
    (row,) = (row for row in rows if row.startswith("g "))
    day = datetime.fromisoformat("2025-03-01T10:00:00+00:00").astimezone()
    assert row.split() == [
        *("g", "tune", "complete", "2/5", "trials", "test", "MAE", "0.5", "eV", "G", "eV"),
        *("cgcnn", "b", *f"{day:%Y-%m-%d %H:%M}".split()),
    ]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (76, ["run", "command", "status", "result", "target", "model"]),
        (40, ["run", "status", "result"]),
    ],
)
def test_narrow_terminals_have_fewer_columns(width: int, columns: list[str]) -> None:
    rows = [
        {**dict.fromkeys(runs_list._COLUMNS, "twelve chars"), "unit": "eV", "target": "K"},
        {"run": "another"},
    ]
    console = Console(width=width)
    shown = runs_list._fitting(rows, runs_list._COLUMNS, console)
    assert shown == columns


def test_filters_and_sorting(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(several)

    def names(*words: str) -> list[str]:
        return [row.split("  ")[0] for row in listed(capfd, folder, *words)[1:]]

    assert names("--target", "G") == ["g"]
    assert names("--status", "interrupted") == ["k-running"]
    assert names("--command", "tune", "--sort", "run") == [
        *("g", "k better", "k-first", "k-other", "k-running"),
    ]
    # Within a target and the same test rows the best first; what has no score comes last.
    assert names("--sort", "score") == ["g", "k better", "k-first", "k-other", "k-running"]
    assert main.run(["runs", folder, "--target", "k"]) == 2
    assert "--target k: no such run in" in capfd.readouterr().err


def test_the_best_run_of_a_target(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = listed(capfd, str(several), "--best", "K")
    assert [line.split("  ")[0] for line in said[1:4]] == ["A", "A", "B"]
    assert [line.split("  ")[2].strip() for line in said[1:4]] == ["k better", "k-first", "k-other"]
    rest = " ".join(" ".join(said[4:]).split())
    assert rest == (
        "best on rows A: k better, test MAE 0.125 eV of 2 runs; picked by its test score, which"
        f" therefore flatters predict with it: raymat predict --model '{several}/k better/best'"
        " CRYSTALS best on rows B: k-other, test MAE 0.0625 eV predict with it: raymat predict"
        f" --model {several}/k-other/best CRYSTALS Scores of different letters cannot be compared:"
        " other data, another split or another threshold."
    )
    assert main.run(["runs", str(several), "--best", "bandgap"]) == 2
    assert "no complete run in" in capfd.readouterr().err


def test_commands_that_are_suggested_quote_paths(
    several: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_run(several / "with space", SEARCH, status="failed")
    assert main.run(["status", str(path)]) == 0
    assert f"continue with: raymat resume '{path}'" in capfd.readouterr().out


def test_runs_of_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scored = event(5, "scored", metrics={"unit": "eV", "test": {"mae": 0.125}})
    write_run(tmp_path / "first", [*SEARCH, scored], status="complete")
    write_run(tmp_path / "second", SEARCH)
    broken = write_run(tmp_path / "third", [])
    (broken / "run.json").write_text("{", encoding="utf-8")
    assert main.run(["runs", str(tmp_path)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "first tune complete 2/5 trials test MAE 0.125 eV" in said
    assert "second tune dead 2/5 trials best validation MAE 0.25 eV" in said
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
