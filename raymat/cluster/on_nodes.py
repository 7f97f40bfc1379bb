"""Call a function on every node of a cluster at once, whatever the nodes are busy with."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 25.0  # a fresh worker process imports for some seconds; a host that swaps takes longer


def nodes_alive() -> list[dict[str, Any]]:
    """Give the nodes of the cluster that live, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def host_of(node: dict[str, Any]) -> str:
    """Give the name of a node's host, with its address where several share a name."""
    name, address = str(node["NodeManagerHostname"]), str(node["NodeManagerAddress"])
    same = [n for n in nodes_alive() if n["NodeManagerHostname"] == name]
    return name if len(same) < 2 else f"{name} ({address}, {node['NodeID'][:6]})"


def call_on_nodes(
    function: Callable[..., Any], *args: Any, wait_s: float = ANSWER_S
) -> dict[str, Any]:
    """Call a function once on every node and give host -> what it gave.

    A host that does not answer within `wait_s` seconds, or whose call fails, gives the exception.
    No CPU is asked for, so that nodes with all cores in use answer, too.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {}
    for node in nodes_alive():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[host_of(node)] = task.options(scheduling_strategy=place).remote(*args)
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=wait_s)
    answers: dict[str, Any] = {}
    for host, reference in asked.items():
        if reference not in ready:
            answers[host] = TimeoutError(f"no answer within {wait_s:.0f} s")
            continue
        try:
            answers[host] = ray.get(reference)
        except RayTaskError as error:
            answers[host] = error.cause
        except RayError as error:
            answers[host] = error
    return answers
