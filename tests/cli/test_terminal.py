"""Text of others on the terminal, and streams that are closed, full, or know ASCII only."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import PROJECT, make_crystal
from rich.console import Group
from rich.table import Table
from rich.text import Text

from raymat.cli import screen_results
from raymat.cli.streams import plain_lines
from raymat.cli.terminal import Terminal
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.writers import write_crystals
from raymat.tracking.run_directory import read_header

RAYMAT = [sys.executable, "-c", "from raymat.cli.main import main; main()"]
NASTY = [
    "[/x]",
    "[bold]",
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "a\rb",
    "\x9b31m",
    "[link=x]",
    "\\[/y]",
]
# What may be in the output: Rich's own colours and styles, and how it draws a display anew.
OF_RICH = re.compile(rb"\x1b\[[\d;]*m|\x1b\[\?25[lh]|\x1b\[\d*[ABCDGKF]|\x1b\[2K|\r")
SMALL = {"atom_dim": 8, "n_conv": 1, "hidden_dim": 8}


def controls(raw: bytes) -> list[bytes]:
    """Give the control characters and malformed bytes of an output that nobody should obey."""
    rest = OF_RICH.sub(b"", raw)
    found = re.findall(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", rest)
    rest.decode()
    return found


def test_words_of_others_are_neither_markup_nor_control() -> None:
    out = io.StringIO()
    table = Table(title=NASTY[0] + NASTY[2], caption=NASTY[1])
    table.add_column(NASTY[3])
    for word in NASTY:
        table.add_row(word)
    console = Terminal(file=out, width=100, force_terminal=True, color_system=None)
    console.print(table, Group(*map(Text, NASTY)), *NASTY, ":smile:")
    shown = out.getvalue()
    assert controls(shown.encode()) == []
    for word in NASTY:
        assert shown.count(plain_lines(word)) >= (3 if "\r" not in word else 2)
    assert ":smile:" in shown
    widths = {len(line) for line in shown.splitlines() if line.startswith(("│", "┃"))}
    assert len(widths) == 1  # what is escaped takes the width of what is shown


def test_no_other_kind_of_console_is_made() -> None:
    other = re.compile(r"\bConsole\(|from_markup|rich import print|rich\.print")
    files = sorted((PROJECT / "raymat").rglob("*.py"))
    assert [path.name for path in files if other.search(path.read_text(encoding="utf-8"))] == []
    assert other.search("console = Console(stderr=True)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crystals with nasty ids and a target; some of them cannot be used."""
    path = tmp_path_factory.mktemp("nasty")
    names = ("NaCl", "Si", "CsCl", "SrTiO3")
    crystals, targets = [], []
    for k, scale in enumerate((0.95, 1.0, 1.03, 1.06)):
        for name, word in zip(names, NASTY[4 * (k % 2) :], strict=False):
            c = make_crystal(name, scale)
            crystals.append(Crystal(f"{word}{k}", c.lattice, c.atomic_numbers, c.frac_coords))
            targets.append(float(c.atomic_numbers.mean()) / 20.0 + scale)
    table = pd.DataFrame({"[/y]": targets, "\x1b]0;unit": targets})
    write_crystals(CrystalSet.from_crystals(crystals, table), path / "good.parquet")
    fixed = {f"model.{key}": value for key, value in SMALL.items()}
    space = {
        "model": "cgcnn",
        "space": {"training.lr": {"log_uniform": [1.0e-3, 1.0e-2]}},
        "fixed": fixed,
        "budget": {"trials": 2, "epochs": 1},
        "scheduler": {"name": "none"},
    }
    (path / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    config = {"model": "cgcnn", "config": {**fixed, "training.epochs": 2}}
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def on_a_terminal(*arguments: str | Path, folder: Path, **environment: str) -> tuple[int, bytes]:
    """Run a command with a terminal as its output, and give its exit code and what it wrote."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [*RAYMAT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=inner,
        stderr=inner,
        cwd=folder,
        env={**os.environ, "RAYMAT_CACHE": str(folder / "cache"), "TERM": "xterm", **environment},
    )
    os.close(inner)
    written = b""
    while True:
        try:
            written += os.read(outer, 65_536)
        except OSError:  # the other end is closed
            break
    os.close(outer)
    return process.wait(), written


def test_ids_of_others_on_a_terminal(folder: Path) -> None:
    train = ("train", "--config", "config.yaml", "--data", "good.parquet", "--target", "[/y]")
    code, shown = on_a_terminal(*train, "--out", "run", folder=folder)
    assert (code, controls(shown)) == (0, []), shown
    assert b"[/y]" in shown
    code, shown = on_a_terminal(
        "predict", "good.parquet", "--model", "run", "-o", "p.csv", folder=folder
    )
    assert (code, controls(shown)) == (0, []), shown
    for word in NASTY[:4]:
        assert plain_lines(f"{word}0").encode() in shown
    for command in (
        ("data", "check", "good.parquet", "--target", "\x1b]0;no"),
        ("data", "describe", "good.parquet", "--target", "\x1b]0;unit"),
        ("data", "duplicates", "good.parquet"),
        ("status", "run"),
        ("runs", "."),
        ("status", "\x1b]0;no run\x07"),
        ("predict", "good.parquet", "--model", "[/x]\x1b[2J"),
        ("train", "--config", "\x1b]0;\x07.yaml"),
    ):
        code, shown = on_a_terminal(*command, folder=folder)
        assert code in (0, 2), shown
        assert controls(shown) == [], (command, shown)
        assert b"Traceback" not in shown
        assert b"internal error" not in shown


@pytest.mark.slow
def test_search_over_ids_of_others_on_a_terminal(folder: Path) -> None:
    code, shown = on_a_terminal(
        *("tune", "--space", "space.yaml", "--data", "good.parquet", "--target", "\x1b]0;unit"),
        *("--out", "[/x]"),
        folder=folder,
    )
    assert (code, controls(shown)) == (0, []), shown
    assert b"[/x]" in shown
    assert read_header(folder / "[/x]")["status"] == "complete"


def test_ids_of_others_among_candidates() -> None:
    rows = pd.DataFrame(
        {"rank": 1, "source": "[b]", "material_id": NASTY, "formula": NASTY, "p": 0.5}
    )
    shown = screen_results.candidate_table(rows, "[/title]", n_listed=len(rows))
    out = io.StringIO()
    Terminal(file=out, width=200).print(shown)
    assert controls(out.getvalue().encode()) == []
    for word in NASTY:
        assert out.getvalue().count(plain_lines(word)) >= 2


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        (">&- 2>&- <&-", 0),
        ("2>&1 | true", 0),
        (">/dev/full", 1),
    ],
)
def test_streams_that_cannot_be_written_lose_no_run(
    folder: Path, tmp_path: Path, redirect: str, code: int
) -> None:
    train = f"train --config {folder}/config.yaml --data {folder}/good.parquet --target '[/y]'"
    script = f"set -o pipefail; {' '.join(map(_quoted, RAYMAT))} {train} --out run {redirect}"
    ended = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "RAYMAT_CACHE": str(folder / "cache")},
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr
    assert read_header(tmp_path / "run")["status"] == "complete"
    if code:
        last = ended.stderr.splitlines()[-1]
        assert last == b"error: standard output cannot be written (No space left on device)"
    first = (tmp_path / "run/events.jsonl").read_bytes().splitlines()
    assert all(line.startswith(b'{"event": ') for line in first)  # nothing printed went in there


def _quoted(word: str) -> str:
    return f"'{word}'"


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("run", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        ("réseau-Å", {"PYTHONIOENCODING": "ascii"}),
    ],
)
def test_terminal_that_knows_ascii_only(
    folder: Path, tmp_path: Path, name: str, environment: dict[str, str]
) -> None:
    train = ("train", "--config", folder / "config.yaml", "--data", folder / "good.parquet")
    out = tmp_path / name
    code, shown = on_a_terminal(
        *train, "--target", "[/y]", "--out", out, folder=tmp_path, **environment
    )
    assert code == 0, shown
    assert shown.isascii()
    assert b"Traceback" not in shown
    assert read_header(out)["status"] == "complete"
