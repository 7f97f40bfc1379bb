"""Several real Ray nodes on this machine, for tests in one process."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_nodes(n: int) -> Iterator[str]:
    """Start `n` nodes of one core each and give their address."""
    import ray
    from ray.cluster_utils import Cluster

    from raymat.cluster import connect

    # Ray settles a process's authentication once, for the local sessions of other tests, too.
    connect._bring_token()
    connect.show_token()
    connect.prepare_environment()
    before = signal.getsignal(signal.SIGTERM)  # which Ray's nodes replace
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(n - 1):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        yield str(cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)
