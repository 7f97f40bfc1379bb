"""`raymat doctor`: is this machine, or this cluster, fit to run?"""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from raymat.cluster.connect import check_authentication_mode, cluster_cpus, ray_session
from raymat.cluster.findings import Finding, find_all, look_at_authentication
from raymat.cluster.node_facts import NodeFacts, collect_facts
from raymat.cluster.on_nodes import call_on_nodes, nodes_by_host
from raymat.cluster.shared_storage import by_problem, storage_problems
from raymat.cluster.space_forecast import forecast
from raymat.tracking.wandb_state import say_wandb
from raymat.tuning.search_space import SearchSpace

_WAIT_S = 25.0  # for the facts of all nodes


@dataclass(frozen=True)
class AskedSearch:
    """A search that is to be forecast: a space, its data as `--data` takes them, and the target."""

    space: SearchSpace
    source: str
    target: str


def examine(
    address: str | None, storage: Path | None, search: AskedSearch | None = None
) -> list[Finding]:
    """Look at this machine, or at every node of a cluster.

    Args:
        address: of a cluster; None for this machine alone.
        storage: folder that runs are to lie in; the current one if None.
        search: what to forecast.

    Raises:
        ClusterError: nothing answers at the address.
        ConfigError: `RAY_AUTH_MODE` is none that Ray knows.
        DataError: the data of the search cannot be used.
    """
    storage = (storage or Path.cwd()).absolute()
    check_authentication_mode()
    if address is None:
        facts = collect_facts(storage)
        findings = find_all({facts.host: facts}, {})
        findings += [_storage_here(storage), _look_at_wandb()]
        return findings + _forecast(search, facts.cpus)
    with ray_session(address):
        findings = [*_examine_nodes(storage), _look_at_wandb()]
        return findings + _forecast(search, cluster_cpus())


def _forecast(search: AskedSearch | None, n_places: int) -> list[Finding]:
    if search is None:
        return []
    return list(forecast(search.space, search.source, search.target, n_places=n_places))


def _examine_nodes(storage: Path) -> list[Finding]:
    asked = time.time()
    answers = call_on_nodes(collect_facts, storage, wait_s=_WAIT_S)
    answered = time.time()
    nodes = {host: facts for host, facts in answers.items() if isinstance(facts, NodeFacts)}
    silent = [
        Finding(
            "nodes",
            "problem",
            f"{host}: {' '.join(str(answer).split())[:200]}",
            "look at the Ray logs there (/tmp/ray/session_latest/logs), or restart the node",
        )
        for host, answer in answers.items()
        if host not in nodes
    ]
    offered = {host: node["Resources"] for host, node in nodes_by_host().items()}
    nodes = {
        host: replace(
            facts,
            ray_gpus=float(offered[host].get("GPU", 0.0)),
            ray_cpus=float(offered[host].get("CPU", 0.0)),
        )
        for host, facts in nodes.items()
    }
    clocks = {host: _ahead(facts.time, asked, answered) for host, facts in nodes.items()}
    seen = Finding("nodes", "ok", f"{len(nodes)} answer: {', '.join(sorted(nodes))}")
    return [
        *silent,
        *([seen] if nodes else []),
        *(find_all(nodes, clocks) if nodes else []),
        *look_at_authentication(nodes, is_reachable=_is_reachable()),
        *_look_at_storage(storage, len(answers)),
    ]


def _is_reachable() -> bool:
    """Say whether other machines can reach the cluster's ports."""
    return not str(ray.util.get_node_ip_address()).startswith("127.")


def _ahead(there: float, asked: float, answered: float) -> float:
    """Give the seconds that a clock is ahead at least, or negative ones that it is behind."""
    if there > answered:
        return there - answered
    return min(0.0, there - asked)


# --- storage --------------------------------------------------------------------------------------


def _look_at_storage(storage: Path, n_nodes: int) -> Iterator[Finding]:
    problems = storage_problems(storage)
    for problem, hosts in by_problem(problems).items():
        yield Finding(
            "storage",
            "problem",
            f"{', '.join(hosts)}: {storage}: {problem}",
            "mount the same disk on every node under the same path and name it with --storage",
        )
    if not problems:
        written = "written and read by all" if n_nodes > 1 else "writable"
        yield Finding("storage", "ok", f"{storage}: {written}")


def _storage_here(storage: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(prefix=".raymat-", dir=storage):
            return Finding("storage", "ok", f"{storage}: writable")
    except OSError as cause:
        return Finding(
            "storage",
            "problem",
            f"{storage}: cannot be written ({cause.strerror or cause})",
            "make the folder, or name another with --storage",
        )


# --- W&B ------------------------------------------------------------------------------------------


def _look_at_wandb() -> Finding:
    return Finding("W&B", "ok", say_wandb(os.environ, Path.home()))
