"""Hosts that start no process any more, such as one whose disk is full.

Ray goes on giving them work: what fails at once leaves its place free at once, so that such a host
draws one task after another, and every task that it gets is lost.
"""

import time
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.exceptions import RayError

from raymat.cluster.on_nodes import DEATH_KNOWN_S, call_on_nodes, nodes_by_host
from raymat.tracking.run_directory import RunDirectory

_NO_DEADLINE = 0
_PREEMPTION = 2  # of Ray's DrainNodeReason: a node cannot refuse


def leave_out_sick_nodes(run: RunDirectory | None = None) -> list[str]:
    """Give no more work to hosts that cannot start a process, and give their names.

    What runs there goes on. Ray calls it draining, and does so with a spot machine that is about to
    be taken away; the host leaves the cluster when nothing runs on it, and can join it again.

    Args:
        run: whose log hears of them.
    """
    sick = _failing() and _failing()  # twice: a host may have died just now, or be short of memory
    own = ray.get_runtime_context().get_node_id()
    nodes = {host: node["NodeID"] for host, node in nodes_by_host().items() if host in sick}
    left_out = [host for host, node in nodes.items() if node != own and _drain(node)]
    if left_out and run is not None:
        run.emit(
            "warning",
            text=f"no process can be started on {', '.join(left_out)}, which is given no more work;"
            " is its disk full? (`raymat doctor --address ADDRESS`)",
        )
    return left_out


def _failing() -> set[str]:
    """Give the hosts on which not even an empty task ends well."""
    answers = call_on_nodes(_answer)
    failing = {host for host, answer in answers.items() if isinstance(answer, RayError)}
    if failing:
        time.sleep(DEATH_KNOWN_S)
    return failing & set(nodes_by_host())


def _answer() -> None:
    """Do nothing, in a process."""


def _drain(node: str) -> bool:
    worker: Any = global_worker  # Ray has no public call for it yet
    accepted, _ = worker.gcs_client.drain_node(
        node, _PREEMPTION, "no process can be started", _NO_DEADLINE
    )
    return bool(accepted)
