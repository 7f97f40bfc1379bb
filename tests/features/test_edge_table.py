"""All neighbors within a cutoff: golden counts, a slow search, symmetry, and batches."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from slow_neighbors import (
    canonical,
    enumerated_neighbors,
    one,
    pymatgen_neighbors,
    random_crystal,
    supercell,
)

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import DataError
from raymat.features import edge_table, pair_search
from raymat.features.edge_table import (
    EdgeConfig,
    EdgeTable,
    batch_edges,
    build_edge_table,
    concatenate_edge_tables,
)
from raymat.features.graph import sum_over_neighbors
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "crystal_graphs.json").read_text(encoding="utf-8"))["structures"]
FLOAT32_TOLERANCE = 2e-6  # Å, two roundings of a distance below 10 Å
ARRAYS = tuple(EdgeTable.dtypes)
MIXED_SIZES = (1, 2, 5, 1, 30, 3, 70, 8)


def golden_crystal(name: str) -> Crystal:
    from pymatgen.core import Lattice

    golden = GOLDEN[name]
    return Crystal(
        material_id=name,
        lattice=np.array(Lattice.from_parameters(*golden["lattice"]).matrix),
        atomic_numbers=np.array(golden["atomic_numbers"], dtype=np.uint8),
        frac_coords=np.array(golden["frac_coords"], dtype=np.float64),
    )


def table_of(crystals: Crystal | CrystalSet, cutoff: float = 5.0) -> EdgeTable:
    crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
    return EdgeConfig(cutoff=cutoff).build(crystals)


def assert_same(found: EdgeTable, expected: EdgeTable) -> None:
    assert found.config == expected.config
    for name in ARRAYS:
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype == np.dtype(EdgeTable.dtypes[name]), name
        assert np.array_equal(a, b), name


def graph_arrays(graph):
    return {name: t.numpy() for name, t in vars(graph).items() if isinstance(t, torch.Tensor)}


@pytest.fixture(scope="module")
def mixed() -> CrystalSet:
    """Random cells of 1 to 70 atoms, some with coordinates in far cells."""
    rng = np.random.default_rng(4)
    return CrystalSet.from_crystals(
        [random_crystal(rng, size, spread=1 + k % 2) for k, size in enumerate(MIXED_SIZES)]
    )


@pytest.fixture
def xenon() -> Crystal:
    """A cell so large that nothing is near."""
    return Crystal("Xe", np.eye(3) * 30.0, np.array([54], np.uint8), np.zeros((1, 3)))


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
@pytest.mark.parametrize("by", [pymatgen_neighbors, enumerated_neighbors])
def test_equals_slow_search(by, cutoff, tiny_crystals):
    rng = np.random.default_rng(8)
    random = [random_crystal(rng, size, spread=1 + k % 2) for k, size in enumerate((1, 2, 5, 30))]
    crystals = CrystalSet.from_crystals([*random, *(tiny_crystals[k] for k in range(4))])
    table = table_of(crystals, cutoff)
    slow = [of for k in range(len(crystals)) for of in by(crystals[k], cutoff)]
    edges = [n for neighbors in slow for shell in canonical(neighbors) for n in shell]
    assert np.diff(table.edge_offsets).tolist() == [len(neighbors) for neighbors in slow]
    assert table.indices.tolist() == [n[1] for n in edges]
    assert np.allclose(table.distances, [n[0] for n in edges], rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.data
@pytest.mark.parametrize("cutoff", [4, 5])
def test_golden_number_of_bonds(shared, cutoff):
    path = shared / "spec" / "golden" / "megnet.json"
    golden = json.loads(path.read_text(encoding="utf-8"))["structures"]
    expected = {name: of.get(f"n_bonds_cutoff{cutoff}", 0) for name, of in golden.items()}
    assert sum(n > 0 for n in expected.values()) >= 10
    found = {name: len(table_of(golden_crystal(name), cutoff).distances) for name in expected}
    assert found == expected


def test_capped_neighbors_are_the_first_edges(mixed):
    table = table_of(mixed, 5.0)
    capped = build_neighbor_table(mixed, NeighborConfig(cutoff=5.0, max_neighbors=6))
    for i, first in enumerate(table.edge_offsets[:-1]):
        n = min(6, table.edge_offsets[i + 1] - first)
        assert np.array_equal(capped.indices[i, :n], table.indices[first : first + n])
        assert np.array_equal(capped.distances[i, :n], table.distances[first : first + n])
        assert np.isinf(capped.distances[i, n:]).all()


def test_every_edge_has_its_reverse(mixed, tiny_crystals):
    crystals = CrystalSet.from_crystals([*(tiny_crystals[k] for k in range(4)), mixed[6]])
    graph = batch_edges(table_of(crystals), np.arange(5), 5.0)
    senders, receivers = graph.edge_index.tolist()
    distances = np.round(graph.distances.numpy().astype(float), 3).tolist()
    forth = Counter(zip(senders, receivers, distances, strict=True))
    assert forth == Counter(zip(receivers, senders, distances, strict=True))


def test_own_images_are_neighbors_and_the_atom_itself_is_not():
    simple_cubic = Crystal("sc", np.eye(3) * 3.0, np.array([84], np.uint8), np.zeros((1, 3)))
    assert table_of(simple_cubic, 3.0).distances.tolist() == [3.0] * 6  # at the cutoff: kept
    assert len(table_of(simple_cubic, 2.999).distances) == 0
    table = table_of(simple_cubic, 4.5)
    assert np.allclose(table.distances, [3.0] * 6 + [3.0 * 2**0.5] * 12, rtol=0, atol=1e-6)
    assert not table.indices.any()
    graph = batch_edges(table, np.zeros(2, dtype=np.int64), 4.5)
    assert graph.degree == 18
    assert graph.edge_index.tolist() == [[0] * 18 + [1] * 18] * 2
    assert batch_edges(table, np.array([0]), 3.0).degree == 6  # at a smaller cutoff, too
    assert batch_edges(table, np.array([0]), 2.999).degree is None


def test_one_isolated_atom(tiny_crystals):
    """A pair of atoms and a lonely one: the degrees differ, the lonely one has no edge."""
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.1, 0, 0]])
    crystal = Crystal("pair", np.eye(3) * 20.0, np.array([1, 2, 3], np.uint8), frac)
    crystals = CrystalSet.from_crystals([tiny_crystals[2], crystal, tiny_crystals[0]])
    table = table_of(crystals, 4.0)
    assert table.n_isolated.tolist() == [0, 1, 0]
    assert table.count_isolated(1.9).tolist() == [2, 3, 8]
    assert table.n_edges[1] == 2
    assert table.count_isolated(2.0).tolist() == [2, 1, 8]  # at the cutoff: a neighbor
    facts = table.facts()
    assert facts["isolated_sites"] == facts["isolated_crystals"] == 1
    assert facts["n_edges"] == len(table.distances)
    assert "within 4 Å of 13 atoms (1 without any)" in table.line()
    assert "without" not in table_of(tiny_crystals).line()
    graph = batch_edges(table, np.array([1]), 4.0)
    assert graph.edge_index.tolist() == [[2, 0], [0, 2]]
    assert graph.distances.tolist() == [2.0, 2.0]
    assert graph.degree is None
    received = sum_over_neighbors(torch.ones(2, 1), graph)
    assert received.flatten().tolist() == [1.0, 0.0, 1.0]


def test_a_crystal_without_neighbors_has_no_edges(xenon, tiny_crystals):
    table = table_of(CrystalSet.from_crystals([xenon, tiny_crystals[1], xenon]))
    assert table.n_isolated.tolist() == [1, 0, 1]
    assert table.n_edges[[0, 2]].tolist() == [0, 0]
    alone = batch_edges(table, np.array([0, 2]), 5.0)
    assert alone.edge_index.shape == (2, 0)
    assert alone.degree is None
    assert alone.n_sites.tolist() == [1.0, 1.0]
    together = batch_edges(table, np.array([2, 1, 0]), 5.0)
    assert set(together.edge_index.flatten().tolist()) == set(range(1, 9))
    assert len(together.distances) == table.n_edges[1]


def test_no_crystal_and_no_row(tiny_crystals):
    empty = table_of(CrystalSet.from_crystals([]))
    assert len(empty) == len(empty.n_edges) == len(empty.n_isolated) == 0
    assert_same(concatenate_edge_tables([empty, table_of(tiny_crystals)]), table_of(tiny_crystals))
    graph = batch_edges(table_of(tiny_crystals), np.zeros(0, dtype=np.int64), 5.0)
    assert (graph.n_crystals, graph.n_atoms, graph.degree) == (0, 0, None)


@pytest.mark.parametrize("cutoff", [2.0, 3.2, 4.0, 4.999])
def test_a_larger_table_serves_a_smaller_cutoff(mixed, tiny_crystals, cutoff):
    crystals = CrystalSet.from_crystals(
        [mixed[k] for k in range(8)] + [tiny_crystals[k] for k in range(4)]
    )
    rows = np.array([11, 3, 0, 9, 6, 8])
    small = batch_edges(table_of(crystals, cutoff), rows, cutoff)
    large = batch_edges(table_of(crystals, 5.0), rows, cutoff)
    assert small.degree == large.degree
    found, expected = graph_arrays(large), graph_arrays(small)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    isolated = table_of(crystals, 5.0).count_isolated(cutoff)
    assert np.array_equal(isolated, table_of(crystals, cutoff).n_isolated)


def test_a_shell_that_the_smaller_cutoff_splits():
    """Two neighbors 5e-5 Å apart are one shell, ordered by index: the farther one comes first."""
    frac = np.array([[0, 0, 0], [0.200005, 0, 0], [0, 0.2, 0]])
    crystal = Crystal("split", np.eye(3) * 10.0, np.array([1, 1, 1], np.uint8), frac)
    table = table_of(crystal, 2.5)
    assert table.indices[:2].tolist() == [1, 2]
    assert table.distances[0] > table.distances[1]
    graph = batch_edges(table, np.array([0]), 2.00002)
    assert graph.edge_index.tolist() == [[2, 0], [0, 2]]
    assert table_of(crystal, 2.00002).indices.tolist() == [2, 0]


def test_joined_parts_equal_the_whole(mixed):
    config = EdgeConfig(cutoff=5.0)
    parts = [config.build(mixed.take(np.arange(k, k + 2))) for k in range(0, 8, 2)]
    assert_same(config.join(parts), config.build(mixed))


def test_rows_taken_are_those_of_the_crystals_taken(mixed, xenon):
    crystals = CrystalSet.from_crystals([*(mixed[k] for k in range(8)), xenon])
    rows = np.array([5, 8, 0, 6, 8, 5])
    assert_same(table_of(crystals).take(rows), table_of(crystals.take(rows)))
    assert_same(table_of(crystals).take(rows[:0]), table_of(crystals.take(rows[:0])))


def test_tables_of_different_cutoffs_cannot_be_joined(tiny_crystals):
    tables = [table_of(tiny_crystals, cutoff) for cutoff in (4.0, 5.0)]
    with pytest.raises(DataError, match=r"must share one cutoff, found 2 \[4.0, 5.0\]"):
        concatenate_edge_tables(tables)
    with pytest.raises(DataError, match=r"must share one cutoff, found 0 \[\]"):
        concatenate_edge_tables([])


@pytest.mark.parametrize("atoms_per_chunk", [1, 6, 37])
def test_chunks_do_not_change_the_result(mixed, monkeypatch, atoms_per_chunk):
    expected = table_of(mixed)
    monkeypatch.setattr(pair_search, "ATOMS_PER_CHUNK", atoms_per_chunk)
    monkeypatch.setattr(edge_table, "ATOMS_PER_CHUNK", atoms_per_chunk)
    assert_same(table_of(mixed), expected)


def test_order_of_the_search_does_not_change_the_result(mixed, tiny_crystals, monkeypatch):
    crystals = CrystalSet.from_crystals([*(tiny_crystals[k] for k in range(4)), mixed[4]])
    expected = table_of(crystals)
    found_pairs, rng = pair_search.find_pairs, np.random.default_rng(7)

    def shuffled(*args):
        pairs = found_pairs(*args)
        return pairs.take(rng.permutation(len(pairs.atom)))

    monkeypatch.setattr(pair_search, "find_pairs", shuffled)
    for _ in range(3):
        assert_same(table_of(crystals), expected)


@pytest.mark.parametrize("cutoff", [2.9, 5.0])
def test_a_supercell_has_as_many_edges_per_atom(mixed, tiny_crystals, cutoff):
    for crystal in (mixed[0], mixed[2], tiny_crystals[0], tiny_crystals[3]):
        small = table_of(crystal, cutoff)
        large = table_of(supercell(crystal, (2, 1, 3)), cutoff)
        assert len(large.distances) == 6 * len(small.distances)
        found, expected = np.diff(large.edge_offsets), np.diff(small.edge_offsets)
        assert np.array_equal(found, np.repeat(expected, 6))
        assert np.allclose(
            np.sort(large.distances),
            np.sort(np.repeat(small.distances, 6)),
            rtol=0,
            atol=FLOAT32_TOLERANCE,
        )


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
def test_a_batch_is_its_crystals_side_by_side(mixed, xenon, cutoff):
    crystals = CrystalSet.from_crystals([*(mixed[k] for k in range(8)), xenon])
    table, rows = table_of(crystals), np.array([5, 8, 0, 6, 8, 2, 5])
    graph = batch_edges(table, rows, cutoff)
    single = [batch_edges(table, rows[k : k + 1], cutoff) for k in range(len(rows))]
    firsts = np.cumsum([0] + [g.n_atoms for g in single])
    expected = {
        "atomic_numbers": torch.cat([g.atomic_numbers for g in single]),
        "edge_index": torch.cat([g.edge_index + firsts[k] for k, g in enumerate(single)], dim=1),
        "distances": torch.cat([g.distances for g in single]),
        "crystal_index": torch.cat([g.crystal_index + k for k, g in enumerate(single)]),
        "n_sites": torch.cat([g.n_sites for g in single]),
    }
    for name, tensor in expected.items():
        assert getattr(graph, name).dtype == tensor.dtype, name
        assert torch.equal(getattr(graph, name), tensor), name
    receivers = graph.edge_index[1]
    assert (receivers.diff() >= 0).all()
    assert torch.equal(graph.crystal_index[receivers], graph.crystal_index[graph.edge_index[0]])
    assert float(graph.distances.max()) <= np.float32(cutoff)


def test_degree_is_set_where_all_atoms_have_equally_many(tiny_crystals):
    table = table_of(tiny_crystals, 4.2)
    salt, silicon, cesium = (
        batch_edges(table, np.array([k]), cutoff).degree
        for k, cutoff in ((0, 3.0), (1, 2.4), (2, 4.2))
    )
    assert (salt, silicon, cesium) == (6, 4, 14)
    both = batch_edges(table, np.array([0, 1]), 3.0)
    assert both.degree is None
    messages = torch.arange(6.0 * 8 * 3).view(48, 3)
    graph = batch_edges(table, np.array([0]), 3.0)
    total = torch.zeros(8, 3).index_add(0, graph.edge_index[1], messages)
    assert torch.equal(sum_over_neighbors(messages, graph), total)


def test_a_batch_is_a_copy(tiny_crystals):
    table = table_of(tiny_crystals)
    before = {name: getattr(table, name).copy() for name in ARRAYS}
    graph = batch_edges(table, np.arange(4), 5.0)
    for tensor in (graph.atomic_numbers, graph.edge_index, graph.distances):
        tensor.zero_()
    assert all(np.array_equal(getattr(table, name), before[name]) for name in ARRAYS)


def test_which_table_holds_which():
    wide, near = EdgeConfig(cutoff=5.0), EdgeConfig(cutoff=4.0)
    assert wide.holds(near)
    assert wide.holds(wide)
    assert not near.holds(wide)
    assert not wide.holds(NeighborConfig(cutoff=4.0))
    assert not NeighborConfig(cutoff=8.0).holds(near)
    assert near.union(NeighborConfig(cutoff=4.0)) is None
    assert near.union(wide) == wide.union(near) == wide
    assert (wide.kind, wide.table_class()) == ("edges", EdgeTable)
    for cutoff in (0.0, 15.1):
        with pytest.raises(ValidationError, match="cutoff"):
            EdgeConfig(cutoff=cutoff)


def test_memory_grows_with_the_edges(mixed):
    for cutoff in (5.0, 10.0):
        table = table_of(mixed, cutoff)
        per_atom = 9 * len(mixed.atomic_numbers) + 8 * (len(mixed) + 2)
        assert table.nbytes == 6 * len(table.distances) + per_atom
    # At 10 Å an atom has 200 neighbors; random places deviate little from the mean density.
    forecast = table.config.forecast_bytes(mixed)
    assert forecast == pytest.approx(table.nbytes, rel=0.05)


def test_unusable_crystals_are_named(tiny_crystals):
    flat = Crystal("mp-flat", np.diag([3.0, 3.0, 0.0]), np.array([3], np.uint8), np.zeros((1, 3)))
    with pytest.raises(DataError, match="mp-flat: the cell has a volume of 0 Å3; drop"):
        table_of(flat)
    both = CrystalSet.from_crystals([flat, tiny_crystals[0]])
    config = EdgeConfig(cutoff=4.0)
    expected = config.forecast_bytes(one(tiny_crystals[0]))
    assert config.forecast_bytes(both) == pytest.approx(expected, abs=9)


@pytest.mark.data
def test_real_crystals_equal_slow_search(shared):
    import pandas as pd

    frame = pd.read_parquet(shared / "data" / "elastic_sample.parquet").head(30)
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
    table = build_edge_table(crystals, EdgeConfig(cutoff=5.0))
    slow = [of for k in range(len(crystals)) for of in pymatgen_neighbors(crystals[k], 5.0)]
    edges = [n for neighbors in slow for shell in canonical(neighbors) for n in shell]
    assert np.diff(table.edge_offsets).tolist() == [len(neighbors) for neighbors in slow]
    assert table.indices.tolist() == [n[1] for n in edges]
    assert np.allclose(table.distances, [n[0] for n in edges], rtol=0, atol=FLOAT32_TOLERANCE)
