"""Stored neighbor tables: no wrong hit, no half-written table, no stopped work."""

import json
import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from raymat.data.crystals import CrystalSet
from raymat.features import table_cache
from raymat.features.edge_table import EdgeConfig
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.features.soap import SoapConfig
from raymat.features.table_cache import (
    default_cache_folder,
    load_table,
    store_table,
    table_key,
)

CONFIG = NeighborConfig(cutoff=5.0, max_neighbors=8)
ARRAYS = ("offsets", "atomic_numbers", "indices", "distances", "n_ambiguous")


@pytest.fixture
def table(tiny_crystals: CrystalSet) -> NeighborTable:
    return build_neighbor_table(tiny_crystals, CONFIG)


def assert_same(found: NeighborTable | None, expected: NeighborTable) -> None:
    assert found is not None
    assert found.config == expected.config
    for field in fields(NeighborTable):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_hit_is_the_same_table_memory_mapped(tmp_path, tiny_crystals, table):
    key = table_key(tiny_crystals, CONFIG)
    assert load_table(tmp_path / "cache", key, CONFIG) is None
    store_table(tmp_path / "cache", key, table)
    found = load_table(tmp_path / "cache", key, CONFIG)
    assert_same(found, table)
    assert isinstance(found.distances.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.distances[0, 0] = 1.0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [key]


@pytest.mark.parametrize(
    "config", [CONFIG, EdgeConfig(cutoff=6.0), SoapConfig(species=tuple(range(1, 60)))]
)
def test_its_memory_is_handed_over_not_copied_when_it_is_pickled(tmp_path, tiny_crystals, config):
    """Ray keeps what is out of band once for all processes of a machine."""
    many = tiny_crystals.take(np.tile(np.arange(4), 50))
    key = table_key(many, config)
    store_table(tmp_path, key, config.build(many))
    found = load_table(tmp_path, key, config)
    buffers: list[pickle.PickleBuffer] = []
    in_band = pickle.dumps(found, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == len(found.dtypes)
    assert sum(buffer.raw().nbytes for buffer in buffers) == found.nbytes
    assert len(in_band) < 2000 < found.nbytes
    again = pickle.loads(in_band, buffers=buffers)
    assert all(np.array_equal(getattr(again, name), getattr(found, name)) for name in found.dtypes)


def test_empty_set_of_crystals(tmp_path):
    crystals = CrystalSet.from_crystals([])
    key = table_key(crystals, CONFIG)
    table = build_neighbor_table(crystals, CONFIG)
    store_table(tmp_path, key, table)
    assert_same(load_table(tmp_path, key, CONFIG), table)


def changed(crystals: CrystalSet, name: str) -> CrystalSet:
    array = getattr(crystals, name).copy()
    array.flat[-1] = np.nextafter(array.flat[-1], 9) if array.dtype.kind == "f" else 9
    return replace(crystals, **{name: array})


def test_every_change_of_content_misses(tiny_crystals, monkeypatch):
    first, second = tiny_crystals.take(np.arange(2)), tiny_crystals.take(np.arange(2, 4))
    keys = [
        table_key(tiny_crystals, CONFIG),
        table_key(tiny_crystals, NeighborConfig(cutoff=5.0, max_neighbors=9)),
        table_key(tiny_crystals, NeighborConfig(cutoff=5.0000001, max_neighbors=8)),
        table_key(tiny_crystals.take(np.array([1, 0, 2, 3])), CONFIG),
        table_key(first, CONFIG),
        table_key(second, CONFIG),
        *(
            table_key(changed(tiny_crystals, name), CONFIG)
            for name in ("lattices", "offsets", "atomic_numbers", "frac_coords")
        ),
    ]
    monkeypatch.setattr(NeighborConfig, "version", NeighborConfig.version + 1)
    keys.append(table_key(tiny_crystals, CONFIG))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("config", "package", "other"),
    [
        (CONFIG, "pymatgen-core", "dscribe"),
        (CONFIG, "pymatgen", "dscribe"),
        (EdgeConfig(cutoff=5.0), "pymatgen", "dscribe"),
        (SoapConfig(species=(8, 11)), "dscribe", "pymatgen"),
    ],
)
def test_another_version_of_what_computes_it_misses(
    tiny_crystals, monkeypatch, config, package, other
):
    def now(name: str, version: str) -> str:
        versions = {"pymatgen": "1", "pymatgen-core": "1", "dscribe": "1", name: version}
        monkeypatch.setattr(table_cache, "version", lambda wanted: versions[wanted])
        return table_key(tiny_crystals, config)

    assert now(package, "1") == now(other, "2")
    assert now(package, "1") != now(package, "2")


def test_a_package_that_is_not_there_has_no_version(tiny_crystals, monkeypatch):
    key = table_key(tiny_crystals, CONFIG)
    monkeypatch.setattr(NeighborConfig, "packages", ("pymatgen", "pymatgen-core", "no-such"))
    assert table_key(tiny_crystals, CONFIG) != key


def test_names_and_memory_layout_are_no_content(tiny_crystals):
    key = table_key(tiny_crystals, CONFIG)
    renamed = replace(tiny_crystals, material_ids=np.array(list("abcd"), dtype=object))
    fortran = replace(tiny_crystals, frac_coords=np.asfortranarray(tiny_crystals.frac_coords))
    assert table_key(renamed, CONFIG) == key
    assert table_key(fortran, CONFIG) == key


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [*ARRAYS, "header"])
@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, Path.unlink])
def test_damage_is_a_miss_and_is_repaired(tmp_path, tiny_crystals, table, name, damage):
    key = table_key(tiny_crystals, CONFIG)
    store_table(tmp_path, key, table)
    damage(tmp_path / key / ("header.json" if name == "header" else f"{name}.npy"))
    assert load_table(tmp_path, key, CONFIG) is None
    store_table(tmp_path, key, table)
    assert_same(load_table(tmp_path, key, CONFIG), table)
    assert [path.name for path in tmp_path.iterdir()] == [key]


def test_a_foreign_table_is_a_miss(tmp_path, tiny_crystals, table, caplog):
    key = table_key(tiny_crystals, CONFIG)
    other = table_key(tiny_crystals, NeighborConfig())
    store_table(tmp_path, key, table)
    shutil.copytree(tmp_path / key, tmp_path / other)
    with caplog.at_level(logging.WARNING):
        assert load_table(tmp_path, other, NeighborConfig()) is None
    assert f"stored as neighbors {key}" in caplog.text


def test_header_that_lies_about_shapes_is_a_miss(tmp_path, tiny_crystals, table):
    key = table_key(tiny_crystals, CONFIG)
    store_table(tmp_path, key, table)
    path = tmp_path / key / "header.json"
    header = json.loads(path.read_text())
    header["shapes"]["indices"] = [1, 8]
    path.write_text(json.dumps(header))
    assert load_table(tmp_path, key, CONFIG) is None


def test_what_killed_writers_left_is_swept(tmp_path, tiny_crystals, table):
    old, new = (table_cache.new_partial(tmp_path, letter * 64) for letter in "ab")
    damaged, foreign = tmp_path / f"damaged-{old.name}", tmp_path / "letters.partial"
    for folder in (old, new, damaged, foreign):
        folder.mkdir()
    for folder in (old, damaged, foreign):
        os.utime(folder, (0, 0))
    store_table(tmp_path, table_key(tiny_crystals, CONFIG), table)
    assert not old.exists()
    assert not damaged.exists()
    assert new.exists()
    assert foreign.exists()


def test_a_folder_that_cannot_be_written_only_warns(tmp_path, tiny_crystals, table, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    key = table_key(tiny_crystals, CONFIG)
    with caplog.at_level(logging.WARNING):
        store_table(blocked / "cache", key, table)
    assert "table not cached" in caplog.text
    assert "RAYMAT_CACHE" in caplog.text
    assert load_table(blocked / "cache", key, CONFIG) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and run_mount("-t", "tmpfs", "-o", "size=16k", "tmpfs", disk)
    if not mounted:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def run_mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


def test_read_only_folder_only_warns(small_disk, tiny_crystals, table, caplog):
    key = table_key(tiny_crystals, CONFIG)
    assert run_mount("-o", "remount,ro", small_disk)
    with caplog.at_level(logging.WARNING):
        store_table(small_disk, key, table)
    assert "table not cached" in caplog.text
    assert "Read-only file system" in caplog.text
    assert load_table(small_disk, key, CONFIG) is None


def test_full_disk_only_warns_and_leaves_nothing(small_disk, tiny_crystals, table, caplog):
    key = table_key(tiny_crystals, CONFIG)
    with caplog.at_level(logging.WARNING):
        store_table(small_disk, key, table)
    assert "table not cached" in caplog.text
    assert list(small_disk.iterdir()) == []
    assert load_table(small_disk, key, CONFIG) is None


def store_and_load(folder: Path, crystals: CrystalSet, start, answers) -> None:
    table = build_neighbor_table(crystals, CONFIG)
    key = table_key(crystals, CONFIG)
    start.wait(60)
    for _ in range(20):
        store_table(folder, key, table)
        found = load_table(folder, key, CONFIG)
        answers.put(found is not None and np.array_equal(found.distances, table.distances))


def test_two_processes_at_once(tmp_path, tiny_crystals):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=store_and_load, args=(tmp_path, tiny_crystals, start, answers))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    assert all(answers.get(timeout=120) for _ in range(40))
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == [table_key(tiny_crystals, CONFIG)]


def test_cache_folder_is_looked_up_when_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "mine"))
    assert default_cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("RAYMAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "raymat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "raymat"
