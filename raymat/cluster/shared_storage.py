"""Is a folder the same one on every node?

Ray hides it if it is not: trials of a node that does not see the run fail and are tried again until
they land on one that does, so that the search ends well, on the head alone.
"""

import secrets
import time
from contextlib import suppress
from pathlib import Path

import ray
from ray.exceptions import RayError

from raymat.cluster.on_nodes import DEATH_KNOWN_S, call_on_nodes, nodes_alive, nodes_by_host
from raymat.errors import ClusterError

_PREFIX = ".raymat-node-"


def check_folder_is_shared(folder: Path) -> None:
    """Check that every node can write into a run directory, and reads what the others wrote.

    Raises:
        ClusterError: one cannot; the message names the hosts and says what to do.
    """
    if len(nodes_alive()) < 2:
        return
    problems = storage_problems(folder)
    if problems:
        told = "; ".join(
            f"{', '.join(hosts)}: {problem}" for problem, hosts in by_problem(problems).items()
        )
        raise ClusterError(
            f"{folder}: not shared by all nodes ({told}); put --out on a disk that every node of"
            " the cluster sees under the same path, and see `raymat doctor --address A --storage"
            " DIR`"
        )


def storage_problems(folder: Path) -> dict[str, str]:
    """Give host -> what is wrong with a folder there; empty if all share it.

    Every node writes a file, and then every node reads the files of all. A node that dies meanwhile
    has no problem with its storage, and no file that others would have to see.
    """
    nodes = {host: node["NodeID"] for host, node in nodes_by_host().items()}
    marks = {node: secrets.token_hex(8) for node in nodes.values()}
    try:
        written = call_on_nodes(_write_mark, folder, marks)
        problems = _told(written, nodes)
        if problems:
            return problems
        done = {nodes[h] for h, answer in written.items() if answer is None and h in nodes}
        read = call_on_nodes(_read_marks, folder, {node: marks[node] for node in done})
        return _told(read, nodes)
    finally:
        _remove_marks(folder, marks)


def by_problem(problems: dict[str, str]) -> dict[str, list[str]]:
    """Give problem -> the hosts that have it."""
    found: dict[str, list[str]] = {}
    for host, problem in sorted(problems.items()):
        found.setdefault(problem, []).append(host)
    return found


def _told(answers: dict[str, object], nodes: dict[str, str]) -> dict[str, str]:
    """Give what was wrong on the hosts that still live."""
    if any(isinstance(answer, RayError) for answer in answers.values()):
        time.sleep(DEATH_KNOWN_S)
    alive = {node["NodeID"] for node in nodes_alive()}
    return {
        host: " ".join(str(answer).split())
        for host, answer in answers.items()
        if answer is not None and nodes.get(host) in alive
    }


def _mark(folder: Path, node: str) -> Path:
    return folder / f"{_PREFIX}{node}"


def _write_mark(folder: Path, marks: dict[str, str]) -> str | None:
    """Write the mark of this node; give what went wrong."""
    node = ray.get_runtime_context().get_node_id()
    if node not in marks:
        return None  # it joined just now, and will be looked at by the next check
    if not folder.is_dir():
        return "the folder is not there"
    try:
        _mark(folder, node).write_text(marks[node], encoding="ascii")
    except OSError as cause:
        return f"cannot be written ({cause.strerror or cause})"
    return None


def _read_marks(folder: Path, marks: dict[str, str]) -> str | None:
    """Read the marks of all nodes; give what went wrong."""
    missing = 0
    for node, mark in marks.items():
        try:
            missing += _mark(folder, node).read_text(encoding="ascii") != mark
        except OSError:
            missing += 1
    if missing:
        return f"does not see what {missing} of {len(marks)} nodes wrote: a disk of its own"
    return None


def _remove_marks(folder: Path, marks: dict[str, str]) -> None:
    call_on_nodes(_remove, [_mark(folder, node) for node in marks])


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)
