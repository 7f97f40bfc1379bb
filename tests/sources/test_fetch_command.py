"""``raymat data fetch`` as a process: killed, interrupted, and given nonsense."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from optimade_database import Database, served, structure
from typer.testing import CliRunner

from raymat.cli.data import app
from raymat.data.readers import load_crystals
from raymat.errors import ConfigError, RunError
from raymat.sources.partial_folder import hold_folder

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


DIES = """
import os, signal, sys
import raymat.{module} as module
from raymat.cli.main import main

whole, left = {holder}.{name}, iter(range({n_before}))

def die(*args, **more):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args, **more)

{holder}.{name} = die
main()
"""


def fetch_and_die(database: Database, out: Path, **where: object) -> None:
    """Run the command in a process that kills itself when it comes to a certain call."""
    words = command(database, out)
    words[2] = DIES.format(**{"holder": "module", "n_before": 0, **where})
    ended = subprocess.run(words, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def again(database: Database, out: Path, *more: str) -> Result:
    """Run the command in this process."""
    return runner.invoke(app, command(database, out, *more)[4:])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "where",
    [
        {"module": "sources.databases.join", "name": "write_rejected"},
        {"module": "data.writers", "holder": "module.pd.DataFrame", "name": "to_csv"},
        {"module": "data.writers", "holder": "module.Path", "name": "replace", "n_before": 14},
    ],
    ids=["before the list", "in the list", "before the file takes its name"],
)
def test_killed_at_its_end_it_goes_on_and_asks_for_no_page(tmp_path, server, where):
    out = tmp_path / "made.parquet"
    server.misbehave()
    fetch_and_die(server, out, **where)
    assert not out.exists()
    assert len(pages_of(out)) == N // PAGE
    before = len(server.page_requests())
    ended = again(server, out)
    assert f"{N} of {N} entries usable" in ended.stdout
    assert len(server.page_requests()) == before
    assert names_in(tmp_path) == ["made-rejected.csv", "made.parquet"]


def test_killed_while_it_removes_its_pages_it_is_finished(tmp_path, server):
    """The file stands with its list; the same command removes what is left, and has no error."""
    out = tmp_path / "made.parquet"
    server.misbehave()
    n_before = 2 * N // PAGE + 3  # temporary files, and no page yet
    where = {"module": "sources.partial_folder", "holder": "module.Path", "name": "unlink"}
    fetch_and_die(server, out, **where, n_before=n_before)
    folder = out.with_name("made.parquet.partial")
    left = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(left) == 2 * N // PAGE + 2
    for n_files in (len(left), 7, 2, 1, 0):  # as removal goes: pages first, the lock last
        folder.mkdir(exist_ok=True)
        for path in list(left)[:n_files]:
            path.write_bytes(left[path])
        with hold_folder(folder):
            busy = again(server, out)
        assert isinstance(busy.exception, RunError)
        assert isinstance(again(server, out, "--max", "7").exception, ConfigError)
        ended = again(server, out)
        assert ended.stdout.startswith(f"{out}: is finished: {N} crystals of 127.0.0.1, no filter")
        assert ended.exit_code == 0
        assert names_in(tmp_path) == ["made-rejected.csv", "made.parquet"]
    assert isinstance(again(server, out).exception, ConfigError)


def test_what_is_in_a_file_that_exists_is_said(tmp_path, server):
    out = tmp_path / "made.parquet"
    server.misbehave()
    asked = ("--filter", 'elements HAS "Li"', "--max", "5")
    assert again(server, out, *asked).exit_code == 0
    before = out.read_bytes()
    refused = again(server, out, *asked)
    assert isinstance(refused.exception, ConfigError)
    said = 'exists already: 5 crystals of 127.0.0.1, filter elements HAS "Li", --max 5, fetched 20'
    assert said in str(refused.exception)
    assert "\n" not in str(refused.exception)
    assert out.read_bytes() == before


def test_pages_of_another_fetch_beside_a_file_are_kept(tmp_path, server):
    out = tmp_path / "made.parquet"
    server.misbehave()
    assert again(server, out).exit_code == 0
    folder = out.with_name("made.parquet.partial")
    folder.mkdir()
    (folder / "page-000001.json").write_text(json.dumps({"data_sha256": "0" * 64}))
    assert isinstance(again(server, out).exception, ConfigError)
    assert len(pages_of(out)) == 1


def test_a_folder_that_cannot_be_used_does_not_go_on(tmp_path, server):
    out = tmp_path / "made.parquet"
    server.misbehave(n3="empty")
    kept = again(server, out)
    assert str(kept.exception).endswith(
        f"2 pages are kept in {out}.partial, the same command goes on"
    )
    refused = again(server, out, "--max", "7")
    assert str(refused.exception).endswith("remove the folder, or choose another -o")


def test_a_smaller_page_size_goes_on_with_what_is_there(tmp_path, server):
    out = tmp_path / "made.parquet"
    server.misbehave(n3="shout")
    assert isinstance(again(server, out).exception, ConfigError)
    assert len(pages_of(out)) == 2
    server.misbehave()
    before = len(server.page_requests())
    ended = again(server, out, "--page-size", "5")
    assert f"{N} of {N} entries usable, 0 rejected" in ended.stdout
    assert len(server.page_requests()) - before == (N - 2 * PAGE) // 5
    assert load_crystals(str(out)).crystals.material_ids[-1] == structure(N - 1)["id"]


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
