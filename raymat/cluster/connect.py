"""A Ray to work with: a local one, started and stopped, or a cluster that is there already."""

import _thread
import atexit
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.ray_logging import stdout_deduplicator
from ray.exceptions import RayError

from raymat.cluster.probe import WAIT_S, probe
from raymat.errors import ClusterError, ConfigError, RaymatError, one_line
from raymat.text import quoted
from raymat.tracking.known_addresses import remember_address

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d{1,5})")
KEEPALIVE_MS = "30000"
_MAX_PORT = 65_535
LOST = threading.Event()
"""Set once the raylet of a local Ray has died: its part of Python's exit hangs or crashes then."""
LOOK_EVERY_S = 0.25  # at the raylet
_WAKE = signal.SIGURG  # which does nothing by itself, and is never really sent
CONNECT_S = 30.0  # after a server has answered
_AUTH_MODES = ("token", "disabled")
# A socket's path has at most 107 bytes; Ray adds to that of its folder, at most:
_PREFIX = "ray-"
_OF_RAY = "/ray-12345678/r/session_2026-01-01_00-00-00_123456_4194304/sockets/plasma_store"
_LONGEST_FOLDER = 107 - len(_OF_RAY)
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connect to `address`, or start a local Ray; leave or stop it at the end.

    A local Ray listens on the loopback interface only, and keeps its sockets and logs in a folder
    that nobody else can enter and that is removed at the end.

    Raises:
        ClusterError: nothing answers at the address, or not in time.
        ConfigError: `RAY_AUTH_MODE` is none that Ray knows.
    """
    check_authentication_mode()
    if address == "local":
        address = None
    if address is not None:
        check_answers(address)
    prepare_environment()
    _keep_terminal_clean()
    with ExitStack() as at_the_end:
        try:
            if address is None:
                _bring_token()
                _start(at_the_end.enter_context(_private_folder()))
            else:
                show_token()
                _connect(address)
                remember_address(address)
        except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as cause:
            if isinstance(cause, RaymatError):
                raise
            raise _cannot_start(address, cause) from cause
        if address is None:
            at_the_end.enter_context(_watched_raylet())
        else:
            at_the_end.callback(ray.shutdown)
        yield


@contextmanager
def _watched_raylet() -> Iterator[None]:
    """Stop the local Ray at the end; raise a `ClusterError` as soon as its raylet has died.

    Ray's own answer would be to end this process, some seconds later or at the next call, so that
    the run could not record how it ended. Nothing is asked of a Ray without a raylet any more.
    """
    node: Any = ray_worker._global_node  # Ray has no public name for it
    raylet = node.all_processes["raylet"][0].process
    is_over, has_died = threading.Event(), threading.Event()

    def wake(_signum: int, _frame: object) -> None:
        # A signal to all processes has also interrupted this one, which is on its way out then.
        if not is_over.is_set() and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            has_died.set()
            raise KeyboardInterrupt  # as Ctrl-C: no `except Exception` of Ray's may take it

    try:
        with _waking_when_ended(raylet, is_over, wake):
            yield
    except KeyboardInterrupt as cause:
        if not has_died.is_set():
            raise
        raise ClusterError(
            "Ray on this machine has ended (its raylet died, or was killed, such as for lack of"
            " memory); `raymat resume` continues the run"
        ) from cause
    finally:
        if raylet.poll() is None:
            ray.shutdown()
        else:  # the other servers end with this process
            LOST.set()
            atexit.unregister(ray_worker.shutdown)


@contextmanager
def _waking_when_ended(
    process: Any, is_over: threading.Event, wake: Callable[[int, object], None]
) -> Iterator[None]:
    """Call `wake` in the main thread once a process has ended, unless `is_over` by then."""

    def watch() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            if process.poll() is not None:
                _thread.interrupt_main(_WAKE)
                return

    if threading.current_thread() is not threading.main_thread():  # which alone can be woken
        yield
        return
    before = signal.signal(_WAKE, wake)
    threading.Thread(target=watch, name="watching the raylet", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        signal.signal(_WAKE, before)


def _start(folder: Path) -> None:
    """Start a Ray of this process alone, whose sockets and logs lie in `folder`."""
    # Ray replaces 127.0.0.1 by an address that other machines reach, unless it takes this one for
    # a machine that cannot be part of a cluster; its servers then listen on the loopback interface.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    # A signal to all processes is this one's to obey: a raylet that ends with it would take it
    # along before it has recorded anything. Its servers inherit the mask and leave when told to.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        with _own_signal_handlers():
            ray.init(
                address="local",  # never a cluster that RAY_ADDRESS names
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Give a folder for Ray inside one that only this user can enter; both are removed at the end.

    Ray opens its own folder to everybody, so it has to stand in another one.

    Raises:
        ClusterError: no folder for temporary files has a path short enough for Ray's sockets.
    """
    asked = os.environ.get("RAY_TMPDIR")
    problem = "no folder for temporary files has a path that is short enough"
    for named in [asked] if asked else [tempfile.gettempdir(), *_SHORT_FOLDERS]:
        base = str(Path(named).absolute())
        if len(os.fsencode(base)) > _LONGEST_FOLDER:
            continue
        try:
            outer = tempfile.mkdtemp(prefix=_PREFIX, dir=base)  # mode 0700
        except OSError as cause:
            problem = f"{base} cannot be written ({cause.strerror or cause})"
            continue
        try:
            yield Path(outer) / "r"
        finally:
            shutil.rmtree(outer, ignore_errors=True)
        return
    raise ClusterError(
        f"Ray could not be started on this machine: {problem}; set RAY_TMPDIR to a folder on a"
        f" local disk whose path has at most {_LONGEST_FOLDER} characters, as Ray's sockets need"
    )


def _connect(address: str) -> None:
    """Connect to a cluster, obeying signals meanwhile: Ray itself would wait for it without end.

    Raises:
        ClusterError: it takes too long.
    """
    failures: list[BaseException] = []

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as cause:  # noqa: BLE001  raised again in the main thread
            failures.append(cause)

    logging.getLogger("ray").setLevel(logging.ERROR)  # of signals, which stay the caller's
    thread = threading.Thread(target=connect, name="connecting to Ray", daemon=True)
    with _silent_stderr():
        thread.start()
        thread.join(CONNECT_S)
    if thread.is_alive():
        raise ClusterError(
            f"no Ray cluster answers at {address} (the connection is open, but was not completed in"
            f" {CONNECT_S:.0f} s); is its head overloaded, or does it use TLS (RAY_USE_TLS)?"
        )
    if failures:
        raise failures[0]


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what Ray's C++ part logs while it connects off the terminal; errors are raised too."""
    sys.stderr.flush()
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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


def check_authentication_mode() -> None:
    """Check that `RAY_AUTH_MODE` is one that Ray knows; Ray takes any other for "disabled".

    Raises:
        ConfigError: it is not.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() not in _AUTH_MODES:
        raise ConfigError(
            f"RAY_AUTH_MODE={quoted(mode)} is no mode of Ray, which would turn authentication off;"
            f" expected {' or '.join(_AUTH_MODES)}"
        )


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
