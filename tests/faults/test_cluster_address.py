"""A Ray cluster that is there already, on this machine: `--address`, a killed driver, two nodes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import (
    PATIENCE_S,
    SLOW_TRIALS,
    Raymat,
    assert_quiet,
    assert_whole,
    descendants,
    epochs,
    is_alive,
    log,
    write_space,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRIALS, EPOCHS = SLOW_TRIALS["budget"]["trials"], SLOW_TRIALS["budget"]["epochs"]
WORKERS_END_WITHIN_S = 60.0


class Cluster:
    """`ray start` processes of this test alone."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # socket names have to be short
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.roots: list[subprocess.Popen[bytes]] = []
        self.start("--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=2")

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> None:
        output = self.folder / f"output-{len(self.roots)}.txt"
        command = [
            *before,
            str(Path(sys.executable).parent / "ray"),
            "start",
            *arguments,
            "--block",
            f"--temp-dir={self.folder}/ray",
        ]
        if "--head" in arguments:
            command += ["--include-dashboard=false", "--disable-usage-stats"]
        with output.open("wb") as sink:
            self.roots.append(
                subprocess.Popen(
                    command,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "RAY_AUTH_MODE": "disabled"},
                )
            )
        deadline = time.monotonic() + PATIENCE_S
        while "will now block forever" not in output.read_text(encoding="utf-8"):
            assert self.roots[-1].poll() is None, output.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
            time.sleep(0.2)

    def processes(self) -> set[int]:
        found: set[int] = set()
        for root in self.roots:
            found |= descendants(root.pid)
        return found

    def stop(self) -> None:
        everything = self.processes()
        for root in self.roots:
            root.kill()
            root.wait()
        for pid in everything:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    yield started
    started.stop()


def test_run_on_a_cluster_survives_its_driver(tmp_path: Path, cluster: Cluster) -> None:
    run, space = tmp_path / "run", write_space(tmp_path / "slow.yaml")
    arguments = ["tune", "--space", space, "--out", run, "--address", cluster.address]
    environment = {"RAY_AUTH_MODE": "disabled"}
    first = Raymat(*arguments, folder=tmp_path, **environment)
    first.wait_until(lambda: len(epochs(log(run), 0)) >= 2)
    workers = {e["facts"]["pid"] for e in log(run) if e["event"] == "epoch"}
    first.kill()
    deadline = time.monotonic() + WORKERS_END_WITHIN_S
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "trials go on without their driver"
        time.sleep(0.1)
    second = Raymat("resume", run, folder=tmp_path, **environment)
    assert second.wait() == 0
    assert_quiet(second.text())
    assert_whole(run, trials=TRIALS, n_epochs=EPOCHS)
    assert all(root.poll() is None for root in cluster.roots)  # the cluster is not ours to stop


def test_two_runs_share_a_cluster(tmp_path: Path, cluster: Cluster) -> None:
    space = write_space(tmp_path / "slow.yaml", budget={"trials": 2, "epochs": 2})
    commands = {
        name: Raymat(
            *("tune", "--space", space, "--out", tmp_path / name),
            *("--address", cluster.address, "--concurrency", "1"),
            folder=tmp_path,
            RAY_AUTH_MODE="disabled",
        )
        for name in ("one", "two")
    }
    for name, command in commands.items():
        assert command.wait() == 0
        assert_whole(tmp_path / name, trials=2, n_epochs=2)


def test_node_that_does_not_see_the_run_is_told(tmp_path: Path, cluster: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("hiding a folder from one node needs root")
    shared = tmp_path / "shared"
    shared.mkdir()
    hide = f'mount -t tmpfs tmpfs "{shared}" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", hide, "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("hiding a folder from one node is not possible here")
    cluster.start(f"--address={cluster.address}", "--num-cpus=1", before=before)
    space = write_space(tmp_path / "slow.yaml")
    command = Raymat(
        *("tune", "--space", space, "--out", shared / "run", "--address", cluster.address),
        folder=tmp_path,
        RAY_AUTH_MODE="disabled",
    )
    assert command.wait() == 2
    assert_quiet(command.text())
    told = f"error: {shared / 'run'}: not shared by all nodes ({socket.gethostname()} ("
    assert told in command.text()
