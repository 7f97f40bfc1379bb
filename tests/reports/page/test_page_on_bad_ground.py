"""`raymat report` where nothing can be written: one line says so, and what was there stays."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from search_run import write_search_run

sys.path.append(str(PROJECT / "tests"))

from tmpfs import fill, mounted

from raymat.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search_run(tmp_path_factory.mktemp("ground") / "run", trials=3, epochs=2)


def report(run: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must fail, and give the one line that it says."""
    capsys.readouterr()
    assert main.run(["report", str(run), "-o", str(out), "--overwrite"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ")
    return said.err


def test_full_disk_keeps_the_older_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", kilobytes=256) as disk:
        page = disk / "page.html"
        page.write_text("<!doctype html>older")
        assert "cannot be written (No space left on device)" in report(run, page, capsys)
        filler = fill(disk)
        assert "cannot be written (No space left on device)" in report(run, page, capsys)
        assert page.read_text() == "<!doctype html>older"
        assert sorted(disk.iterdir()) == [filler, page]


def test_page_appears_when_there_is_room_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", kilobytes=256) as disk:
        page = disk / "page.html"
        report(run, page, capsys)
        assert list(disk.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert main.run(["report", str(run), "-o", str(page)]) == 0
        assert list(disk.iterdir()) == [page]


def test_read_only_disk(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = report(run, disk / "page.html", capsys)
        assert "cannot be written (Read-only file system); choose another place" in said
        assert list(disk.iterdir()) == []


def test_run_on_a_read_only_disk_is_shown(run: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", kilobytes=2000) as disk:
        subprocess.run(["cp", "-r", str(run), str(disk / "run")], check=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert main.run(["report", str(disk / "run"), "-o", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("folder", "is a folder; name a file, such as"),
        ("text.txt/page.html", "text.txt: cannot be made (File exists); choose another --out"),
        ("text.txt", "exists and is not a page of raymat; choose another name"),
        ("run/run.json", "exists and is not a page of raymat; choose another name"),
        ("link.html", "exists and is not a page of raymat; choose another name"),
        (f"{'x' * 250}.html", "cannot be written (File name too long)"),
    ],
)
def test_no_place_for_a_page(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text.txt").write_text("mine")
    Path("link.html").symlink_to("/dev/null")
    subprocess.run(["cp", "-r", str(run), "run"], check=True)
    before = {p: p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}
    assert words.format(tmp_path) in report(run, Path(out), capsys)
    assert {p: p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()} == before


def test_older_page_is_replaced_if_that_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "page.html"
    words = ["report", str(run), "-o", str(page)]
    assert main.run([*words, "--title", "first"]) == 0
    assert main.run([*words, "--title", "second"]) == 2
    assert "page.html: exists already; choose another --out, or replace it with --overwrite" in (
        capsys.readouterr().err
    )
    assert "<title>first</title>" in page.read_text("utf-8")
    assert main.run([*words, "--title", "second", "--overwrite"]) == 0
    assert "<title>second</title>" in page.read_text("utf-8")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_figure_that_is_a_link_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page is passed on, and what it holds with it."""
    own = write_search_run(tmp_path / "run", trials=3, epochs=2)
    secret = tmp_path / "secret.txt"
    secret.write_text("my-key")
    (own / "figure.svg").symlink_to(secret)
    page = tmp_path / "page.html"
    assert "figure.svg: a link that leads out of the folder" in report(own, page, capsys)
    assert not page.exists()
