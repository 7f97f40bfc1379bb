"""From what the nodes of a cluster say of themselves to what is wrong with them, and what to do."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from raymat.cluster.node_facts import DiskFacts, NodeFacts

Level = Literal["ok", "warning", "problem"]

SAME = ("python", "ray", "torch", "raymat", "numpy")  # must be equal: processes exchange pickles
_OF_PYTHON = 2  # parts of Python's version that must be equal: 3.11
LITTLE_BYTES, NO_BYTES = 20e9, 2e9
FEW_INODES, NO_INODES = 100_000, 5_000
_CLOCK_WARNING_S, _CLOCK_PROBLEM_S = 2.0, 60.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, such as "clock".
        level: how it is.
        text: what was found, where.
        advice: what to do about it; empty if all is well.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


def find_all(nodes: Mapping[str, NodeFacts], clocks: Mapping[str, float]) -> list[Finding]:
    """Give the findings about some machines.

    Args:
        nodes: host -> its facts.
        clocks: host -> seconds that its clock is ahead of this machine's.
    """
    return [
        compare_versions(nodes),
        *look_at_gpus(nodes),
        *look_at_disks(nodes),
        *([compare_clocks(clocks)] if clocks else []),
    ]


def compare_versions(nodes: Mapping[str, NodeFacts]) -> Finding:
    """Say whether Python, Ray, torch and raymat are the same on all nodes."""
    for name in SAME:
        found: dict[str, list[str]] = {}
        for host, facts in nodes.items():
            found.setdefault(_version(facts, name), []).append(host)
        if len(found) > 1:
            told = "; ".join(f"{version} on {', '.join(hosts)}" for version, hosts in found.items())
            return Finding(
                "versions",
                "problem",
                f"{name} differs: {told}",
                "install the same on every node: pip install -c constraints.txt raymat",
            )
    first = next(iter(nodes.values())).versions
    same = ", ".join(f"{name} {first.get(name, 'missing')}" for name in SAME)
    return Finding("versions", "ok", f"{same}{_on_all(nodes)}")


def _version(facts: NodeFacts, name: str) -> str:
    version = facts.versions.get(name, "missing")
    return ".".join(version.split(".")[:_OF_PYTHON]) if name == "python" else version


def _on_all(nodes: Mapping[str, NodeFacts]) -> str:
    return f" on all {len(nodes)} nodes" if len(nodes) > 1 else ""


def look_at_gpus(nodes: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Say what GPUs there are, and which of them a trial could not use."""
    for host, facts in nodes.items():
        if facts.gpus > facts.torch_gpus:
            yield Finding(
                "GPUs",
                "problem",
                f"{host}: the driver lists {facts.gpus}, torch can use {facts.torch_gpus}"
                f" (its build is for CUDA {facts.torch_cuda})",
                "install the build of torch for this driver (https://pytorch.org/get-started)",
            )
        elif facts.ray_gpus is not None and facts.ray_gpus < facts.torch_gpus:
            yield Finding(
                "GPUs",
                "warning",
                f"{host}: torch can use {facts.torch_gpus}, Ray hands out {facts.ray_gpus:g}",
                f"start Ray there with --num-gpus={facts.torch_gpus}",
            )
    usable = {host: facts.torch_gpus for host, facts in nodes.items() if facts.torch_gpus}
    if usable:
        told = ", ".join(f"{host} {n}" for host, n in usable.items())
        yield Finding("GPUs", "ok", f"{sum(usable.values())} usable ({told})")
    elif not any(facts.gpus for facts in nodes.values()):
        cores = sum(int(facts.ray_cpus or facts.cpus) for facts in nodes.values())
        yield Finding("GPUs", "ok", f"none; trials train on {cores} CPU cores")


def look_at_disks(nodes: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Say which disks are nearly full, of bytes or of files."""
    for what in dict.fromkeys(name for facts in nodes.values() for name in facts.disks):
        disks = {host: facts.disks[what] for host, facts in nodes.items() if what in facts.disks}
        tight = list(_tight_disks(what, disks))
        yield from tight
        if not tight:
            least = min(disks.values(), key=lambda disk: disk.free_bytes)
            yield Finding("disk", "ok", f"{what} ({least.path}): {_say_bytes(least)} free or more")


def _tight_disks(what: str, disks: Mapping[str, DiskFacts]) -> Iterator[Finding]:
    for host, disk in disks.items():
        n_files = disk.free_inodes
        level: Level = "ok"
        if disk.free_bytes < LITTLE_BYTES or (n_files is not None and n_files < FEW_INODES):
            level = "warning"
        if disk.free_bytes < NO_BYTES or (n_files is not None and n_files < NO_INODES):
            level = "problem"
        if level != "ok":
            files = "" if n_files is None else f" and {n_files:,} files"
            yield Finding(
                "disk",
                level,
                f"{host}: {what} ({disk.path}) has {_say_bytes(disk)}{files} left",
                "free some, or name another disk (--storage and --out; RAY_TMPDIR for Ray's own)",
            )


def _say_bytes(disk: DiskFacts) -> str:
    return f"{disk.free_bytes / 1e9:,.1f} GB"


def compare_clocks(clocks: Mapping[str, float]) -> Finding:
    """Say whether the clocks agree; times in the event log and tokens depend on it."""
    host, most = max(clocks.items(), key=lambda item: abs(item[1]))
    if abs(most) < _CLOCK_WARNING_S:
        return Finding("clock", "ok", f"within {_CLOCK_WARNING_S:g} s of each other")
    word = "ahead of" if most > 0 else "behind"
    return Finding(
        "clock",
        "problem" if abs(most) >= _CLOCK_PROBLEM_S else "warning",
        f"{host} is {abs(most):,.1f} s {word} this machine",
        "let chrony or systemd-timesyncd keep the time on every node",
    )


def look_at_authentication(
    nodes: Mapping[str, NodeFacts], *, is_reachable: bool
) -> Iterator[Finding]:
    """Say whether all nodes ask for a token, or all who reach them are let in.

    A single node that no other machine reaches needs none.
    """
    modes = {host: facts.auth_mode or "not set" for host, facts in nodes.items()}
    told = ", ".join(f"{host}: {mode}" for host, mode in modes.items())
    if set(modes.values()) == {"token"}:
        yield Finding("authentication", "ok", "by token, on every node")
    elif len(set(modes.values())) > 1:
        yield Finding(
            "authentication",
            "warning",
            f"RAY_AUTH_MODE differs ({told})",
            "start Ray on every node with RAY_AUTH_MODE=token, or nodes turn each other away",
        )
    elif len(nodes) > 1 or is_reachable:
        yield Finding(
            "authentication",
            "warning",
            "off: whoever reaches the ports of this cluster can run commands on it",
            "RAY_AUTH_MODE=token in every `ray start`, as in cluster.yaml; see docs/security.md",
        )


def worst(findings: Iterable[Finding]) -> Level:
    """Give the worst level there is."""
    levels: list[Level] = ["ok", "warning", "problem"]
    return max((f.level for f in findings), key=levels.index, default="ok")
