"""Plain functions as Ray tasks."""

from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from raymat.cluster.resources import Room
from raymat.cluster.sick_nodes import leave_out_sick_nodes
from raymat.errors import RaymatError, RunError, one_line
from raymat.tracking.run_directory import RunDirectory


class ProcessDiedError(RunError):
    """The process of a task died again and again, or its host died, with whatever it would do."""


LOOK_EVERY_S = 2.0  # at what runs, while nothing ends
# How tasks whose results nobody has taken yet were started, to start one anew on another host.
_started: dict[Any, Callable[[], Any]] = {}
RETRIES = 3  # when the process or host of a task dies; an exception is not retried


def start_task(
    function: Callable[..., Any],
    *args: Any,
    cpu: float = 1.0,
    gpu: float = 0.0,
    own_process: bool = False,
    **kwargs: Any,
) -> Any:
    """Start a function on a node with room and give the reference to its result.

    With `own_process` its process ends with it, and with the process whatever it kept.
    """
    decorate: Any = ray.remote(
        num_cpus=cpu,
        num_gpus=gpu,
        max_retries=RETRIES,
        max_calls=1 if own_process else 0,  # 0: any number
    )
    return _start(lambda: decorate(function).remote(*args, **kwargs))


def _start(start: Callable[[], Any]) -> Any:
    task = start()
    _started[task] = start
    return task


def wait_for_some(tasks: Iterable[Any], room: Room) -> list[Any]:
    """Wait until a task has ended, or for a while, and give those that have.

    Raises:
        ClusterError: no node can hold them any more.
    """
    ready, _ = ray.wait(list(tasks), num_returns=1, timeout=LOOK_EVERY_S)
    if not ready:
        room.check()
    return ready


def result_of(task: Any, run: RunDirectory | None = None) -> Any:
    """Wait for a task and give its result; an error of ours comes back as it was raised there.

    A task whose process died again and again because its host starts none any more is started
    anew, on another host.

    Args:
        task: of `start_task`.
        run: whose log hears of such a host.

    Raises:
        ProcessDiedError: its process died again and again, or its host died.
    """
    start = _started.pop(task, None)
    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, RaymatError):
            raise error.cause from error
        raise
    except RayError as error:
        if start is not None and leave_out_sick_nodes(run):
            return result_of(_start(start), run)
        raise ProcessDiedError(_say_death(error)) from error


def _say_death(error: RayError) -> str:
    """Say what died: Ray reports a process that died each time it was started, or a lost host."""
    reason = one_line(error).split(". ")[0]
    if isinstance(error, WorkerCrashedError | OutOfMemoryError):
        return f"a process of the run died {RETRIES + 1} times: {reason}"
    return f"a host of the run, or a process on it, was lost: {reason}"
