"""The warnings of a run's log are on its page, whatever kind of run it is."""

from pathlib import Path

import pytest
from page_parts import part, titles
from search_run import write_search_run

from raymat.reports.page.build import build_page
from raymat.tracking.run_directory import RunDirectory

TITLE = "Warnings of the log"


def warn(path: Path, *texts: str, command: str = "compare-cell") -> Path:
    """Log warnings in a run, which is made where there is none."""
    is_there = (path / "run.json").exists()
    opened = RunDirectory.reopen(path) if is_there else RunDirectory.create(path, _header(command))
    with opened as run:
        run.emit("search_started")
        for text in texts:
            run.emit("warning", text=text)
    return path


def _header(command: str) -> dict[str, object]:
    return {"command": command, "arguments": {}}


def test_each_text_once_with_its_count(tmp_path: Path) -> None:
    run = warn(write_search_run(tmp_path / "run"), "slow disk", "few rows", "slow disk")
    rows = part(run, TITLE).rows
    assert rows.to_dict("list") == {"warning": ["slow disk", "few rows"], "times": [2, 1]}
    assert titles(run)[0] == TITLE


def test_run_without_warnings_has_no_such_section(tmp_path: Path) -> None:
    assert TITLE not in titles(write_search_run(tmp_path / "run"))


@pytest.mark.parametrize("command", ["tune", "train", "ensemble", "screen", "explain", "dream"])
def test_every_kind_of_run(tmp_path: Path, command: str) -> None:
    run = warn(tmp_path / "run", "be careful", command=command)
    assert part(run, TITLE).rows["warning"].tolist() == ["be careful"]


def test_runs_within_are_named(tmp_path: Path) -> None:
    run = warn(tmp_path / "run", "own", command="compare")
    for number in range(5):
        warn(run / "cells" / f"cell-{number}", "slow", *(["bad"] if number == 3 else []))
    rows = part(run, TITLE).rows.set_index("warning")
    assert rows["times"].to_dict() == {"own": 1, "slow": 5, "bad": 1}
    assert rows["of"].to_dict() == {
        "own": "",
        "slow": "cell-0, cell-1, cell-2, 2 more",
        "bad": "cell-3",
    }


def test_damaged_log_is_told_once(tmp_path: Path) -> None:
    run = write_search_run(tmp_path / "run")
    (run / "events.jsonl").write_text("nonsense\n")
    warnings = build_page([run])[1]
    assert len(warnings) == 1
    assert "events.jsonl, line 1: damaged" in warnings[0]
