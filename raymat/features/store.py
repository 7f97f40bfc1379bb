"""The feature tables of a crystal set: at hand, from the cache, or built."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raymat.data.crystals import CrystalSet
from raymat.features.cache_contents import keep_limit, remove_key
from raymat.features.memory import available_memory
from raymat.features.table import FeatureTable, TableConfig
from raymat.features.table_cache import (
    building,
    default_cache_folder,
    load_table,
    store_table,
    table_key,
)
from raymat.features.table_shards import Builder, build_in_shards, is_large


def build_here(crystals: CrystalSet, config: TableConfig) -> FeatureTable:
    """Compute a table in this process, after a look at the memory that it will take.

    Raises:
        ConfigError: it does not fit; the message says what to do.
        DataError: a crystal has no usable cell.
    """
    config.check_memory(crystals, available_memory())
    return config.build(crystals)


@dataclass(frozen=True)
class FeatureStore:
    """All features of one crystal set that a run may ask for.

    Attributes:
        crystals: whose features; without their properties, so that no target travels with them.
        tables: those at hand.
        cache: the cache's folder; None for the user's own.
    """

    crystals: CrystalSet
    tables: tuple[FeatureTable, ...] = ()
    cache: Path | None = None

    def find(self, config: TableConfig) -> FeatureTable:
        """Give a table that holds `config`: one at hand, else from the cache, else built here.

        Raises:
            ConfigError: it must be built and does not fit into memory.
            DataError: a crystal has no usable cell.
        """
        for table in self.tables:
            if table.config.holds(config):
                return table
        return find_or_build(self.crystals, config, cache=self.cache)


def find_or_build(
    crystals: CrystalSet,
    config: TableConfig,
    *,
    cache: Path | None = None,
    build: Builder = build_here,
    on_shard: Callable[[int], None] = lambda _done: None,
    is_kept: bool = True,
) -> FeatureTable:
    """Take a table from the cache, or build it and put it there.

    Of several processes that ask for the same table at once, one builds it and the others wait.

    That of a large set is built shard by shard and joined on disk (see
    `table_shards`), so that memory does not grow with their number. A standing limit of the
    cache's size is applied afterwards.

    Args:
        crystals: whose features.
        config: which features.
        cache: the cache's folder; None for the user's own.
        build: how to build it, or a shard of it; `build_here` unless given.
        on_shard: called with the number of crystals done after every shard.
        is_kept: put it into the cache. Without, it is built in memory, or, for a large set, on disk
            and taken out of the cache at once; it lasts as long as the table is in use.

    Raises:
        ConfigError: it must be built and does not fit into memory.
        DataError: a crystal has no usable cell.
    """
    folder, key = cache or default_cache_folder(), table_key(crystals, config)
    table = load_table(folder, key, config)
    if table is not None:
        return table
    with building(folder, key):
        table = load_table(folder, key, config)  # another process may just have built it
        if table is None:
            table = _build(crystals, config, folder, key, build, on_shard, is_kept=is_kept)
    if is_kept:
        keep_limit(folder, keep=(key,))
    return table


def _build(
    crystals: CrystalSet,
    config: TableConfig,
    folder: Path,
    key: str,
    build: Builder,
    on_shard: Callable[[int], None],
    *,
    is_kept: bool,
) -> FeatureTable:
    table = None
    if is_large(crystals):
        table = build_in_shards(
            crystals, config, folder=folder, key=key, build=build, on_shard=on_shard
        )
        if table is not None and not is_kept:
            with contextlib.suppress(OSError):
                remove_key(folder, key)
    if table is None:
        table = build(crystals, config)
        if is_kept:
            store_table(folder, key, table)
    return table


def time_build(config: TableConfig, crystals: CrystalSet) -> float:
    """Give the wall seconds of building a table on one core, without any cache.

    One crystal is built before the clock runs, so that no import is counted.
    """
    config.build(crystals.take(np.arange(min(1, len(crystals)))))
    start = time.perf_counter()
    config.build(crystals)
    return time.perf_counter() - start
