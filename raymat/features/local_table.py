"""Neighbor tables in this process: from the cache, or built and put there."""

from pathlib import Path

from raymat.data.crystals import CrystalSet
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.features.table_cache import default_cache_folder, load_table, store_table, table_key


def find_or_build_local_table(
    crystals: CrystalSet, config: NeighborConfig, *, cache: Path | None = None
) -> NeighborTable:
    """Take a neighbor table from the cache (the user's own if None), or build it there.

    Raises:
        DataError: a crystal has no usable cell.
    """
    folder, key = cache or default_cache_folder(), table_key(crystals, config)
    table = load_table(folder, key)
    if table is None:
        table = build_neighbor_table(crystals, config)
        store_table(folder, key, table)
    return table
