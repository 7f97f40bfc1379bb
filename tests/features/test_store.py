"""The tables of a crystal set: one at hand, one from the cache, or one that is built."""

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raymat.data.crystals import CrystalSet
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError
from raymat.features import store as store_module
from raymat.features.edge_table import EdgeConfig
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.features.store import FeatureStore, find_or_build, time_build
from raymat.features.table_cache import table_key

SMALL = NeighborConfig(cutoff=4.0, max_neighbors=6)
WIDE = NeighborConfig(cutoff=6.0, max_neighbors=12)


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds a table of neighbors is caught."""

    def refuse(*_: object) -> NeighborTable:
        raise AssertionError("a table was built")

    monkeypatch.setattr(NeighborConfig, "build", refuse)


def same(first: NeighborTable, second: NeighborTable) -> bool:
    return first.config == second.config and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in first.dtypes
    )


@pytest.mark.usefixtures("no_building")
@pytest.mark.parametrize("wanted", [SMALL, WIDE, NeighborConfig(cutoff=4.0, max_neighbors=12)])
def test_a_wider_table_at_hand_serves(tiny_crystals: CrystalSet, tmp_path: Path, wanted) -> None:
    at_hand = build_neighbor_table(tiny_crystals, WIDE)
    store = FeatureStore(tiny_crystals, (at_hand,), cache=tmp_path)
    assert store.find(wanted) is at_hand
    assert list(tmp_path.iterdir()) == []  # what is at hand is not stored again


def test_the_first_table_that_holds_it_is_taken(tiny_crystals: CrystalSet, tmp_path: Path) -> None:
    tables = tuple(config.build(tiny_crystals) for config in (EdgeConfig(cutoff=6.0), SMALL, WIDE))
    store = FeatureStore(tiny_crystals, tables, cache=tmp_path)
    assert store.find(WIDE) is tables[2]
    assert store.find(SMALL) is tables[1]
    assert store.find(EdgeConfig(cutoff=5.0)) is tables[0]


@pytest.mark.parametrize(
    "wanted",
    [
        NeighborConfig(cutoff=6.5, max_neighbors=6),
        NeighborConfig(cutoff=4.0, max_neighbors=13),
        EdgeConfig(cutoff=3.0),
    ],
)
def test_a_smaller_or_other_table_does_not_serve(
    tiny_crystals: CrystalSet, tmp_path: Path, wanted
) -> None:
    at_hand = build_neighbor_table(tiny_crystals, WIDE)
    found = FeatureStore(tiny_crystals, (at_hand,), cache=tmp_path).find(wanted)
    assert found is not at_hand
    assert found.config == wanted
    assert same(found, wanted.build(tiny_crystals))


def test_what_was_built_comes_from_the_cache(
    tiny_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = FeatureStore(tiny_crystals, cache=tmp_path).find(SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [table_key(tiny_crystals, SMALL)]
    monkeypatch.setattr(NeighborConfig, "build", None)
    again = FeatureStore(tiny_crystals, cache=tmp_path).find(SMALL)
    assert same(again, built)
    assert isinstance(again.distances.base, np.memmap)


def test_other_crystals_miss(tiny_crystals: CrystalSet, tmp_path: Path) -> None:
    find_or_build(tiny_crystals, SMALL, cache=tmp_path)
    fewer = tiny_crystals.take(np.array([2, 0]))
    found = find_or_build(fewer, SMALL, cache=tmp_path)
    assert same(found, SMALL.build(fewer))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_users_own_cache(
    tiny_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "mine"))
    find_or_build(tiny_crystals, SMALL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [
        table_key(tiny_crystals, SMALL)
    ]


def test_a_given_builder_is_asked_once(tiny_crystals: CrystalSet, tmp_path: Path) -> None:
    asked = []

    def build(crystals: CrystalSet, config: NeighborConfig) -> NeighborTable:
        asked.append((crystals, config))
        return config.build(crystals)

    for _ in range(2):
        find_or_build(tiny_crystals, SMALL, cache=tmp_path, build=build)
    assert asked == [(tiny_crystals, SMALL)]


def test_what_does_not_fit_is_refused_before_it_is_built(
    tiny_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tiny_crystals, cache=tmp_path)
    needed = 2 * SMALL.forecast_bytes(tiny_crystals)
    monkeypatch.setattr(store_module, "available_memory", lambda: needed - 1)
    with monkeypatch.context() as building:
        building.setattr(NeighborConfig, "build", None)
        with pytest.raises(ConfigError, match=r"free; lower model.max_neighbors, or take fewer"):
            store.find(SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(store_module, "available_memory", lambda: needed)
    built = store.find(SMALL)
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    assert same(store.find(SMALL), built)  # what is mapped from the cache needs no memory


def test_imports_are_not_timed(tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes = [0.0], []

    def build(_: NeighborConfig, crystals: CrystalSet) -> None:
        clock[0] += 1.0 if sizes else 100.0  # the first one imports
        sizes.append(len(crystals))

    monkeypatch.setattr(NeighborConfig, "build", build)
    monkeypatch.setattr(store_module.time, "perf_counter", lambda: clock[0])
    assert time_build(SMALL, tiny_crystals) == 1.0
    assert sizes == [1, 4]
    assert time_build(SMALL, tiny_crystals.take(np.zeros(0, dtype=np.int64))) == 1.0


def test_a_store_travels_with_its_tables(twelve_crystals: CrystalSet, tmp_path: Path) -> None:
    """It is sent to other processes; no target may go with it."""
    table = build_neighbor_table(twelve_crystals, SMALL)
    store = FeatureStore(twelve_crystals.without_properties(), (table,), cache=tmp_path)
    again = pickle.loads(pickle.dumps(store))
    assert same(again.find(SMALL), table)
    assert list(again.crystals.properties.columns) == []
    assert len(again.crystals.properties) == 12
    assert isinstance(twelve_crystals.properties, pd.DataFrame)
    assert "y" in twelve_crystals.properties  # the set itself keeps its own


BUILDER = """
import sys
from pathlib import Path
from raymat.data.readers import load_crystals
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.store import build_here, find_or_build

def build(crystals, config):
    with Path(sys.argv[2]).open("a") as tally:
        tally.write("built\\n")
    return build_here(crystals, config)

crystals = load_crystals(sys.argv[1], max_rejected=0.0).crystals
print("ready", flush=True)
sys.stdin.readline()
config = NeighborConfig(cutoff=6.0, max_neighbors=12)
print(len(find_or_build(crystals, config, cache=Path(sys.argv[3]), build=build)))
"""


def test_processes_that_begin_together_build_once(
    tiny_crystals: CrystalSet, tmp_path: Path
) -> None:
    write_crystals(tiny_crystals, tmp_path / "tiny.parquet")
    arguments = [str(tmp_path / name) for name in ("tiny.parquet", "tally", "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", BUILDER, *arguments], **pipes)
            )
            for _ in range(4)
        ]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate()[0] for process in started] == ["4\n"] * 4
    assert (tmp_path / "tally").read_text() == "built\n"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_builder_that_was_killed_holds_nobody_up(tiny_crystals: CrystalSet, tmp_path: Path) -> None:
    (tmp_path / f".{table_key(tiny_crystals, SMALL)[:16]}.lock").touch()
    find_or_build(tiny_crystals, SMALL, cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [table_key(tiny_crystals, SMALL)]


def test_table_that_is_not_kept_leaves_the_cache_as_it_was(
    tiny_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_or_build(tiny_crystals, SMALL, cache=tmp_path, is_kept=False)
    assert same(found, SMALL.build(tiny_crystals))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("raymat.features.store.is_large", lambda _crystals: True)
    found = find_or_build(tiny_crystals, SMALL, cache=tmp_path, is_kept=False)
    assert same(found, SMALL.build(tiny_crystals))
    assert list(tmp_path.iterdir()) == []
