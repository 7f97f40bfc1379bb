"""``raymat data fetch`` as a process: killed, interrupted, and given nonsense."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optimade_database import Database, served, structure
from typer.testing import CliRunner

from raymat.cli.data import app
from raymat.data.readers import load_crystals
from raymat.errors import ConfigError

N, PAGE = 60, 10
runner = CliRunner()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One server for all tests of this file."""
    with served(tmp_path_factory.mktemp("database"), [structure(i) for i in range(N)]) as database:
        yield database


def command(database: Database, out: Path, *more: str) -> list[str]:
    asked = [database.base_url, "--properties", "band_gap", "--page-size", str(PAGE)]
    quick = ["--requests-per-second", "1000"]
    code = "from raymat.cli.main import main; main()"
    return [sys.executable, "-c", code, "data", "fetch", *asked, *quick, "-o", str(out), *more]


def start(database: Database, out: Path) -> subprocess.Popen[str]:
    """Start the command and wait until some pages are there."""
    process = subprocess.Popen(command(database, out), stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if len(pages_of(out)) >= 2:
            return process
        time.sleep(0.02)
    raise AssertionError("no pages came")


def pages_of(out: Path) -> list[Path]:
    return sorted(out.with_name(f"{out.name}.partial").glob("page-*.json"))


def test_killed_and_started_again_fetches_no_finished_page_twice(tmp_path, server):
    out = tmp_path / "made.parquet"
    server.misbehave(always="wait")
    process = start(server, out)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = len(pages_of(out))
    assert 2 <= finished < N // PAGE
    assert not out.exists()
    server.misbehave()
    before = len(server.page_requests())
    ended = subprocess.run(command(server, out), capture_output=True, text=True, check=True)
    assert len(server.page_requests()) - before == N // PAGE - finished
    assert f"going on: {finished * PAGE} entries on {finished} pages are here" in ended.stderr
    assert f"{N} of {N} entries usable, 0 rejected" in ended.stdout
    ids = load_crystals(str(out)).crystals.material_ids
    assert ids.tolist() == [structure(i)["id"] for i in range(N)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made-rejected.csv", "made.parquet"]


def test_a_server_that_gives_less_than_it_counts_is_told(tmp_path, server):
    server.misbehave(n2="last")
    out = tmp_path / "made.parquet"
    ended = subprocess.run(command(server, out), capture_output=True, text=True, check=True)
    assert f"incomplete: the server counts {N} entries and gave {2 * PAGE}" in ended.stdout


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(tmp_path, server, kind):
    out = tmp_path / "made.parquet"
    server.misbehave(always="wait")
    process = start(server, out)
    process.send_signal(kind)
    _, words = process.communicate(timeout=20)
    assert process.returncode == 130
    pages = len(pages_of(out))
    last = words.strip().splitlines()[-1]
    assert last == f"interrupted; {pages} pages are kept in {out}.partial, the same command goes on"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["oqmdd", "-o", "x.parquet"], "'oqmdd' is no provider; did you mean 'oqmd'"),
        (["oqmd", "-o", "x.csv"], "expected a name that ends in .parquet"),
        (["oqmd", "-o", "there.parquet"], "there.parquet: exists already"),
        (["oqmd", "-o", "x.parquet", "--properties", "bandgap"], "did you mean 'band_gap'"),
        (["oqmd", "-o", "x.parquet", "--filter", "O and Li"], "is no OPTIMADE filter"),
        (["oqmd", "-o", "x.parquet", "--filter", "("], "is no OPTIMADE filter"),
        (["oqmd", "-o", "no/x.parquet"], "-o no/x.parquet: there is no folder no; make it first"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.parquet").touch()
    result = runner.invoke(app, ["fetch", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.parquet"]


def test_the_table_of_properties():
    every = runner.invoke(app, ["properties"], env={"COLUMNS": "200"})
    assert every.exit_code == 0, every.output
    for words in ("_oqmd_delta_e", "log10(GPa)", "needs a key", "Voigt"):
        assert words in every.output
    one = runner.invoke(app, ["properties", "--provider", "oqmd"], env={"COLUMNS": "200"})
    assert "_oqmd_stability" in one.output
    assert "jarvis" not in one.output
    none = runner.invoke(app, ["properties", "--provider", "nomad"])
    assert "carries no standard property; its own fields begin with _nmd_" in none.output
    wrong = runner.invoke(app, ["properties", "--provider", "oqdm"])
    assert isinstance(wrong.exception, ConfigError)
    assert "did you mean 'oqmd'" in str(wrong.exception)
