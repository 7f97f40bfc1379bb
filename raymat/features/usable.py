"""Which crystals some models can read, and what they read of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.features.store import FeatureStore, find_or_build
from raymat.features.table import FeatureTable, FeatureView, TableConfig


@dataclass(frozen=True)
class UsableFeatures:
    """The features of those crystals that every model can read.

    Attributes:
        rows: of these crystals, ascending.
        features: of them alone.
        unusable: row of every other crystal -> why it cannot be read.
    """

    rows: NDArray[np.int64]
    features: FeatureStore
    unusable: dict[int, str]


def usable_features(
    crystals: CrystalSet,
    views: Iterable[FeatureView],
    *,
    cache: Path | None = None,
    is_kept: bool = True,
) -> UsableFeatures:
    """Take from the cache, or build, what some views read, and leave out what one cannot read.

    Args:
        crystals: those to read.
        views: of the models.
        cache: the cache's folder; None for the user's own.
        is_kept: put what is built into the cache.

    Raises:
        ConfigError: the features do not fit into memory.
    """
    tables: dict[TableConfig, FeatureTable] = {}
    unusable: dict[int, str] = {}
    for view in dict.fromkeys(views):
        config = view.table_config
        if config not in tables:
            tables[config] = find_or_build(crystals, config, cache=cache, is_kept=is_kept)
        unusable |= view.unusable(crystals, tables[config])
    rows = np.setdiff1d(np.arange(len(crystals)), list(unusable)).astype(np.int64)
    if not unusable:
        return UsableFeatures(rows, FeatureStore(crystals, tuple(tables.values()), cache), {})
    kept = tuple(table.take(rows) for table in tables.values())
    return UsableFeatures(rows, FeatureStore(crystals.take(rows), kept, cache), unusable)
