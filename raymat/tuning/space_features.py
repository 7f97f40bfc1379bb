"""Which features the trials of a search will ask for."""

from collections.abc import Iterable, Iterator

import numpy as np

from raymat.data.crystals import CrystalSet
from raymat.features.graph_view import GraphView
from raymat.features.table import FeatureTable, FeatureView, TableConfig
from raymat.models import load_spec
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space_checks import extreme_values
from raymat.tuning.trial_config import TrialConfig

_N_PROBES = 50  # configurations drawn to meet unfavourable combinations


def tables_to_build(space: SearchSpace) -> tuple[TableConfig, ...]:
    """Give the tables to build before the first trial.

    One graph holds every smaller graph of the space. A descriptor holds no other, so only those
    of the configurations that are tried first are built; a trial finds or builds any other itself.
    """
    tables: list[TableConfig] = []
    for config in _first_configurations(space):
        _add(tables, _view(config).table_config)
    for config in _other_configurations(space):
        _widen(tables, _view(config).table_config)
    return tuple(tables)


def configurations_of(space: SearchSpace) -> list[TrialConfig]:
    """Give configurations at the default of a space, at its ends, and at random places."""
    return [*_first_configurations(space), *_other_configurations(space)]


def views_of(space: SearchSpace) -> Iterator[FeatureView]:
    """Give what the trials of a space may read: at its default, its ends, and random places."""
    yield from (_view(config) for config in configurations_of(space))


def unusable_rows(
    space: SearchSpace, crystals: CrystalSet, tables: Iterable[FeatureTable]
) -> dict[int, str]:
    """Give the rows that some trial of a space could not take, each with a reason."""
    return _unusable(views_of(space), crystals, tables)


def tables_of(configs: Iterable[TrialConfig]) -> tuple[TableConfig, ...]:
    """Give the fewest tables that serve some configurations."""
    tables: list[TableConfig] = []
    for config in configs:
        _add(tables, _view(config).table_config)
    return tuple(tables)


def unusable_rows_of(
    configs: Iterable[TrialConfig], crystals: CrystalSet, tables: Iterable[FeatureTable]
) -> dict[int, str]:
    """Give the rows that some of these configurations could not take, each with a reason."""
    return _unusable(map(_view, configs), crystals, tables)


def _unusable(
    views: Iterable[FeatureView], crystals: CrystalSet, tables: Iterable[FeatureTable]
) -> dict[int, str]:
    found: dict[int, str] = {}
    for view in dict.fromkeys(views):
        table = next((t for t in tables if t.config.holds(view.table_config)), None)
        # A descriptor's view looks at the crystals alone, also where no table is built yet.
        if table is not None or not isinstance(view, GraphView):
            found |= view.unusable(crystals, table)
    return found


def _add(tables: list[TableConfig], wanted: TableConfig) -> None:
    if not _widen(tables, wanted):
        tables.append(wanted)


def _widen(tables: list[TableConfig], wanted: TableConfig) -> bool:
    """Let the first table that can be widened to hold `wanted` do so."""
    for place, table in enumerate(tables):
        both = table.union(wanted)
        if both is not None:
            tables[place] = both
            return True
    return False


def _first_configurations(space: SearchSpace) -> list[TrialConfig]:
    return [space.configure(values) for values in ({}, *space.try_first)]


def _other_configurations(space: SearchSpace) -> list[TrialConfig]:
    rng = np.random.default_rng(0)
    ends = [values for _, values in extreme_values(space)]
    return [space.configure(v) for v in (*ends, *(space.sample(rng) for _ in range(_N_PROBES)))]


def _view(config: TrialConfig) -> FeatureView:
    return load_spec(config.model).reads(config.architecture)
