"""``--wandb`` on the command line: refused at once where it cannot work, and a whole search."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raymat.cli import main as cli
from raymat.cli.wandb_option import projecting, wanted
from raymat.errors import ConfigError
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory
from raymat.tracking.wandb import read_records

SPACE = {
    "model": "cgcnn",
    "data": "delta",
    "target": "log10_bulk_modulus",
    "space": {"training.lr": {"log_uniform": [1.0e-3, 1.0e-2]}},
    "fixed": {"model.atom_dim": 8, "model.n_conv": 1, "model.hidden_dim": 8},
    "budget": {"trials": 3, "epochs": 2},
    "scheduler": {"name": "none"},
    "search": {"name": "random"},
}


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def write_space(folder: Path, **changes: object) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["tune", "ensemble", "train", "compare", "screen", "explain"])
def test_every_command_that_trains_has_it(command, capsys):
    assert cli.run([command, "--help"]) == 0
    assert "--wandb" in capsys.readouterr().out


def test_online_without_a_key_is_refused_before_anything(tmp_path, capsys):
    space = write_space(tmp_path)
    out = tmp_path / "run"
    asked = ["tune", "--space", str(space), "--wandb", "online", "--out", str(out)]
    assert cli.run(asked) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: --wandb online: there is no key for W&B; run `wandb login`")
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_word_that_is_none(capsys):
    assert cli.run(["tune", "--space", "quick", "--wandb", "on"]) == 2
    assert "'on' is not one of" in capsys.readouterr().err


def test_off_gives_no_listener(tmp_path):
    for asked in ("off", None):
        with projecting(tmp_path, asked) as listeners:
            assert listeners == ()


def test_a_resume_does_not_fail_for_want_of_a_key(tmp_path, capsys):
    """What the run was begun with is remembered; only who asks for it is refused."""
    with RunDirectory.create(tmp_path / "run", {"command": "tune"}):
        (tmp_path / "run/wandb").mkdir()
        (tmp_path / "run/wandb/asked.json").write_text('{"mode": "online"}', encoding="utf-8")
    with projecting(tmp_path / "run", None) as listeners:
        assert listeners == ()
    assert "there is no key" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="there is no key"):  # noqa: SIM117
        with projecting(tmp_path / "run", "online"):
            pass


@pytest.mark.parametrize(
    ("option", "in_space", "key", "mode"),
    [
        (None, None, "", None),
        (None, "offline", "k" * 40, "offline"),
        (None, "online", "k" * 40, "online"),
        (None, "online", "", "offline"),  # asked for in the space, but there is no key
        ("off", "online", "k" * 40, "off"),
        ("online", "off", "", "online"),
    ],
)
def test_the_option_goes_before_the_space(option, in_space, key, mode, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert wanted(option, in_space) == mode


@pytest.mark.long
def test_a_search_comes_to_wandb_while_it_runs(tmp_path):
    """Its space asks for it; without a key it is written offline."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", "from raymat.cli.main import main; main()", "tune"]
    command += ["--space", str(write_space(tmp_path, wandb="online")), "--out", str(run)]
    environment = {**os.environ, "RAYMAT_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "W&B:              4 runs written in" in ended.stdout
    assert "wandb:" not in ended.stdout + ended.stderr  # W&B itself says nothing
    events = read_events(run / "events.jsonl")
    assert not [event for event in events if event["event"] == "warning"]
    logged = {k: [e["epoch"] for e in events if e.get("trial") == k and "epoch" in e and
                  e["event"] == "epoch"] for k in range(3)}  # fmt: skip
    assert logged == {k: [1, 2] for k in range(3)}
    for number, epochs in logged.items():
        (file,) = run.glob(f"wandb/offline-run-*-{number:04d}/*.wandb")
        rows = [r.history for r in read_records(file) if r.HasField("history")]
        values = [{i.nested_key[0]: json.loads(i.value_json) for i in row.item} for row in rows]
        assert [row["epoch"] for row in values] == epochs
