"""Addresses at which no Ray answers, and the local Ray."""

import os
import platform
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from spaces import small_space, write_space

from raymat.cluster import connect, probe
from raymat.cluster.connect import cluster_cpus, cluster_gpus, ray_session
from raymat.cluster.doctor import examine
from raymat.cluster.resources import trial_resources
from raymat.data.splits import SplitConfig
from raymat.errors import ClusterError, ConfigError, RunError
from raymat.tracking.known_addresses import check_address, remember_address
from raymat.tracking.run_directory import RunDirectory, read_header
from raymat.tuning.request import TuneRequest

SHORT_WAIT_S = 0.5
OBEYED_WITHIN_S = 20.0  # on a busy machine; two minutes where Ray waits


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, str]]:
    # On all interfaces, as Ray takes 127.0.0.1 for the address that other machines see.
    with socket.create_server(("", 0)) as listening:
        yield listening, f"127.0.0.1:{listening.getsockname()[1]}"


def refusal(address: str) -> str:
    with pytest.raises(ClusterError, match=r".") as caught, ray_session(address):
        pass
    return str(caught.value)


@pytest.mark.parametrize(
    "address", ["somewhere", "10.0.0.5", "10.0.0.5:", "10.0.0.5:port", "http://a:1", "a:99999"]
)
def test_malformed_address_is_told(address: str) -> None:
    assert refusal(address) == (
        f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or auto"
    )


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_closed_port_is_told_with_what_to_do(
    scheme: str, server: tuple[socket.socket, str]
) -> None:
    address = scheme + server[1]
    server[0].close()
    message = refusal(address)
    assert message.startswith(f"no Ray cluster answers at {address} (Connection refused")
    assert "`ray up cluster.yaml`, or leave out --address to run on this machine" in message


def test_silent_port_is_told_in_time(
    server: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait two minutes and then end the process."""
    assert probe.WAIT_S <= 10.0
    monkeypatch.setattr(
        connect, "probe", lambda host, port: probe.probe(host, port, wait_s=SHORT_WAIT_S)
    )
    begun = time.monotonic()
    assert f"no Ray cluster answers at {server[1]} (no answer" in refusal(server[1])
    assert time.monotonic() - begun < SHORT_WAIT_S + 2.0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.0 400 Bad request\r\n\r\n", "another program answers there"),
        (b"", "the connection was closed; is it the port of another program?"),
    ],
)
def test_port_of_another_program_is_told(
    server: tuple[socket.socket, str], answer: bytes, problem: str
) -> None:
    def serve() -> None:
        connection, _ = server[0].accept()
        with connection:
            connection.recv(64)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    assert problem in refusal(server[1])
    thread.join()


def test_ray_client_is_refused_with_the_reason(
    server: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "probe", lambda *_: None)
    assert "run raymat on a machine of the cluster, with --address HOST:6379" in refusal(
        f"ray://{server[1]}"
    )


class Silent(threading.Thread):
    """A server that greets as gRPC does and then says nothing; keeps what it is sent."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(daemon=True)
        self.listening, self.received, self.n_connections = listening, b"", 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # empty SETTINGS
            while received := connection.recv(4096):
                self.received += received


def command(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from raymat.cli.main import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def foreign_run(path: Path, address: str) -> Path:
    run = RunDirectory.create(path, {"command": "tune", "arguments": {"address": address}})
    run.emit("search_started", trials=1)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    return path


def test_address_in_a_foreign_run_is_not_used(
    tmp_path: Path, server: tuple[socket.socket, str]
) -> None:
    """Whoever wrote `run.json` would receive the user's token, and could send pickles."""
    fake = Silent(server[0])
    token = "secret-" * 8
    run = foreign_run(tmp_path / "run", server[1])
    before = (run / "run.json").read_bytes()
    resumed = command("resume", run, RAY_AUTH_TOKEN=token, RAY_AUTH_MODE="token")
    told, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 2, told
    assert told.removeprefix("tune (resumed): starting\n") == (
        f"error: {run}: the run was made on the Ray cluster {server[1]}, which you have not named"
        f" on this machine; if you trust it, name it with --address {server[1]}, or run here with"
        " --address local\n"
    )
    assert fake.received == b""
    assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize("address", ["auto", 7, "a" * 10_000, "[/x]\x1b]0;", ["h:1"]])
def test_any_address_in_a_file_has_to_be_known(tmp_path: Path, address: object) -> None:
    with pytest.raises(RunError, match="which you have not named on this machine") as caught:
        check_address(address, tmp_path)
    assert len(str(caught.value)) < 1_000
    assert "\x1b" not in str(caught.value)


def test_address_that_was_named_once_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    record = tmp_path / "raymat" / "addresses.json"
    remember_address("10.0.0.5:6379")
    remember_address("auto")
    check_address("10.0.0.5:6379", tmp_path)
    check_address("auto", tmp_path)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    monkeypatch.setattr("platform.node", lambda: "another")  # a home folder that machines share
    with pytest.raises(RunError, match="not named"):
        check_address("10.0.0.5:6379", tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    record.chmod(0o666)  # others may have written it
    with pytest.raises(RunError, match="not named"):
        check_address("10.0.0.5:6379", tmp_path)
    record.write_text("[" * 100_000, encoding="utf-8")
    record.chmod(0o600)
    with pytest.raises(RunError, match="not named"):
        check_address("10.0.0.5:6379", tmp_path)


def tune_on(address: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    space = write_space(folder / "small.yaml")
    arguments = ("tune", "--space", space, "--out", folder / "run", "--address", address)
    return command(*arguments, RAY_AUTH_MODE="disabled", **environment)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_obeyed_while_connecting(
    tmp_path: Path, server: tuple[socket.socket, str], ending: signal.Signals
) -> None:
    fake = Silent(server[0])
    tune = tune_on(server[1], tmp_path)
    wait_for(lambda: fake.n_connections >= 2, tune)  # the second is Ray's own
    time.sleep(1.0)
    tune.send_signal(ending)
    asked = time.monotonic()
    told, _ = tune.communicate(timeout=60)
    assert time.monotonic() - asked < OBEYED_WITHIN_S
    assert tune.returncode == 130, told
    assert told.splitlines()[-1] == f"interrupted; continue with: raymat resume {tmp_path / 'run'}"
    assert "Traceback" not in told
    assert read_header(tmp_path / "run")["status"] == "interrupted"


def test_cluster_that_is_silent_after_its_greeting_is_told_in_time(
    server: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Silent(server[0])
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    script = (
        "from raymat.cluster import connect; connect.CONNECT_S = 1.0\n"
        "import sys; from raymat.cli.main import main; main(sys.argv[1:])"
    )
    begun = subprocess.run(
        [sys.executable, "-c", script, "doctor", "--address", server[1]],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert begun.returncode == 2
    assert begun.stdout == ""
    assert begun.stderr.startswith(f"error: no Ray cluster answers at {server[1]} (the connection")
    assert begun.stderr.count("\n") == 1
    assert connect.CONNECT_S <= 30.0


@pytest.mark.parametrize("mode", ["zzz", "", "tokens", "0", "\x1b[31m"])
def test_unknown_mode_of_authentication_is_refused(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would take it for "disabled"."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    message = "is no mode of Ray, which would turn authentication off; expected token or disabled$"
    with pytest.raises(ConfigError, match=message) as caught, ray_session(None):
        pass
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        examine(None, None)
    assert not ray.is_initialized()


def test_long_folder_for_temporary_files_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path has at most 107 bytes."""
    long = tmp_path / ("x" * 150)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", None)
    with ray_session(None):
        assert ray.get(ray.remote(platform.node).remote()) == platform.node()
    assert list(long.iterdir()) == []
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with (
        pytest.raises(ClusterError, match=r"set RAY_TMPDIR to a folder .* at most 28 characters"),
        ray_session(None),
    ):
        pass


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local Ray of a user with an empty home folder and a RAY_ADDRESS that is not meant."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        patch.setattr(Path, "home", lambda: home)
        with ray_session(None):
            yield home
    assert not ray.is_initialized()


def test_local_ray_is_started_whatever_ray_address_says(local_ray: Path) -> None:
    del local_ray
    assert cluster_cpus() == os.cpu_count()
    assert cluster_gpus() >= 0.0


def test_local_ray_leaves_nothing_in_the_home_folder(local_ray: Path) -> None:
    """A token file would turn on authentication in the next cluster this user starts."""
    assert list(local_ray.iterdir()) == []


def test_local_ray_listens_on_the_loopback_interface_only(local_ray: Path) -> None:
    del local_ray
    import psutil  # which Ray brings along

    ray.get([ray.remote(platform.node).remote() for _ in range(2)])  # workers listen, too
    own = psutil.Process()
    listening = [
        (process.name(), connection.laddr.ip)
        for process in [own, *own.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert any(name == "gcs_server" for name, _ in listening)
    assert [one for one in listening if one[1] not in ("127.0.0.1", "::ffff:127.0.0.1")] == []


def test_folder_of_a_local_ray_is_private(local_ray: Path) -> None:
    del local_ray
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    private = session.parents[1]
    assert list(session.rglob("plasma_store"))
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert private.stat().st_uid == os.geteuid()


def test_signal_handlers_stay_the_callers(local_ray: Path) -> None:
    """Ray's own would print a stack on SIGTERM and abort the process."""
    del local_ray
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def request(**values: Any) -> TuneRequest:
    return TuneRequest(
        space={}, space_path="", data="delta", target="y", split=SplitConfig(), **values
    )


def test_default_trial_takes_one_core(local_ray: Path) -> None:
    del local_ray
    assert trial_resources(request(), small_space()).cpu == 1.0


def test_space_that_asks_for_gpus_runs_without_them(local_ray: Path) -> None:
    del local_ray
    if cluster_gpus():
        pytest.skip("there are GPUs here")
    asked = small_space(resources={"cpu": 1, "gpu": 1})
    assert trial_resources(request(), asked).gpu == 0.0


def test_gpus_that_are_not_there_are_told(local_ray: Path) -> None:
    del local_ray
    if cluster_gpus():
        pytest.skip("there are GPUs here")
    assert trial_resources(request(gpus=0.0), small_space()).gpu == 0.0
    with pytest.raises(ClusterError, match=r"^--gpus 1: Ray sees no GPU here; leave it out"):
        trial_resources(request(gpus=1.0), small_space())


def test_trial_larger_than_any_node_is_told_at_once(local_ray: Path) -> None:
    del local_ray
    with pytest.raises(ClusterError, match=r"^no node has 4096 CPU and 0 GPU for one task"):
        trial_resources(request(), small_space(resources={"cpu": 4096}))
