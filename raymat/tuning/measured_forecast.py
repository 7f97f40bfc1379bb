"""What a search will take, measured on a few crystals of the data before it begins."""

import time
from dataclasses import dataclass

import numpy as np

from raymat.data.crystals import CrystalSet
from raymat.data.splits import Split
from raymat.features.store import FeatureStore
from raymat.features.table import TableConfig
from raymat.models import load_spec
from raymat.properties import Property
from raymat.training.fit import FitData
from raymat.training.loops import start_fit
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space_features import tables_of, tables_to_build

SAMPLE = 384  # crystals whose features and epochs are timed


@dataclass(frozen=True)
class FeatureForecast:
    """What one table of features will take.

    Attributes:
        kind: what is computed, such as "neighbors".
        seconds: on one core.
        n_bytes: memory of the table.
    """

    kind: str
    seconds: float
    n_bytes: int


@dataclass(frozen=True)
class EpochForecast:
    """What an epoch of the default configuration will take.

    Attributes:
        seconds: of all training and validation rows, on one core or as many as a trial has.
        n_rows: training rows.
    """

    seconds: float
    n_rows: int


def forecast_features(space: SearchSpace, crystals: CrystalSet) -> list[FeatureForecast]:
    """Measure the features of a search on a sample, and scale them to all crystals by atoms."""
    return [_forecast_table(config, crystals) for config in tables_to_build(space)]


def _forecast_table(config: TableConfig, crystals: CrystalSet) -> FeatureForecast:
    sample = _sample(crystals)
    start = time.perf_counter()
    table = config.build(sample)
    elapsed = time.perf_counter() - start
    scale = int(crystals.n_sites.sum()) / max(int(sample.n_sites.sum()), 1)
    n_bytes = max(round(table.nbytes * scale), config.forecast_bytes(crystals))
    return FeatureForecast(config.kind, elapsed * scale, n_bytes)


def forecast_epoch(
    space: SearchSpace, crystals: CrystalSet, prop: Property, split: Split
) -> EpochForecast:
    """Train the default configuration for two epochs on a sample and scale the second.

    Raises:
        DataError: the sample cannot be learned from, such as one with equal targets.
    """
    config = space.configure({})
    sample = _sample(crystals)
    (table_config,) = tables_of([config])
    rows = np.arange(len(sample))
    cut = max(1, round(0.9 * len(sample)))
    data = FitData(
        features=FeatureStore(sample.without_properties(), (table_config.build(sample),)),
        targets=sample.target(prop.name),
        train=rows[:cut],
        validation=rows[cut:],
        task=prop.task,
    )
    training = config.training.model_copy(update={"epochs": 2})
    fit = start_fit(load_spec(config.model), config.architecture, training, data=data, seed=0)
    while not fit.finished:
        metrics = fit.run_epoch()
    n_rows = len(split.rows("train")) + len(split.rows("validation"))
    return EpochForecast(metrics.time_s * n_rows / len(sample), len(split.rows("train")))


def _sample(crystals: CrystalSet) -> CrystalSet:
    """Give up to `SAMPLE` crystals, drawn without regard to their order in the file."""
    if len(crystals) <= SAMPLE:
        return crystals
    rows = np.random.default_rng(0).permutation(len(crystals))[:SAMPLE]
    return crystals.take(np.sort(rows))
