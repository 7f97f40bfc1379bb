"""The cache is looked at, cleared and kept small, and nothing else is touched."""

import json
import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError, RunError
from raymat.features.cache_contents import (
    LIMIT_VARIABLE,
    CacheContents,
    older_than,
    over_limit,
    parse_size,
    read_contents,
    remove_tables,
)
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.store import find_or_build
from raymat.features.table_cache import load_table, new_partial, table_key

CONFIGS = [NeighborConfig(cutoff=5.0, max_neighbors=n) for n in (4, 6, 8)]
NOW = time.time()


@pytest.fixture
def cache(tiny_crystals: CrystalSet, tmp_path: Path) -> CacheContents:
    """Three tables, last used 3, 2 and 1 hours ago."""
    folder = tmp_path / "cache"
    for age, config in zip((3, 2, 1), CONFIGS, strict=True):
        find_or_build(tiny_crystals, config, cache=folder)
        header = folder / table_key(tiny_crystals, config) / "header.json"
        os.utime(header, (NOW - 3600 * age,) * 2)
    return read_contents(folder)


def test_tables_are_listed_by_their_last_use(cache: CacheContents) -> None:
    assert [table.config["max_neighbors"] for table in cache.tables] == [4, 6, 8]
    assert [table.kind for table in cache.tables] == ["neighbors"] * 3
    assert [table.n_crystals for table in cache.tables] == [4] * 3
    on_disk = sum(file.stat().st_size for file in cache.folder.rglob("*") if file.is_file())
    assert cache.n_bytes == on_disk
    load_table(cache.folder, cache.tables[0].key, CONFIGS[0])
    again = read_contents(cache.folder)
    assert [table.config["max_neighbors"] for table in again.tables] == [6, 8, 4]


def test_what_is_not_ours_is_never_taken(cache: CacheContents, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    foreign = [cache.folder / "letters", cache.folder / ("a" * 64), cache.folder / "x.partial"]
    for folder in foreign:
        folder.mkdir()
        (folder / "love.txt").write_text("dear")
    (cache.folder / ("b" * 64)).symlink_to(elsewhere)
    new_partial(cache.folder, "c" * 64).mkdir()
    found = read_contents(cache.folder)
    assert found.tables == cache.tables
    assert (found.n_partial, found.n_other) == (1, 4)
    assert remove_tables(found.folder, found.tables) == found.n_bytes
    left = read_contents(cache.folder)
    assert (left.tables, left.n_partial, left.n_other) == ((), 1, 4)
    assert all((folder / "love.txt").exists() for folder in foreign)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"key": "'])
def test_a_damaged_table_can_be_taken_away(cache: CacheContents, text: str) -> None:
    broken = cache.folder / cache.tables[0].key / "header.json"
    broken.write_text(text)
    found = read_contents(cache.folder)
    assert [table.kind for table in found.tables] == ["neighbors", "neighbors", "damaged"]
    assert remove_tables(cache.folder, found.tables[-1:]) > 0
    assert len(read_contents(cache.folder).tables) == 2


def test_a_header_under_a_foreign_name_is_damage(cache: CacheContents) -> None:
    path = cache.folder / cache.tables[0].key / "header.json"
    content = json.loads(path.read_text()) | {"key": "d" * 64}
    path.write_text(json.dumps(content))
    assert {table.kind for table in read_contents(cache.folder).tables} == {"neighbors", "damaged"}


def test_the_least_recently_used_go_first(cache: CacheContents) -> None:
    oldest, second, newest = cache.tables
    assert over_limit(cache, cache.n_bytes) == []
    assert over_limit(cache, cache.n_bytes - 1) == [oldest]
    assert over_limit(cache, newest.n_bytes) == [oldest, second]
    assert over_limit(cache, 0) == [oldest, second, newest]
    assert over_limit(cache, 0, keep={second.key}) == [oldest, newest]
    assert older_than(cache, 2.5 * 3600) == [oldest]
    assert older_than(cache, 10 * 3600) == []


def test_a_mapped_table_stays_readable(cache: CacheContents, tiny_crystals) -> None:
    config = CONFIGS[2]
    table = load_table(cache.folder, table_key(tiny_crystals, config), config)
    assert table is not None
    remove_tables(cache.folder, cache.tables)
    np.testing.assert_array_equal(table.distances, config.build(tiny_crystals).distances)
    again = find_or_build(tiny_crystals, config, cache=cache.folder)  # built anew
    np.testing.assert_array_equal(table.distances, again.distances)


def test_the_standing_limit_holds_when_a_table_is_stored(
    cache: CacheContents, tiny_crystals, monkeypatch
) -> None:
    config = NeighborConfig(cutoff=5.0, max_neighbors=9)
    monkeypatch.setenv(LIMIT_VARIABLE, f"{cache.n_bytes / 1e3:.3f}kB")
    find_or_build(tiny_crystals, config, cache=cache.folder)
    kept = [t.config["max_neighbors"] for t in read_contents(cache.folder).tables]
    assert kept == [8, 9]
    monkeypatch.setenv(LIMIT_VARIABLE, "1B")
    find_or_build(tiny_crystals, CONFIGS[0], cache=cache.folder)
    kept = [t.config["max_neighbors"] for t in read_contents(cache.folder).tables]
    assert kept == [4]  # what was asked for stays, though it is larger


def test_a_limit_that_is_none_stops_no_run(tiny_crystals, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with caplog.at_level(logging.WARNING):
        find_or_build(tiny_crystals, CONFIGS[0], cache=tmp_path)
    assert "RAYMAT_CACHE_LIMIT much: expected a size with its unit" in caplog.text
    assert len(read_contents(tmp_path).tables) == 1


def test_sizes() -> None:
    sizes = {"20GB": 20e9, "0.5 gb": 5e8, "12kB": 12e3, "7B": 7, "1TB": 1e12, " 3MB ": 3e6}
    assert {text: parse_size(text, where="limit") for text in sizes} == sizes
    for text in ("", "20", "GB", "-1GB", "20 parsecs", "1e3MB", "nanGB"):
        with pytest.raises(ConfigError, match="expected a size with its unit, such as 500MB"):
            parse_size(text, where="limit")


def test_no_folder_and_no_right_to_read_it(tmp_path: Path) -> None:
    assert read_contents(tmp_path / "none").tables == ()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="the cache cannot be read"):
        read_contents(tmp_path / "file")


def clear_and_build(folder: Path, crystals: CrystalSet) -> set[int]:
    found = set()
    for _ in range(20):
        remove_tables(folder, read_contents(folder).tables)
        table = find_or_build(crystals, CONFIGS[0], cache=folder)
        found.add(int(np.isfinite(table.distances).sum()))
    return found


def test_two_processes_clear_and_build_at_once(tmp_path: Path, tiny_crystals) -> None:
    crystals = tiny_crystals.without_properties()
    with multiprocessing.get_context("spawn").Pool(1) as other:
        other.apply(int)  # it has started
        theirs = other.apply_async(clear_and_build, (tmp_path, crystals))
        ours = set()
        while not theirs.ready():
            ours |= clear_and_build(tmp_path, crystals)
        expected = {int(np.isfinite(CONFIGS[0].build(tiny_crystals).distances).sum())}
        assert theirs.get(60) == ours == expected
    left = read_contents(tmp_path)
    assert (left.n_partial, left.n_other) == (0, 0)
