"""Addresses at which no Ray answers, and the local Ray."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from spaces import small_space

from raymat.cluster import connect, probe
from raymat.cluster.connect import cluster_cpus, cluster_gpus, ray_session
from raymat.cluster.resources import trial_resources
from raymat.data.splits import SplitConfig
from raymat.errors import ClusterError
from raymat.tuning.request import TuneRequest

SHORT_WAIT_S = 0.5


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
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
