"""Help texts of all commands, and options whose values are beyond reason."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from raymat.cli import main

RAW_TYPE = re.compile(r"<\w+[^>]*>|\b(BOOLEAN|TEXT|INTEGER|FLOAT|PATH)\b")


def commands() -> Iterator[str]:
    for name, (module, _) in main.COMMANDS.items():
        yield from _below(typer.main.get_command(importlib.import_module(module).app), name)


def _below(command: Any, name: str) -> Iterator[str]:
    yield name
    for word, inner in getattr(command, "commands", {}).items():
        yield from _below(inner, f"{name} {word}")


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_shows_no_type_of_python(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "--help" in said
    assert RAW_TYPE.findall(said) == []


HUGE = str(2**63)


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "--space", "quick", "--seed", HUGE],
        ["tune", "--space", "quick", "--seed", "9" * 400],
        ["tune", "--space", "quick", "--trials", "1000001"],
        ["tune", "--space", "quick", "--epochs", HUGE],
        ["tune", "--space", "quick", "--concurrency", HUGE],
        ["tune", "--space", "quick", "--gpus", "1e9"],
        ["train", "--config", "none.yaml", "--threads", "100000"],
        ["predict", "delta", "--model", "none", "--threads", HUGE],
        ["ensemble", "--config", "none.yaml", "--members", "10001"],
        ["screen", "--candidates", "none", "--shard-size", HUGE],
        ["compare", "--plan", "quick", "--concurrency", HUGE],
        ["explain", "--per-class", HUGE],
        ["data", "import", "none", "-o", "x.parquet", "--workers", HUGE],
        ["data", "fetch", "oqmd", "-o", "x.parquet", "--max-atoms", HUGE],
    ],
)
def test_numbers_beyond_reason_are_refused_at_once(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(words) == 2
    said = capsys.readouterr().err
    assert f"'{words[-2]}': must be at most" in said
    assert said.count("\n") == 1
    assert len(said) < 600


@pytest.mark.parametrize("time", ["9" * 400 + "d", "4000d"])
def test_a_time_budget_beyond_reason_is_refused(
    time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tune", "--space", "quick", "--time-budget", time]) == 2
    said = capsys.readouterr().err
    assert "longer than ten years" in said
    assert len(said) < 200
