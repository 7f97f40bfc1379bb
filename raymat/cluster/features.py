"""Build feature tables in Ray tasks, once per data set."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import ray

from raymat.cluster.tasks import result_of, start_task
from raymat.data.crystals import CrystalSet
from raymat.features.store import find_or_build
from raymat.features.table import FeatureTable, TableConfig
from raymat.tracking.run_directory import RunDirectory

CRYSTALS_PER_TASK = 512


def find_tables(
    configs: Iterable[TableConfig], crystals: CrystalSet, run: RunDirectory
) -> tuple[FeatureTable, ...]:
    """Take the tables of a run from the cache, or build them in parallel, and log what they are.

    Raises:
        ConfigError: one does not fit into memory.
    """
    tables = []
    for config in configs:
        start = time.perf_counter()
        table = find_or_build_table(
            crystals,
            config,
            on_progress=lambda done, total: run.mention("features", done=done, total=total),
        )
        tables.append(table)
        run.emit("features_ready", **table.facts(), time_s=time.perf_counter() - start)
    return tuple(tables)


def find_or_build_table(
    crystals: CrystalSet,
    config: TableConfig,
    *,
    on_progress: Callable[[int, int], None],
    cache: Path | None = None,
) -> FeatureTable:
    """Take a table from the cache, or build it in parallel and put it there.

    Args:
        crystals: whose features.
        config: which features.
        on_progress: called with (crystals done, crystals in all).
        cache: the cache's folder; None for the user's own.
    """
    n, at_hand = len(crystals), 0  # of a large set, the shards that are done

    def build(shard: CrystalSet, config: TableConfig) -> FeatureTable:
        return _build_in_tasks(shard, config, lambda done, _: on_progress(at_hand + done, n))

    def count(done: int) -> None:
        nonlocal at_hand
        at_hand = done
        on_progress(done, n)

    table = find_or_build(crystals, config, cache=cache, build=build, on_shard=count)
    on_progress(n, n)
    return table


def _build_in_tasks(
    crystals: CrystalSet, config: TableConfig, on_progress: Callable[[int, int], None]
) -> FeatureTable:
    n = len(crystals)
    chunks = [np.arange(i, min(i + CRYSTALS_PER_TASK, n)) for i in range(0, n, CRYSTALS_PER_TASK)]
    if len(chunks) == 1:
        return config.build(crystals)
    futures = [start_task(_build, config, crystals.take(rows)) for rows in chunks]
    pending, done = list(futures), 0
    while pending:
        ready, pending = ray.wait(pending, num_returns=1)
        done += len(ready)
        on_progress(min(done * CRYSTALS_PER_TASK, n), n)
    return config.join([result_of(future) for future in futures])


def _build(config: TableConfig, crystals: CrystalSet) -> FeatureTable:
    return config.build(crystals)
