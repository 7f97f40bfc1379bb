"""A Ray to work with: a local one, started and stopped, or a cluster that is there already."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from raymat.errors import ClusterError

WAIT_S = 10.0
_CLIENT_PREFIX = "ray://"


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connect to `address`, or start a local Ray; leave or stop it at the end.

    Raises:
        ClusterError: nothing answers at the address.
    """
    if address is not None:
        _check_answers(address)
    # Read by Ray at start: no usage report leaves the machine, Ctrl-C is ours to handle, one
    # progress display is enough, and a failed trial may report without a score.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the event log has every failure
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, OSError) as cause:
        where = f"at {address}" if address else "on this machine"
        raise ClusterError(f"Ray could not be started {where}: {_first_line(cause)}") from cause
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cpus() -> int:
    """CPU cores that Ray may use, all nodes together."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def cluster_gpus() -> float:
    """GPUs that Ray may use, all nodes together."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def _check_answers(address: str) -> None:
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix(_CLIENT_PREFIX).rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or ray://HOST:10001"
        )
    try:
        socket.create_connection((host, int(port)), timeout=WAIT_S).close()
    except OSError as cause:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({cause.strerror or cause}; waited at most"
            f" {WAIT_S:.0f} s); start one with `ray up cluster.yaml`, or leave out --address to"
            " run on this machine"
        ) from cause


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
