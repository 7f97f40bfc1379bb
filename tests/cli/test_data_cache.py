"""The cache by command: shown, filled, limited and cleared."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from raymat.cli.data import app
from raymat.cli.data_cache import size_text
from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.errors import ConfigError
from raymat.features.cache_contents import read_contents
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.store import find_or_build
from raymat.features.table_cache import table_key

runner = CliRunner()


@pytest.fixture
def cache(tiny_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tables, the larger one not used for 40 days."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RAYMAT_CACHE", str(folder))
    monkeypatch.delenv("RAYMAT_CACHE_LIMIT", raising=False)
    for n, days in ((40, 40), (4, 0)):
        config = NeighborConfig(cutoff=5.0, max_neighbors=n)
        find_or_build(tiny_crystals, config)
        header = folder / table_key(tiny_crystals, config) / "header.json"
        used = header.stat().st_mtime - days * 86_400
        os.utime(header, (used, used))
    return folder


def neighbors_left(folder: Path) -> list[int]:
    return [table.config["max_neighbors"] for table in read_contents(folder).tables]


@pytest.mark.parametrize("words", [[], ["show"]])
def test_it_is_shown(cache: Path, monkeypatch, words: list[str]) -> None:
    (cache / "letters").mkdir()
    result = runner.invoke(app, ["cache", *words])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert f"{cache}: 2 tables, " in text
    assert "no limit; RAYMAT_CACHE_LIMIT=20GB sets one" in text
    assert "neighbors 4" in text
    assert "40 d ago" in text
    assert "also there: 1 not raymat's, and never touched" in text
    monkeypatch.setenv("RAYMAT_CACHE_LIMIT", "3GB")
    assert "limit 3 GB (RAYMAT_CACHE_LIMIT)" in runner.invoke(app, ["cache"]).output
    monkeypatch.setenv("RAYMAT_CACHE_LIMIT", "3 parsecs")
    assert isinstance(runner.invoke(app, ["cache"]).exception, ConfigError)


def test_it_is_cleared_by_age_and_by_size(cache: Path) -> None:
    assert runner.invoke(app, ["cache", "clear", "--older-than", "50d"]).exit_code == 0
    assert neighbors_left(cache) == [40, 4]
    result = runner.invoke(app, ["cache", "clear", "--older-than", "30d"])
    assert "removed; 1 table, " in result.output
    assert neighbors_left(cache) == [4]
    assert "0 B removed; 1 table" in runner.invoke(app, ["cache", "limit", "1GB"]).output
    assert "removed; 0 tables, 0 B left" in runner.invoke(app, ["cache", "limit", "1B"]).output


def test_everything_goes_only_when_it_is_meant(cache: Path) -> None:
    result = runner.invoke(app, ["cache", "clear"])  # there is no terminal
    assert isinstance(result.exception, ConfigError)
    assert "there is no terminal to ask; add --yes" in str(result.exception)
    assert len(neighbors_left(cache)) == 2
    assert runner.invoke(app, ["cache", "clear", "--yes"]).exit_code == 0
    assert neighbors_left(cache) == []
    assert runner.invoke(app, ["cache", "clear"]).exit_code == 0  # nothing to ask about


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("y", 0)])
def test_a_person_is_asked(cache: Path, answer: str, left: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    code = "from raymat.cli.main import main; main(['data', 'cache', 'clear'])"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == 0, ended.stderr
    assert f"Remove all of {cache}: 2 tables" in ended.stdout
    assert len(neighbors_left(cache)) == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["limit", "20"], "size 20: expected a size with its unit"),
        (["clear", "--older-than", "soon"], "--older-than soon: expected a time such as 12h"),
        (["build", "delta"], "name either --space or --model"),
        (["build", "delta", "--space", "cgcnn", "--model", "cgcnn"], "name either --space or"),
        (["build", "delta", "--model", "cgcn"], "did you mean 'cgcnn'?"),
        (["build", "delta", "--space", "nope"], "neither a file nor a shipped search space"),
        (["build", "none.parquet", "--model", "cgcnn"], "no such file or folder"),
    ],
)
def test_nonsense_is_refused(cache: Path, words: list[str], message: str) -> None:
    result = runner.invoke(app, ["cache", *words])
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert len(neighbors_left(cache)) == 2


@pytest.mark.long
def test_what_was_built_is_found_by_a_run(cache: Path, monkeypatch) -> None:
    result = runner.invoke(app, ["cache", "build", "delta", "--model", "cgcnn"])
    assert result.exit_code == 0, result.output
    assert "graphs: 12 neighbors within 8 Å" in result.output
    monkeypatch.setattr(NeighborConfig, "build", None)  # whoever builds is caught
    table = find_or_build(load_crystals("delta").crystals, NeighborConfig())
    assert len(table) == 71
    assert np.isfinite(table.distances).all()
    assert len(neighbors_left(cache)) == 3


def test_sizes_have_three_digits() -> None:
    sizes = {0: "0 B", 999: "999 B", 1000: "1 kB", 59_600_000: "59.6 MB", 20 * 10**9: "20 GB"}
    assert {n: size_text(n) for n in sizes} == sizes
