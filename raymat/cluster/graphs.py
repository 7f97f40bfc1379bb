"""Build neighbor tables in Ray tasks, once per data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray

from raymat.cluster.tasks import result_of, start_task
from raymat.data.crystals import CrystalSet
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table, concatenate_tables
from raymat.features.table_cache import default_cache_folder, load_table, store_table, table_key

CRYSTALS_PER_TASK = 512


def find_or_build_table(
    crystals: CrystalSet,
    config: NeighborConfig,
    *,
    on_progress: Callable[[int, int], None],
    cache: Path | None = None,
) -> NeighborTable:
    """Take a neighbor table from the cache, or build it in parallel and put it there.

    Args:
        crystals: whose neighbors.
        config: which neighbors.
        on_progress: called with (crystals done, crystals in all).
        cache: the cache's folder; None for the user's own.
    """
    folder, key = cache or default_cache_folder(), table_key(crystals, config)
    table = load_table(folder, key)
    if table is None:
        table = _build(crystals, config, on_progress)
        store_table(folder, key, table)
    on_progress(len(crystals), len(crystals))
    return table


def _build(
    crystals: CrystalSet, config: NeighborConfig, on_progress: Callable[[int, int], None]
) -> NeighborTable:
    n = len(crystals)
    chunks = [np.arange(i, min(i + CRYSTALS_PER_TASK, n)) for i in range(0, n, CRYSTALS_PER_TASK)]
    if len(chunks) == 1:
        return build_neighbor_table(crystals, config)
    futures = [start_task(build_neighbor_table, crystals.take(rows), config) for rows in chunks]
    pending, done = list(futures), 0
    while pending:
        ready, pending = ray.wait(pending, num_returns=1)
        done += len(ready)
        on_progress(min(done * CRYSTALS_PER_TASK, n), n)
    return concatenate_tables([result_of(future) for future in futures])
