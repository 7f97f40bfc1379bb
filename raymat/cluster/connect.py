"""A Ray to work with: a local one, started and stopped, or a cluster that is there already."""

import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private import utils as ray_utils
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.ray_logging import stdout_deduplicator
from ray.exceptions import RayError

from raymat.cluster.probe import WAIT_S, probe
from raymat.errors import ClusterError, one_line

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d{1,5})")
KEEPALIVE_MS = "30000"
_MAX_PORT = 65_535


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connect to `address`, or start a local Ray; leave or stop it at the end.

    Raises:
        ClusterError: nothing answers at the address.
    """
    if address is not None:
        check_answers(address)
    prepare_environment()
    _keep_terminal_clean()
    if address is None:
        _bring_token()
    else:
        show_token()
    try:
        with _own_signal_handlers():
            ray.init(
                address=address or "local",  # never a cluster that RAY_ADDRESS names
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as cause:
        raise _cannot_start(address, cause) from cause
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


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off until Ray has started, and leave them to the caller then.

    Ray's own answer to a SIGTERM is to print a stack and abort the process; and what a handler
    raises while Ray forks its processes is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    endings = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in endings}
    set_handler = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda _handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = set_handler
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)


def prepare_environment() -> None:
    """Set what Ray reads at start; also needed in a task that runs a search of its own."""
    # No usage report leaves the machine, Ctrl-C is ours to handle, one
    # progress display is enough, and a failed trial may report without a score.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Ray would wait five minutes for the answer of a host whose cable was cut.
    os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", KEEPALIVE_MS)
    os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", KEEPALIVE_MS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the event log has every failure


def _keep_terminal_clean() -> None:
    """Let no word of Ray's servers on standard output: `log_to_driver` does not stop them.

    What matters to a run, such as the death of a trial's process, is in its event log.
    """
    stdout_deduplicator.skip_re = re.compile("")


def _bring_token() -> None:
    """Give a local Ray its own token, so that it need not write one into the home folder.

    A token file left there would turn on authentication in the next `ray start --head` of this
    user, whose other hosts do not have it.
    """
    chosen = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(name in os.environ for name in chosen):
        return
    if not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def show_token() -> None:
    """Show a cluster the user's token if there is one; a cluster without authentication takes it.

    Ray does so by itself only for a cluster that it finds by itself (`auto`).
    """
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def check_answers(address: str) -> None:
    """Check that an address is one, and that a Ray cluster answers there.

    Raises:
        ClusterError: it does not.
    """
    if address in ("auto", "local"):
        return
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ClusterError(
            f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or auto"
        )
    problem = probe(match["host"].strip("[]"), int(match["port"]))
    if problem is not None:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({problem}; waited at most {WAIT_S:.0f} s);"
            " start one with `ray up cluster.yaml`, or leave out --address to run on this machine"
        )
    if match["client"]:
        raise ClusterError(
            f"--address {address}: Ray Client would move the search away from this machine and its"
            " run directory; run raymat on a machine of the cluster, with --address HOST:6379, or"
            " submit it with --address http://HOST:8265"
        )


def _cannot_start(address: str | None, cause: Exception) -> ClusterError:
    if address is None:
        return ClusterError(f"Ray could not be started on this machine: {one_line(cause)}")
    return ClusterError(
        f"--address {address}: no connection to Ray: {one_line(cause)}; HOST:PORT must be that of"
        " `ray start --head` (6379), with the same versions of Ray and Python; if it asks for a"
        " token, put the cluster's into ~/.ray/auth_token"
    )
