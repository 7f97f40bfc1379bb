"""Plain functions as Ray tasks."""

from collections.abc import Callable
from typing import Any

import ray

RETRIES = 3  # when the process or host of a task dies; an exception is not retried


def start_task(
    function: Callable[..., Any], *args: Any, cpu: float = 1.0, gpu: float = 0.0, **kwargs: Any
) -> Any:
    """Start a function on a node with room and give the reference to its result."""
    decorate: Any = ray.remote(num_cpus=cpu, num_gpus=gpu, max_retries=RETRIES)
    return decorate(function).remote(*args, **kwargs)
