"""Tables of large sets: equal to those built at once, found again after a kill, small in memory."""

import logging
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from raymat.data.crystals import CrystalSet
from raymat.features import table_shards
from raymat.features.edge_table import EdgeConfig
from raymat.features.graph_view import GraphView
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.soap import SoapConfig
from raymat.features.store import find_or_build
from raymat.features.table import FeatureTable, TableConfig
from raymat.features.table_cache import table_key

SHARD = 5
SOAP = SoapConfig(species=(8, 11, 14, 17, 22, 38, 55))
CONFIGS = [NeighborConfig(cutoff=5.0, max_neighbors=8), EdgeConfig(cutoff=5.0), SOAP]
VIEWS = [
    GraphView(cutoff=5.0, max_neighbors=8),
    GraphView(cutoff=3.0, max_neighbors=6),
    GraphView(cutoff=4.0, max_neighbors=4, pad="reference"),
    GraphView(cutoff=5.0, max_neighbors=None),
    GraphView(cutoff=2.5, max_neighbors=None, takes_lone_atoms=True),
]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_shards, "SHARD_CRYSTALS", SHARD)


def stored(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def shard_keys(crystals: CrystalSet, config: TableConfig) -> list[str]:
    return [table_key(shard, config) for shard in table_shards.cut_shards(crystals)]


def assert_same(first: FeatureTable, second: FeatureTable) -> None:
    assert first.config == second.config
    for name, dtype in first.dtypes.items():
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype.str == other.dtype.str == dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_it_is_the_table_that_is_built_at_once(twelve_crystals, tmp_path, config) -> None:
    done: list[int] = []
    table = find_or_build(twelve_crystals, config, cache=tmp_path, on_shard=done.append)
    assert_same(table, config.build(twelve_crystals))
    assert done == [5, 10, 12]
    assert stored(tmp_path) == {table_key(twelve_crystals, config)}  # the shards have served
    assert isinstance(getattr(table, next(iter(table.dtypes))).base, np.memmap)
    assert_same(find_or_build(twelve_crystals, config, cache=tmp_path), table)
    assert_same(pickle.loads(pickle.dumps(table)), table)
    assert table.facts()["n_crystals"] == 12


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_shards_with_the_same_crystals(twelve_crystals, tmp_path, config) -> None:
    """One stored shard stands for several places in the whole."""
    rows = np.array([*range(5), *range(5), *range(5, 10), *range(5), 11])
    crystals = twelve_crystals.take(rows)
    assert len(set(shard_keys(crystals, config))) == 3
    table = find_or_build(crystals, config, cache=tmp_path)
    assert_same(table, config.build(crystals))


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_every_view_reads_the_same_of_it(twelve_crystals, tmp_path, view) -> None:
    config = view.table_config
    whole = config.build(twelve_crystals)
    table = find_or_build(twelve_crystals, config, cache=tmp_path)
    rows = np.array([11, 4, 5, 0, 9])
    one, other = view.batch(table, rows), view.batch(whole, rows)
    for name in ("atomic_numbers", "edge_index", "distances", "crystal_index", "n_sites"):
        assert getattr(one, name).equal(getattr(other, name)), name
    assert one.degree == other.degree
    assert view.unusable(twelve_crystals, table) == view.unusable(twelve_crystals, whole)
    assert_same(table.take(rows), whole.take(rows))
    assert view.doubtful(twelve_crystals, table) == view.doubtful(twelve_crystals, whole)


def test_no_more_than_a_shard_is_built_at_a_time(twelve_crystals, tmp_path) -> None:
    sizes: list[int] = []

    def build(crystals: CrystalSet, config: NeighborConfig) -> FeatureTable:
        sizes.append(len(crystals))
        return config.build(crystals)

    find_or_build(twelve_crystals, CONFIGS[0], cache=tmp_path, build=build)
    assert sizes == [5, 5, 2]
    few = twelve_crystals.take(np.arange(SHARD))
    find_or_build(few, CONFIGS[0], cache=tmp_path, build=build)
    assert sizes[3:] == [5]


KILLED = """
    import os, pickle, signal, sys
    from raymat.features import store, table_shards

    table_shards.SHARD_CRYSTALS = {shard}
    crystals, config, folder = pickle.load(open(sys.argv[1], "rb"))
    built = []

    def build(crystals, config):
        if len(built) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        built.append(1)
        return config.build(crystals)

    store.find_or_build(crystals, config, cache=folder, build=build)
"""


def test_a_build_that_was_killed_goes_on(twelve_crystals, tmp_path) -> None:
    config, cache = CONFIGS[0], tmp_path / "cache"
    job = tmp_path / "job.pkl"
    job.write_bytes(pickle.dumps((twelve_crystals.without_properties(), config, cache)))
    script = textwrap.dedent(KILLED.format(shard=SHARD))
    ended = subprocess.run([sys.executable, "-c", script, job], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert stored(cache) == set(shard_keys(twelve_crystals, config)[:2])
    built: list[int] = []

    def build(crystals: CrystalSet, config: NeighborConfig) -> FeatureTable:
        built.append(len(crystals))
        return config.build(crystals)

    table = find_or_build(twelve_crystals, config, cache=cache, build=build)
    assert built == [2]  # the last shard alone
    assert_same(table, config.build(twelve_crystals))


def test_a_damaged_shard_is_built_again(twelve_crystals, tmp_path, monkeypatch) -> None:
    config = CONFIGS[1]
    with monkeypatch.context() as patch:
        patch.setattr(table_shards, "store_joined", lambda *_: False)
        find_or_build(twelve_crystals, config, cache=tmp_path)
    path = tmp_path / shard_keys(twelve_crystals, config)[1] / "distances.npy"
    path.write_bytes(path.read_bytes()[:-3])
    (tmp_path / table_key(twelve_crystals, config) / "header.json").unlink()
    assert_same(
        find_or_build(twelve_crystals, config, cache=tmp_path), config.build(twelve_crystals)
    )


def test_another_process_may_be_first(twelve_crystals, tmp_path, monkeypatch) -> None:
    """It joins the shards and removes them just before this one wants to."""
    config, join = CONFIGS[0], table_shards.store_joined

    def too_late(folder, key, config, keys) -> bool:
        assert join(folder, key, config, keys)
        for shard in keys:
            table_shards.remove_key(folder, shard)
        return join(folder, "0" * 64, config, keys)

    monkeypatch.setattr(table_shards, "store_joined", too_late)
    table = find_or_build(twelve_crystals, config, cache=tmp_path)
    assert_same(table, config.build(twelve_crystals))


def test_without_a_cache_it_is_built_in_memory(twelve_crystals, tmp_path, caplog) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        table = find_or_build(twelve_crystals, CONFIGS[0], cache=blocked / "cache")
    assert_same(table, CONFIGS[0].build(twelve_crystals))
    assert "table not cached" in caplog.text
