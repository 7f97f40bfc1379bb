"""What a trial occupies on the cluster that is there."""

import os
import time
from typing import Any

import ray

from raymat.cluster.connect import cluster_cpus, cluster_gpus
from raymat.errors import ClusterError
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources

DEFAULT_GPU_SHARE = 0.25
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
    if not any(_fits(asked, node) for node in ray.nodes() if node["Alive"]):
        raise ClusterError(
            f"no node has {asked.cpu:g} CPU and {asked.gpu:g} GPU for one task (in all there are"
            f" {cluster_cpus()} CPU and {gpus:g} GPU); lower --gpus, or `resources` in the space"
        )
    return asked


def places(resources: Resources) -> int:
    """Give how many trainings fit on the cluster as it is now, all nodes together."""
    return sum(_room(resources, node["Resources"]) for node in ray.nodes() if node["Alive"])


class Room:
    """How many trainings fit on the cluster now, asked anew every few seconds.

    Args:
        resources: what one occupies.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known, self._until = 0, 0.0

    def __call__(self) -> int:
        """Give the number, at least 1: a cluster that scales up has no node to begin with."""
        if time.monotonic() >= self._until:
            self._known = max(1, places(self._resources))
            self._until = time.monotonic() + _LOOK_AGAIN_S
        return self._known


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
