"""Several real Ray nodes on this machine, for tests in one process."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@contextmanager
def ray_nodes(n: int) -> Iterator[str]:
    """Start `n` nodes of one core each and give their address."""
    with ray_cluster(*[{"num_cpus": 1}] * n) as cluster:
        yield str(cluster.address)


@contextmanager
def ray_cluster(head: dict[str, int], *others: dict[str, int]) -> "Iterator[Cluster]":
    """Start nodes with the given resources, such as ``{"num_cpus": 1}``."""
    import ray
    from ray.cluster_utils import Cluster

    from raymat.cluster import connect

    # Ray settles a process's authentication once, for the local sessions of other tests, too.
    connect._bring_token()
    connect.show_token()
    connect.prepare_environment()
    before = signal.getsignal(signal.SIGTERM)  # which Ray's nodes replace
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for node in others:
        cluster.add_node(**node)
    cluster.wait_for_nodes()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)
