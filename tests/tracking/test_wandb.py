"""Runs come to W&B once, whole, and without harm: real W&B, its real files, a server of our own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_runs import (
    ODD_TEXT,
    address_was_named,  # noqa: F401  used by every test here
    begin_search,
    end_trial,
    start_trial,
    train,
    whole_trial,
    write_ensemble,
    write_results,
    write_search,
)
from tmpfs import fill, mounted
from wandb_files import offline_runs
from wandb_server import KEY, WandbServer, serving

from raymat.errors import ConfigError, RunError
from raymat.tracking import wandb_projection
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory, read_header
from raymat.tracking.wandb_projection import LiveProjection, project, remembered

pytestmark = pytest.mark.long

PATIENCE_S = 1.0  # for servers that are made not to answer
SCRIPT = """
import sys
from pathlib import Path
from raymat.tracking.wandb_projection import project
project(Path(sys.argv[1]), mode="offline")
"""


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Any:
    yield
    deadline = time.monotonic() + 10.0
    while left := wandb_processes():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def wandb_processes() -> list[str]:
    """Give W&B's processes that this one, or one that it started, has started."""
    mine, found = str(os.getpid()), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            is_ours = f"RAYMAT_TEST={mine}".encode() in environment
            if is_ours and ("wandb-core" in command or "wandb_worker" in command):
                found.append(command)
    return found


@pytest.fixture(autouse=True)
def _mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMAT_TEST", str(os.getpid()))


def use(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)


def texts(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return "\n".join(file.read_bytes().decode(errors="replace") for file in files)


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete search, brought to W&B offline."""
    path = tmp_path_factory.mktemp("offline") / "study-1"
    write_search(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_RUN_ID", "one-for-all")  # of a script; it would make all trials one run
        patch.setenv("WANDB_PROJECT", "alloys")
        patch.setenv("WANDB_API_KEY", KEY)
        result = project(path, mode="offline")
    assert (result.new, result.known, result.waiting) == (6, 0, 0)
    assert "upload them:      wandb sync" in result.lines()[1]
    return path


def test_offline_runs_hold_every_epoch_once(projected):
    found = offline_runs(projected)
    assert set(found) == {"0000", "0001", "0002", "0002-2", "0003", "run"}
    assert {key: run.steps for key, run in found.items()} == {
        "0000": [1, 2, 3, 4],
        "0001": [1, 2],
        "0002": [1],  # until it began anew
        "0002-2": [1, 2, 3, 4],
        "0003": [1, 2, 3, 4],
        "run": [1, 2, 3, 4, 5],  # a step for each trial that ended, and the tables
    }
    first = found["0000"]
    assert first.column("epoch") == [1, 2, 3, 4]
    assert first.column("val_mae") == [1.0, 0.5, 1 / 3 + 0.5, 0.25]
    assert first.column("train_loss") == [2.0, 1.0, 2 / 3, 0.5]
    assert first.column("time_s") == [0.5] * 4
    assert first.column("_timestamp") == sorted(first.column("_timestamp"))


def test_offline_runs_say_what_they_are(projected):
    found = offline_runs(projected)
    assert {run.group for run in found.values()} == {"study-1"}
    assert {run.project for run in found.values()} == {"alloys"}
    assert len({run.id.split("-")[0] for run in found.values()}) == 1
    assert found["0003"].name == "study-1 0003"
    assert [found[key].job_type for key in ("0003", "run")] == ["trial", "tune"]
    assert found["0003"].host == "node-7"
    config = found["0003"].config
    assert config["training.lr"] == pytest.approx(0.04)
    assert (config["trial"], config["seed"], config["model.name"]) == (3, 3, "cgcnn")
    assert config["model.n_conv"] == 3
    assert (config["device"], config["n_parameters"]) == ("cuda", 1234)
    assert (config["target"], config["data_sha256"]) == ("log10_G_VRH", "d" * 64)
    assert found["0002-2"].config["training.batch_size"] == 32
    summary = found["0003"].summary
    assert (summary["status"], summary["epochs"], summary["best_epoch"]) == ("stopped", 4, 4)
    assert summary["best_val_mae"] == pytest.approx(0.55)
    assert {key: run.exit_code for key, run in found.items() if run.exit_code} == {"0001": 1}
    assert found["0001"].summary["error"] == ODD_TEXT


def test_the_run_of_the_study_carries_results_tables_figure_and_model(projected):
    run = offline_runs(projected)["run"]
    assert run.summary["test/mae"] == 0.25
    assert (run.summary["test/mae_ci95_low"], run.summary["test/mae_ci95_high"]) == (0.2, 0.3)
    assert run.column("best_val_mae") == [0.25, 0.25, 0.25, 0.25]
    assert run.artifacts["model"] == ["model.json", "model.safetensors"]
    (file,) = run.folder.glob("files/media/table/trials*.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["data"] == [["0000", 0.25, None], ["0001", None, ODD_TEXT]]
    (file,) = run.folder.glob("files/media/table/predictions*.json")
    assert json.loads(file.read_text())["columns"] == ["material_id", "part", "prediction"]
    assert len(list(run.folder.glob("files/media/images/study*.png"))) == 1


def test_nothing_secret_is_written(projected):
    stored = texts(projected / "wandb")
    assert KEY not in stored
    assert "/secret/place" not in stored
    assert "10.0.0.5" not in stored


def test_a_second_time_adds_nothing(projected):
    before = {p: p.read_bytes() for p in (projected / "wandb").rglob("*") if p.is_file()}
    again = project(projected, mode="offline")
    assert (again.new, again.known, again.waiting) == (0, 6, 0)
    assert {p: p.read_bytes() for p in (projected / "wandb").rglob("*") if p.is_file()} == before
    (projected / "wandb/projected.json").unlink()  # the folders say it, too,
    again = project(projected, mode="offline")
    assert (again.new, again.known) == (1, 5)  # but not where the files of the model are
    assert len(offline_runs(projected)) == 6


def test_wandb_sync_uploads_it(projected, monkeypatch, tmp_path):
    """W&B's own command, and what arrives at a server: every epoch of every trial, once."""
    copy = tmp_path / "elsewhere" / "study-1"
    shutil.copytree(projected, copy)
    assert project(copy, mode="offline").new == 1  # it names the files of its model by their paths
    with serving() as server:
        use(server, monkeypatch)
        command = [Path(sys.executable).with_name("wandb"), "sync", str(copy / "wandb")]
        subprocess.run(command, check=True, capture_output=True, timeout=100, cwd=tmp_path)
        assert server.steps(next(k for k in server.runs if k.endswith("0003"))) == [1, 2, 3, 4]
        assert len(server.runs) == 6
        assert {a["artifactTypeName"] for a in server.artifacts} == {"model", "run_table"}
    assert project(copy, mode="offline").new == 0


def test_what_has_not_ended_waits(tmp_path):
    """An interrupted search that is resumed: offline, a W&B run comes when it has ended."""
    path = tmp_path / "study"

    def interrupt() -> None:
        with begin_search(path) as run:
            whole_trial(run, 0)
            start_trial(run, 1)
            train(run, 1, 1, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    result = project(path, mode="offline")
    assert (result.new, result.known, result.waiting) == (1, 0, 2)
    with RunDirectory.reopen(path) as run:
        run.emit("trial_resumed", trial=1)
        train(run, 1, 2, 4)  # epoch 2 is said once more
        end_trial(run, 1, "complete")
        write_results(run)
    assert (path.rename(tmp_path / "renamed")).exists()
    result = project(tmp_path / "renamed", mode="offline")
    assert (result.new, result.known, result.waiting) == (2, 1, 0)
    assert offline_runs(tmp_path / "renamed")["0001"].steps == [1, 2, 3, 4]


def test_a_killed_projection_is_repeated(tmp_path):
    path = tmp_path / "study"
    write_search(path, n_trials=15, n_epochs=30)
    kill_when(path, lambda: len(list(path.glob("wandb/offline-run-*"))) >= 7)
    n_done = len(offline_runs(path))  # all that have their names are whole
    assert 7 <= n_done < 17
    assert_repeated(path, n_done)


@pytest.mark.faults
@pytest.mark.parametrize("delay_s", [0.05 * k for k in range(12)])
def test_a_projection_killed_at_any_instant_is_repeated(tmp_path, delay_s):
    path = tmp_path / "study"
    write_search(path, n_trials=15, n_epochs=30)
    kill_when(path, (path / "wandb/.writing/wandb").exists, delay_s)
    assert_repeated(path, len(offline_runs(path)))


def kill_when(path: Path, condition: Any, delay_s: float = 0.0) -> None:
    command = [sys.executable, "-c", SCRIPT, str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(condition)
    time.sleep(delay_s)
    for pid in (process.pid, *children(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def assert_repeated(path: Path, n_done: int) -> None:
    result = project(path, mode="offline")
    assert result.new + result.known == 17
    assert result.known >= n_done - 1  # the study's own run may be written again
    found = offline_runs(path)
    assert [found[f"{k:04d}"].steps for k in range(3, 15)] == [list(range(1, 31))] * 12
    assert not (path / "wandb/.writing").exists()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_ensemble_has_one_run_with_a_step_for_each_member(tmp_path):
    write_ensemble(tmp_path / "G")
    assert project(tmp_path / "G", mode="offline").new == 2
    members = offline_runs(tmp_path / "G")["members"]
    assert members.steps == [1, 2, 3]
    assert members.column("member") == [2, 1, 0]
    assert members.column("val_mae") == [2.5, 1.5, 0.5]
    assert members.summary["calibration/after/nll"] == 0.5
    assert (members.summary["test/mae"], members.summary["members"]) == (0.25, 3)


# --- online ---------------------------------------------------------------------------------------


def test_online_continues_the_same_runs(tmp_path, monkeypatch):
    path = tmp_path / "study"
    with serving() as server:
        use(server, monkeypatch)

        def interrupt() -> None:
            with begin_search(path) as run:
                whole_trial(run, 0)
                start_trial(run, 1)
                train(run, 1, 1, 2)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupt()
        result = project(path, mode="online")
        assert (result.new, result.waiting) == (1, 2)
        name = next(k.split("-")[0] for k in server.runs)
        assert server.steps(f"{name}-0001") == [1, 2]
        with RunDirectory.reopen(path) as run:
            train(run, 1, 3, 4)
            end_trial(run, 1, "complete")
            write_results(run)
        assert project(path, mode="online").new == 2
        requests = server.requests.total()
        assert project(path, mode="online").new == 0
        assert server.requests.total() == requests  # the book says it
        (path / "wandb/projected.json").unlink()  # then the server says what it has
        assert project(path, mode="online").new == 3
        assert server.steps(f"{name}-0000") == [1, 2, 3, 4]
        assert server.steps(f"{name}-0001") == [1, 2, 3, 4]
        assert server.steps(f"{name}-run") == [1, 2, 3]
        assert server.runs[f"{name}-0001"]["groupName"] == "study"
        assert server.summary[f"{name}-0001"]["status"] == "complete"
        assert server.exits[f"{name}-0001"] == 0
    assert KEY not in texts(path)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ("close", r"W&B \(online\): .*"),
        ("401", r"W&B \(online\): .*401"),
        ("files", r"W&B \(online\): .*400 Bad Request"),
    ],
)
def test_a_server_that_refuses(tmp_path, monkeypatch, refuse, message):
    path = tmp_path / "study"
    write_search(path, n_trials=1)
    log = (path / "events.jsonl").read_bytes()
    with serving(refuse) as server:
        use(server, monkeypatch)
        begun = time.monotonic()
        with pytest.raises(RunError, match=message) as told:
            project(path, mode="online", patience_s=PATIENCE_S)
        assert time.monotonic() - begun < 30.0
        assert "\n" not in str(told.value)
        if refuse == "files":  # what is not known to have arrived is sent again
            server.refuse = ""
            assert project(path, mode="online").new == 2
            assert server.steps(next(k for k in server.runs if k.endswith("0000"))) == [1, 2, 3, 4]
    assert (path / "events.jsonl").read_bytes() == log
    assert read_header(path)["status"] == "complete"


def test_nobody_answers(tmp_path, monkeypatch):
    path = tmp_path / "study"
    write_search(path, n_trials=1)
    with serving() as server:
        use(server, monkeypatch)
    with pytest.raises(RunError, match="connection refused"):
        project(path, mode="online", patience_s=PATIENCE_S)


def test_online_without_a_key(tmp_path):
    write_search(tmp_path / "study", n_trials=1)
    with pytest.raises(ConfigError, match="run `wandb login`, set WANDB_API_KEY, or take --wandb"):
        project(tmp_path / "study", mode="online")


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_projection, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'raymat\[wandb\]'"):
        project(tmp_path, mode="offline")


def test_no_run_directory(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        project(tmp_path, mode="offline")


# --- disks ----------------------------------------------------------------------------------------


def test_full_disk(tmp_path):
    with mounted(tmp_path / "disk", kilobytes=2048) as disk:
        write_search(disk / "study", n_trials=3, n_epochs=60)
        filler = fill(disk)
        with pytest.raises(RunError, match=r"No space left on device|disk full"):
            project(disk / "study", mode="offline")
        filler.unlink()
        assert project(disk / "study", mode="offline").new == 5
        assert offline_runs(disk / "study")["0000"].steps == list(range(1, 61))


def test_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", kilobytes=2048) as disk:
        write_search(disk / "study", n_trials=1)
        command = ["mount", "-o", "remount,ro", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a disk cannot be made read-only here")
        with pytest.raises(RunError, match=r"wandb: cannot be written \(Read-only file system\)"):
            project(disk / "study", mode="offline")


# --- alongside a run ------------------------------------------------------------------------------


def warnings_of(path):
    events = read_events(path / "events.jsonl")
    return [event["text"] for event in events if event["event"] == "warning"]


def test_live_offline(tmp_path):
    path = tmp_path / "study"
    live = LiveProjection(path, mode="offline")
    with begin_search(path, listeners=(live,)) as run:
        whole_trial(run, 0)
        wait_until(lambda: list(path.glob("wandb/offline-run-*-0000")))  # while the run goes on
        whole_trial(run, 1)
        write_results(run)
    result = live.finish()
    assert (result.new, result.known, result.waiting) == (3, 0, 0)
    assert set(offline_runs(path)) == {"0000", "0001", "run"}
    assert warnings_of(path) == []
    assert remembered(path) == "offline"


def test_live_online_shows_a_trial_while_it_trains(tmp_path, monkeypatch):
    path = tmp_path / "study"
    with serving() as server:
        use(server, monkeypatch)
        live = LiveProjection(path, mode="online")
        with begin_search(path, listeners=(live,)) as run:
            start_trial(run, 0)
            train(run, 0, 1, 2)
            wait_until(lambda: server.runs)
            train(run, 0, 3, 4)
            end_trial(run, 0, "complete")
            write_results(run)
        assert live.finish().new == 2
        assert server.steps(next(k for k in server.runs if k.endswith("0000"))) == [1, 2, 3, 4]
    assert warnings_of(path) == []


def test_live_with_a_server_that_refuses(tmp_path, monkeypatch):
    """One warning; the run goes on, and is whole."""
    path = tmp_path / "study"
    with serving("401") as server:
        use(server, monkeypatch)
        live = LiveProjection(path, mode="online", patience_s=PATIENCE_S)
        with begin_search(path, listeners=(live,)) as run:
            whole_trial(run, 0)
            wait_until(lambda: server.requests)
            for number in range(1, 4):
                whole_trial(run, number)
                time.sleep(0.5)
        assert live.finish() is None
    [warning] = warnings_of(path)
    assert f"`raymat report {path} --wandb online --overwrite` uploads what is missing" in warning
    assert read_header(path)["status"] == "complete"


def test_live_projection_that_cannot_start(tmp_path):
    path = tmp_path / "study"
    live = LiveProjection(path, mode="offline")
    with begin_search(path, listeners=()) as run:
        (path / "wandb").write_text("in the way", encoding="utf-8")
        run.listeners = (live,)
        whole_trial(run, 0)
    assert live.finish() is None
    [warning] = warnings_of(path)
    assert "the run continues" in warning


def test_listening_costs_next_to_nothing(tmp_path):
    path, n_epochs = tmp_path / "study", 2000
    live = LiveProjection(path, mode="offline")
    with begin_search(path, listeners=(live,)) as run:
        start_trial(run, 0)
        begun = time.process_time()
        for _ in range(n_epochs):
            live({"event": "epoch"})
        spent = time.process_time() - begun
        end_trial(run, 0, "failed", "nothing learned")
    live.finish()
    assert spent / n_epochs < 0.0005  # s; an epoch takes a hundred times as long


DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from made_runs import begin_search, whole_trial
from raymat.tracking.wandb_projection import LiveProjection
path = Path(sys.argv[1])
live = LiveProjection(path, mode="offline")
with begin_search(path, listeners=(live,)) as run:
    whole_trial(run, 0)
    time.sleep(60)
"""


def test_a_killed_run_takes_its_projection_along(tmp_path):
    path = tmp_path / "study"
    command = [sys.executable, "-c", DRIVER, str(path), str(Path(__file__).parent)]
    process = subprocess.Popen(command)
    wait_until(lambda: list(path.glob("wandb/offline-run-*-0000")))
    process.kill()
    process.wait()  # that nothing is left over is seen after every test
    with RunDirectory.reopen(path) as run:
        whole_trial(run, 1)
    assert project(path, mode="offline").new == 2
