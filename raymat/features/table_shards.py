"""Tables of large sets: built and stored shard by shard, then joined on disk.

A shard is found in the cache by its own content, so a build that was killed goes on with the first
shard that is not there. When all are, their files are written one after the other into those of the
whole table, which is mapped; the shards have served then and are removed. In memory is never more
than one shard, beside the crystals themselves.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from raymat.data.crystals import CrystalSet
from raymat.features.cache_contents import remove_key
from raymat.features.table import FeatureTable, TableConfig
from raymat.features.table_cache import load_table, store_joined, store_table, table_key

Builder = Callable[[CrystalSet, Any], FeatureTable]
SHARD_CRYSTALS = 20_000
"""Crystals in a shard; fewer are built at once. With 30 atoms each, the usual mean of a database, a
shard takes 43 MB at 12 neighbors an atom and 0.5 GB at 150, and a kill costs seconds to minutes."""

_log = logging.getLogger(__name__)


def is_large(crystals: CrystalSet) -> bool:
    """Say whether a set makes more than one shard."""
    return len(crystals) > SHARD_CRYSTALS


def build_in_shards(
    crystals: CrystalSet,
    config: TableConfig,
    *,
    folder: Path,
    key: str,
    build: Builder,
    on_shard: Callable[[int], None],
) -> FeatureTable | None:
    """Build the table of a large set on disk.

    Args:
        crystals: whose features.
        config: which features.
        folder: of the cache.
        key: of the whole table.
        build: how to build a shard.
        on_shard: called with the number of crystals done after every shard.

    Returns:
        The mapped table; None where the cache cannot hold it, of which there is a warning.
    """
    keys: list[str] = []
    for shard in cut_shards(crystals):
        keys.append(table_key(shard, config))
        is_there = _is_stored(folder, keys[-1], config)
        if not is_there and not store_table(folder, keys[-1], build(shard, config)):
            return None
        on_shard(min(len(keys) * SHARD_CRYSTALS, len(crystals)))
    # Another process may have joined these shards, and removed them, just before.
    if not _is_stored(folder, key, config) and not store_joined(folder, key, config, keys):
        return load_table(folder, key, config)
    _remove(folder, keys)
    return load_table(folder, key, config)


def cut_shards(crystals: CrystalSet) -> Iterator[CrystalSet]:
    """Cut a set into consecutive shards, the last of which may be smaller."""
    n = len(crystals)
    for first in range(0, n, SHARD_CRYSTALS):
        yield crystals.take(np.arange(first, min(first + SHARD_CRYSTALS, n)))


def _is_stored(folder: Path, key: str, config: TableConfig) -> bool:
    return load_table(folder, key, config) is not None


def _remove(folder: Path, keys: list[str]) -> None:
    for key in dict.fromkeys(keys):
        try:
            remove_key(folder, key)
        except OSError as cause:
            _log.debug("%s: a shard is left in the cache (%s)", folder / key, cause)
