"""What a trial occupies on the cluster that is there."""

import os
import time
from typing import Any

from raymat.cluster.connect import cluster_cpus, cluster_gpus
from raymat.cluster.on_nodes import nodes_alive
from raymat.errors import ClusterError
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources

DEFAULT_GPU_SHARE = 0.25
NODE_BACK_S = 600.0
_LOOK_AGAIN_S = 2.0  # for nodes that came or went


def trial_resources(request: TuneRequest, space: SearchSpace) -> Resources:
    """Decide what a trial occupies: --gpus, else the space, else what the cluster has.

    A space that asks for GPUs runs on CPUs where there are none; --gpus does not.

    Raises:
        ClusterError: no node can ever hold one trial.
    """
    return decide_resources(space.resources, request.gpus)


def decide_resources(asked: Resources | None, wanted_gpus: float | None) -> Resources:
    """Decide what one training occupies.

    Args:
        asked: by the file; None for one core, and a share of a GPU where there is one.
        wanted_gpus: by the user; None leaves it to `asked`.

    Raises:
        ClusterError: no node can ever hold one.
    """
    asked = asked or Resources(gpu=DEFAULT_GPU_SHARE)
    gpus = cluster_gpus()
    if wanted_gpus is not None:
        if wanted_gpus > 0 and gpus == 0:
            raise ClusterError(
                f"--gpus {wanted_gpus:g}: Ray sees no GPU here; leave it out to train on CPUs"
            )
        asked = asked.model_copy(update={"gpu": wanted_gpus})
    elif gpus == 0:
        asked = asked.model_copy(update={"gpu": 0.0})
    if not any(_fits(asked, node) for node in nodes_alive()):
        raise ClusterError(
            f"no node has {asked.cpu:g} CPU and {asked.gpu:g} GPU for one task (in all there are"
            f" {cluster_cpus()} CPU and {gpus:g} GPU); lower --gpus, or `resources` in the space"
        )
    return asked


def places(resources: Resources) -> int:
    """Give how many trainings fit on the cluster as it is now, all nodes together."""
    return sum(_room(resources, node["Resources"]) for node in nodes_alive())


class Room:
    """How many trainings fit on the cluster now, asked anew every few seconds.

    Args:
        resources: what one occupies.
        patience_s: seconds that a cluster may stay without a node for one: a spot worker that was
            taken away is replaced in minutes.
    """

    def __init__(self, resources: Resources, *, patience_s: float = NODE_BACK_S) -> None:
        self._resources, self._patience_s = resources, patience_s
        self._known, self._until = 0, 0.0
        self._last_seen = time.monotonic()  # a node that has room for one

    def __call__(self) -> int:
        """Give the number, at least 1: what waits makes a cluster that scales start a node."""
        now = time.monotonic()
        if now >= self._until:
            found = places(self._resources)
            self._known, self._until = max(1, found), now + _LOOK_AGAIN_S
            if found:
                self._last_seen = now
        return self._known

    def check(self) -> None:
        """Look whether there is a place at all.

        Raises:
            ClusterError: there has been none for too long.
        """
        self()
        gone_s = time.monotonic() - self._last_seen
        if gone_s > self._patience_s:
            asked = self._resources
            raise ClusterError(
                f"for {gone_s / 60:.0f} min no node has had {asked.cpu:g} CPU and {asked.gpu:g} GPU"
                " for one task: the nodes that had have left the cluster (`ray status`); start them"
                " again and `raymat resume` the run, which has kept what is done"
            )


def _room(asked: Resources, has: dict[str, float]) -> int:
    most = int(has.get("CPU", 0) / asked.cpu)
    return most if asked.gpu == 0 else min(most, int(has.get("GPU", 0) / asked.gpu))


def workers_per_machine(concurrency: int | None = None) -> int:
    """Give the most processes of a run that compute at the same time on this machine."""
    most = min(cluster_cpus(), os.cpu_count() or 1)
    return most if concurrency is None else min(most, concurrency)


def _fits(asked: Resources, node: dict[str, Any]) -> bool:
    has = node["Resources"]
    return bool(has.get("CPU", 0) >= asked.cpu and has.get("GPU", 0) >= asked.gpu)
