"""Call a function on every node of a cluster at once, whatever the nodes are busy with."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import ray
from ray._private.state import state as global_state
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DEATH_KNOWN_S = 3.0  # from the failure of a task until Ray says that its node is dead
ANSWER_S = 25.0  # a fresh worker process imports for some seconds; a host that swaps takes longer


def nodes_alive() -> list[dict[str, Any]]:
    """Give the nodes of the cluster that live and may be given work, as Ray describes them."""
    leaving = global_state.get_draining_nodes()
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]


def nodes_by_host() -> dict[str, dict[str, Any]]:
    """Give host -> node of those that live; hosts that share a name have their address with it."""
    nodes = nodes_alive()
    times_met = Counter(str(node["NodeManagerHostname"]) for node in nodes)
    return {_host_of(node, times_met): node for node in nodes}


def _host_of(node: dict[str, Any], times_met: Counter[str]) -> str:
    name = str(node["NodeManagerHostname"])
    if times_met[name] == 1:
        return name
    return f"{name} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})"


def call_on_nodes(
    function: Callable[..., Any], *args: Any, wait_s: float = ANSWER_S
) -> dict[str, Any]:
    """Call a function once on every node and give host -> what it gave.

    A host that does not answer within `wait_s` seconds, or whose call fails, gives the exception.
    No CPU is asked for, so that nodes with all cores in use answer, too.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {}
    for host, node in nodes_by_host().items():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[host] = task.options(scheduling_strategy=place).remote(*args)
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
