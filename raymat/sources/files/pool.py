"""Chunks to parts, in as many processes as wished: what is in flight is bounded.

Each part is a function of its chunk alone and is written by whoever parsed it, so that neither the
number of workers nor their order makes a difference.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from raymat.data.files.chunks import Chunk
from raymat.errors import RunError
from raymat.sources.files.parts import write_part

_IN_FLIGHT = 3  # chunks per worker: one parsed, one waiting, one on its way
_PRELOAD = ("ase.io.extxyz", "pymatgen.io.cif", "pymatgen.io.vasp")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

OnPart = Callable[[Chunk, int, int], None]
"""Called with the chunk, its rows and how many of them are good."""


class WorkerError(RunError):
    """A worker process ended by itself: a failed run, not unusable input."""

    exit_code = 1


def count_cores() -> int:
    """Give the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def parse_all(work: Iterable[tuple[Chunk, Path]], *, workers: int, on_part: OnPart) -> None:
    """Parse every chunk and write it to its path.

    Raises:
        WorkerError: a worker died.
    """
    if workers == 1:
        for chunk, path in work:
            on_part(chunk, *_parse(chunk, path))
        return
    pending: deque[tuple[Chunk, Future[tuple[int, int]]]] = deque()
    with _pool(workers) as pool:
        for chunk, path in work:
            pending.append((chunk, _submit(pool, chunk, path)))
            if len(pending) >= _IN_FLIGHT * workers:
                _take(pending, on_part)
        while pending:
            _take(pending, on_part)


def _submit(pool: ProcessPoolExecutor, chunk: Chunk, path: Path) -> Future[tuple[int, int]]:
    try:
        return pool.submit(_parse, chunk, path)
    except BrokenProcessPool as cause:
        raise _died(chunk) from cause


def _take(pending: deque[tuple[Chunk, Future[tuple[int, int]]]], on_part: OnPart) -> None:
    chunk, future = pending.popleft()
    try:
        rows, good = future.result()
    except BrokenProcessPool as cause:
        raise _died(chunk) from cause
    on_part(chunk, rows, good)


def _died(chunk: Chunk) -> WorkerError:
    where = f"a worker process died at or soon after {chunk.label}"
    return WorkerError(
        f"{where} (out of memory?); the same command goes on, perhaps with fewer --workers"
    )


def _parse(chunk: Chunk, path: Path) -> tuple[int, int]:
    return write_part(chunk.parse(), path)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, mp_context=start_server(), initializer=_begin)
    try:
        yield pool
    except BaseException:
        _end_server()
        for process in list((pool._processes or {}).values()):  # there is no public way
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_server() -> None:
    """End the server: one that is still importing would fork workers for a parent that has left."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)  # there is no public way
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start_server() -> Any:
    """Start the server from which workers are forked, and give its context; do not wait for it.

    It imports what they need, once. It and they compute on one thread each, for there are as many
    of them as cores.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_PRELOAD])
    before = {name: os.environ.get(name) for name in _THREADS}
    resource_tracker.ensure_running()  # now, for it sets the mask of signals itself
    # Ctrl-C reaches all processes of a terminal; those that are just born are to be deaf to it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


def _begin() -> None:
    """Prepare a worker: deaf to Ctrl-C, gone as soon as its parent is."""
    gc.freeze()  # what was imported before the fork is nobody's garbage: a tenth of the time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
