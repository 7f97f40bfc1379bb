"""The neighbor search: golden graphs, a slow search, and what must not change the result."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from slow_neighbors import (
    enumerated_neighbors,
    one,
    pymatgen_neighbors,
    random_crystal,
    slow_rows,
    supercell,
)

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import DataError
from raymat.features import neighbors as search
from raymat.features import pair_search
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table, concatenate_tables
from raymat.features.shells import order_in_shells

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "crystal_graphs.json").read_text(encoding="utf-8"))["structures"]
GOLDEN_TOLERANCE = 1e-6  # Å, as its README says
FLOAT32_TOLERANCE = 2e-6  # Å, two roundings of a distance below 10 Å
MIXED_SIZES = (1, 2, 5, 1, 30, 3, 200, 8)


def golden_crystal(name: str) -> Crystal:
    from pymatgen.core import Lattice

    golden = GOLDEN[name]
    return Crystal(
        material_id=name,
        lattice=np.array(Lattice.from_parameters(*golden["lattice"]).matrix),
        atomic_numbers=np.array(golden["atomic_numbers"], dtype=np.uint8),
        frac_coords=np.array(golden["frac_coords"], dtype=np.float64),
    )


def elements_by_shell(distances, elements):
    shells, shell = [], 0
    for k in range(len(elements)):
        shell += k > 0 and distances[k] - distances[k - 1] > 1e-3
        shells.append((shell, elements[k]))
    return [sorted(z for _, z in of) for _, of in groupby(shells, key=lambda s: s[0])]


def table_of(crystal: Crystal, cutoff: float = 8.0, max_neighbors: int = 12):
    config = NeighborConfig(cutoff=cutoff, max_neighbors=max_neighbors)
    return build_neighbor_table(one(crystal), config)


def restricted(table, cutoff: float, max_neighbors: int):
    """The rows a smaller graph takes out of a larger table."""
    indices = np.zeros((len(table.indices), max_neighbors), dtype=np.uint16)
    distances = np.full(indices.shape, np.inf, dtype=np.float32)
    for i, row in enumerate(table.distances):
        kept = np.flatnonzero(row <= cutoff)[:max_neighbors]
        indices[i, : len(kept)] = table.indices[i, kept]
        distances[i, : len(kept)] = row[kept]
    return indices, distances


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_graph(name):
    crystal, sites = golden_crystal(name), GOLDEN[name]["sites"]
    table = table_of(crystal)
    for i, site in enumerate(sites):
        n_found = 12 - site["n_padded12"]
        assert np.isinf(table.distances[i]).sum() == site["n_padded12"]
        found = np.sort(table.distances[i, :n_found].astype(np.float64))
        assert np.allclose(found, site["distances12"][:n_found], rtol=0, atol=GOLDEN_TOLERANCE)
        last = n_found
        if site.get("ambiguous12"):  # which of the last shell is kept is the library's choice
            last -= site["tied12"]["taken"]
            tied = crystal.atomic_numbers[table.indices[i, last:]]
            assert set(tied.tolist()) <= set(site["tied12"]["Z_in_shell"])
        ours = crystal.atomic_numbers[table.indices[i, :last]].tolist()
        theirs = site["neighbour_Z12"][:last]
        assert elements_by_shell(found, ours) == elements_by_shell(found, theirs)
    assert table.n_ambiguous[0] == sum(bool(site.get("ambiguous12")) for site in sites)
    n_ambiguous8 = sum(bool(site.get("ambiguous8")) for site in sites)
    assert table_of(crystal, max_neighbors=8).n_ambiguous[0] == n_ambiguous8


@pytest.mark.parametrize("cutoff", [3.0, 6.5])
@pytest.mark.parametrize("by", [pymatgen_neighbors, enumerated_neighbors])
@pytest.mark.parametrize("max_neighbors", [1, 8, 12, 40])
def test_equals_slow_search(by, cutoff, max_neighbors):
    rng = np.random.default_rng(max_neighbors)
    sizes = [size for size in MIXED_SIZES if size < 100]
    crystals = [random_crystal(rng, size, spread=1 + k % 2) for k, size in enumerate(sizes)]
    config = NeighborConfig(cutoff=cutoff, max_neighbors=max_neighbors)
    table = build_neighbor_table(CrystalSet.from_crystals(crystals), config)
    rows = [slow_rows(crystal, cutoff, max_neighbors, by) for crystal in crystals]
    assert np.array_equal(table.indices, np.concatenate([row[0] for row in rows]))
    slow = np.concatenate([row[1] for row in rows])
    assert np.array_equal(np.isinf(table.distances), np.isinf(slow))
    assert np.allclose(table.distances, slow, rtol=0, atol=FLOAT32_TOLERANCE)
    assert table.n_ambiguous.tolist() == [row[2] for row in rows]


def test_equals_slow_search_at_200_atoms():
    crystal = random_crystal(np.random.default_rng(7), 200, spread=2)
    config = NeighborConfig(cutoff=5.0, max_neighbors=16, ties="index")
    table = build_neighbor_table(one(crystal), config)
    indices, distances, _ = slow_rows(crystal, 5.0, 16, pymatgen_neighbors, ties="index")
    assert np.array_equal(table.indices, indices)
    assert np.allclose(table.distances, distances, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("ties", ["surroundings", "index"])
@pytest.mark.parametrize("max_neighbors", [8, 12])
def test_tied_shells_equal_slow_search(tiny_crystals, max_neighbors, ties):
    config = NeighborConfig(cutoff=8.0, max_neighbors=max_neighbors, ties=ties)
    table = build_neighbor_table(tiny_crystals, config)
    for k in range(len(tiny_crystals)):
        indices, distances, n_ambiguous = slow_rows(tiny_crystals[k], 8.0, max_neighbors, ties=ties)
        atoms = slice(table.offsets[k], table.offsets[k + 1])
        assert np.array_equal(table.indices[atoms], indices)
        assert np.allclose(table.distances[atoms], distances, rtol=0, atol=FLOAT32_TOLERANCE)
        assert table.n_ambiguous[k] == n_ambiguous


def test_first_radius_does_not_change_the_result(tiny_crystals, monkeypatch):
    rng = np.random.default_rng(3)
    random = [random_crystal(rng, size) for size in (1, 4, 40)]
    crystals = CrystalSet.from_crystals([*random, *(tiny_crystals[k] for k in range(4))])
    config = NeighborConfig(cutoff=6.0, max_neighbors=12)
    expected = build_neighbor_table(crystals, config)
    edges = np.unique(expected.distances[np.isfinite(expected.distances)].astype(np.float64))
    for radius in (0.5, 1.0, *edges[::9], *(edges[::11] + 1e-4), *(edges[::13] + 1e-9), 6.0, 99.0):
        radii = np.full(len(crystals), radius)
        monkeypatch.setattr(search, "_first_radii", lambda *_, radii=radii: radii)
        table = build_neighbor_table(crystals, config)
        assert np.array_equal(table.indices, expected.indices), radius
        assert np.array_equal(table.distances, expected.distances), radius
        assert np.array_equal(table.n_ambiguous, expected.n_ambiguous), radius


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(4)
    crystals = CrystalSet.from_crystals([random_crystal(rng, size) for size in MIXED_SIZES])
    config = NeighborConfig(cutoff=5.0, max_neighbors=12)
    expected = build_neighbor_table(crystals, config)
    monkeypatch.setattr(pair_search, "ATOMS_PER_CHUNK", 6)
    table = build_neighbor_table(crystals, config)
    assert np.array_equal(table.indices, expected.indices)
    assert np.array_equal(table.distances, expected.distances)
    parts = [crystals.take(np.arange(k, k + 2)) for k in range(0, len(crystals), 2)]
    joined = concatenate_tables([build_neighbor_table(part, config) for part in parts])
    assert np.array_equal(joined.offsets, expected.offsets)
    assert np.array_equal(joined.indices, expected.indices)
    assert np.array_equal(joined.n_ambiguous, expected.n_ambiguous)


@pytest.mark.parametrize(("cutoff", "max_neighbors"), [(6.0, 8), (6.0, 16), (8.0, 5), (3.0, 12)])
def test_a_smaller_graph_is_a_slice(tiny_crystals, cutoff, max_neighbors):
    rng = np.random.default_rng(5)
    random = [random_crystal(rng, size, spread=2) for size in (1, 7, 60)]
    crystals = CrystalSet.from_crystals([*random, *(tiny_crystals[k] for k in range(4))])
    large = build_neighbor_table(crystals, NeighborConfig(cutoff=8.0, max_neighbors=16))
    small = NeighborConfig(cutoff=cutoff, max_neighbors=max_neighbors)
    expected = build_neighbor_table(crystals, small)
    indices, distances = restricted(large, cutoff, max_neighbors)
    assert np.array_equal(indices, expected.indices)
    assert np.array_equal(distances, expected.distances)


def test_an_image_at_the_cutoff_is_a_neighbor():
    simple_cubic = Crystal("sc", np.eye(3) * 3.0, np.array([84], np.uint8), np.zeros((1, 3)))
    assert np.isfinite(table_of(simple_cubic, 3.0, 12).distances).sum() == 6
    assert np.isfinite(table_of(simple_cubic, 2.999, 12).distances).sum() == 0
    assert table_of(simple_cubic, 3.0, 12).n_ambiguous[0] == 0
    assert table_of(simple_cubic, 3.0, 6).n_ambiguous[0] == 0
    assert table_of(simple_cubic, 3.0, 5).n_ambiguous[0] == 1


def test_oxygen_of_strontium_titanate_is_cut_inside_a_mixed_shell(tiny_crystals):
    crystal = tiny_crystals[3]
    table = table_of(crystal)
    oxygen = 2
    assert table.n_ambiguous[0] == 4  # O: 2 Ti, then 4 Sr + 8 O; Ti: 6 O, then 8 Sr; Sr: 12 O
    elements = crystal.atomic_numbers[table.indices[oxygen]].tolist()
    assert elements == [22, 22] + [8] * 8 + [38] * 2  # the lighter element is kept
    by_index = build_neighbor_table(one(crystal), NeighborConfig(ties="index"))
    elements = crystal.atomic_numbers[by_index.indices[oxygen]].tolist()
    assert elements == [22, 22] + [38] * 4 + [8] * 6  # the lowest site numbers are kept
    order = np.array([4, 2, 0, 3, 1])
    permuted = Crystal(
        "p", crystal.lattice, crystal.atomic_numbers[order], crystal.frac_coords[order]
    )
    again = table_of(permuted)
    assert np.array_equal(np.sort(again.distances), np.sort(table.distances[order]))
    noisy = Crystal(
        "n",
        crystal.lattice,
        crystal.atomic_numbers,
        crystal.frac_coords + np.random.default_rng(0).normal(0, 1e-7, (5, 3)),
    )
    assert np.array_equal(table_of(noisy).indices, table.indices)


@pytest.mark.parametrize("n_sites", [1, 6, 40])
def test_what_must_not_change_distances(n_sites):
    rng = np.random.default_rng(n_sites)
    crystal = random_crystal(rng, n_sites)
    lattice, numbers, frac = crystal.lattice, crystal.atomic_numbers, crystal.frac_coords
    expected = np.sort(table_of(crystal).distances)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(n_sites)
    same = {
        "shift": Crystal("s", lattice, numbers, frac + rng.normal(size=3)),
        "rotation": Crystal("r", lattice @ rotation, numbers, frac),
        "cells": Crystal("c", lattice, numbers, frac + rng.integers(-4, 5, frac.shape)),
    }
    for name, other in same.items():
        found = np.sort(table_of(other).distances)
        assert np.allclose(found, expected, rtol=0, atol=FLOAT32_TOLERANCE), name
    permuted = Crystal("p", lattice, numbers[order], frac[order])
    found = np.sort(table_of(permuted).distances)
    assert np.allclose(found, expected[order], rtol=0, atol=FLOAT32_TOLERANCE)
    large = np.sort(table_of(supercell(crystal, (2, 1, 3))).distances)
    assert np.allclose(large, np.repeat(expected, 6, axis=0), rtol=0, atol=FLOAT32_TOLERANCE)


def test_a_shift_of_the_origin_keeps_the_neighbors(tiny_crystals):
    rng = np.random.default_rng(11)
    for k in range(len(tiny_crystals)):
        crystal = tiny_crystals[k]
        expected = table_of(crystal).indices
        for shift in rng.normal(size=(5, 3)):
            moved = Crystal(
                "m", crystal.lattice, crystal.atomic_numbers, crystal.frac_coords + shift
            )
            assert np.array_equal(table_of(moved).indices, expected)


def test_order_inside_a_shell_for_any_image_range():
    rng = np.random.default_rng(2)
    shell = np.sort(rng.integers(0, 40, 300))
    neighbor = rng.integers(0, 5, 300)
    for largest in (3, 2**40):  # packed into one integer, and too wide for that
        image = rng.integers(-largest, largest + 1, (300, 3))
        expected = sorted(
            range(300), key=lambda k, image=image: (shell[k], neighbor[k], *image[k].tolist())
        )
        ordered = order_in_shells(shell, neighbor, image)
        columns = np.column_stack([shell, neighbor, image])
        assert np.array_equal(columns[ordered], columns[expected])


def test_no_crystal_and_no_neighbor():
    config = NeighborConfig()
    empty = build_neighbor_table(CrystalSet.from_crystals([]), config)
    assert len(empty) == 0
    assert empty.indices.shape == (0, 12)
    lonely = Crystal("Xe", np.eye(3) * 30.0, np.array([54], np.uint8), np.zeros((1, 3)))
    table = table_of(lonely)
    assert np.isinf(table.distances).all()
    assert not table.indices.any()


def test_unusable_crystals_are_named():
    cube, numbers = np.eye(3) * 3.0, np.array([3], np.uint8)
    flat = Crystal("mp-flat", np.diag([3.0, 3.0, 0.0]), numbers, np.zeros((1, 3)))
    with pytest.raises(DataError, match="mp-flat: the cell has a volume of 0 Å3; drop"):
        table_of(flat)
    lost = Crystal("mp-nan", cube, numbers, np.array([[0.0, np.nan, 0.0]]))
    with pytest.raises(DataError, match=r"mp-nan: site 0 has coordinates \[0.0, nan, 0.0\]"):
        table_of(lost)
    huge = Crystal("mp-huge", cube, np.ones(65_536, np.uint8), np.zeros((65_536, 3)))
    with pytest.raises(DataError, match="mp-huge: 65536 sites, at most 65535"):
        table_of(huge)


def test_rows_taken_are_those_of_the_crystals_taken(tiny_crystals):
    config, rows = NeighborConfig(cutoff=5.0, max_neighbors=12), np.array([3, 1, 3, 0])
    for some in (rows, rows[:0]):
        taken = build_neighbor_table(tiny_crystals, config).take(some)
        built = build_neighbor_table(tiny_crystals.take(some), config)
        assert taken.config == built.config
        assert len(taken) == len(some)
        for name, dtype in built.dtypes.items():
            assert np.array_equal(getattr(taken, name), getattr(built, name)), name
            assert getattr(taken, name).dtype.str == dtype, name
    assert build_neighbor_table(tiny_crystals, config).take(rows).n_ambiguous.any()


def test_tables_of_different_graphs_cannot_be_joined(tiny_crystals):
    tables = [build_neighbor_table(tiny_crystals, NeighborConfig(cutoff=r)) for r in (4.0, 5.0)]
    with pytest.raises(DataError, match=r"must share one configuration, found 2"):
        concatenate_tables(tables)
    with pytest.raises(DataError, match=r"must share one configuration, found 0"):
        concatenate_tables([])


@pytest.mark.data
def test_real_crystals_equal_slow_search(shared):
    import pandas as pd

    frame = pd.read_parquet(shared / "data" / "elastic_sample.parquet").head(60)
    crystals = CrystalSet.from_crystals(
        [
            Crystal(
                row.material_id,
                np.reshape(row.lattice, (3, 3)),
                np.asarray(row.atomic_numbers, dtype=np.uint8),
                np.reshape(row.frac_coords, (-1, 3)).astype(np.float64),
            )
            for row in frame.itertuples()
        ]
    )
    table = build_neighbor_table(crystals, NeighborConfig(cutoff=8.0, max_neighbors=12))
    for k in range(len(crystals)):
        indices, distances, n_ambiguous = slow_rows(crystals[k], 8.0, 12, pymatgen_neighbors)
        atoms = slice(table.offsets[k], table.offsets[k + 1])
        assert np.array_equal(table.indices[atoms], indices), frame.material_id[k]
        assert np.allclose(table.distances[atoms], distances, rtol=0, atol=FLOAT32_TOLERANCE)
        assert table.n_ambiguous[k] == n_ambiguous
