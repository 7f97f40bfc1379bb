"""Graphs as tensors: slices of a table, padding, joining, and the named sums."""

import numpy as np
import pytest
import torch

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.graph import (
    add_receivers,
    gather_receivers,
    gather_senders,
    mean_over_crystals,
    sum_over_crystals,
    sum_over_neighbors,
)
from raymat.features.graph_view import GraphView, batch_graph
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table

ALL = np.arange(4)


@pytest.fixture(scope="module")
def table(tiny_crystals):
    return build_neighbor_table(tiny_crystals, NeighborConfig(cutoff=8.0, max_neighbors=16))


@pytest.fixture(scope="module")
def sparse():
    """Helium with 6 neighbors inside 8 Å, xenon with none, CsCl with more than 12."""
    crystals = [
        Crystal("He", np.eye(3) * 7.0, np.array([2], dtype=np.uint8), np.zeros((1, 3))),
        Crystal("Xe", np.eye(3) * 9.0, np.array([54], dtype=np.uint8), np.zeros((1, 3))),
        Crystal(
            "CsCl",
            np.eye(3) * 4.11,
            np.array([55, 17], dtype=np.uint8),
            np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
        ),
    ]
    return build_neighbor_table(CrystalSet.from_crystals(crystals), NeighborConfig())


def edges_of(graph):
    rows = zip(
        graph.edge_index[0].tolist(),
        graph.edge_index[1].tolist(),
        graph.distances.tolist(),
        strict=True,
    )
    return list(rows)


@pytest.mark.parametrize(("cutoff", "cap"), [(8.0, 16), (8.0, 12), (5.0, 12), (3.0, 16), (2.0, 3)])
@pytest.mark.parametrize("pad", ["mask", "reference"])
def test_a_view_is_the_graph_built_for_it(tiny_crystals, table, cutoff, cap, pad):
    """Trials with other cutoffs share one table: each sees what its own table would hold."""
    own = build_neighbor_table(tiny_crystals, NeighborConfig(cutoff=cutoff, max_neighbors=cap))
    view = GraphView(cutoff, cap, pad)
    assert edges_of(batch_graph(table, ALL, view)) == edges_of(batch_graph(own, ALL, view))


def test_edges_are_the_rows_of_the_table(table):
    graph = batch_graph(table, ALL, GraphView(5.0, 12))
    expected = []
    for crystal in ALL:
        first = table.offsets[crystal]
        for atom in range(first, table.offsets[crystal + 1]):
            kept = [k for k in range(12) if table.distances[atom, k] <= 5.0]
            expected += [
                (first + table.indices[atom, k], atom, table.distances[atom, k]) for k in kept
            ]
    assert edges_of(graph) == expected


def test_joining_keeps_crystals_apart(table):
    graph = batch_graph(table, np.array([3, 0, 3]), GraphView(8.0, 12))
    assert graph.n_crystals == 3
    assert graph.n_sites.tolist() == [5, 8, 5]
    assert graph.crystal_index.tolist() == [0] * 5 + [1] * 8 + [2] * 5
    assert graph.atomic_numbers.tolist() == [38, 22, 8, 8, 8, *[11] * 4, *[17] * 4, 38, 22, 8, 8, 8]
    senders, receivers = graph.edge_index
    assert torch.equal(graph.crystal_index[senders], graph.crystal_index[receivers])
    assert graph.degree == 12


def test_masked_places_are_left_out(sparse):
    graph = batch_graph(sparse, np.arange(3), GraphView(8.0, 12, "mask"))
    received = torch.bincount(graph.edge_index[1], minlength=4)
    assert received.tolist() == [6, 0, 12, 12]
    assert graph.degree is None
    assert graph.distances.max() <= 8.0


def test_reference_padding_is_atom_0_one_angstrom_beyond(sparse):
    """Science a.1: the authors' code fills with index 0 of the same crystal at cutoff + 1."""
    order = np.array([2, 0, 1])  # CsCl first, so that atom 0 of the batch is another crystal's
    graph = batch_graph(sparse, order, GraphView(8.0, 12, "reference"))
    assert graph.degree == 12
    senders = graph.edge_index[0].view(-1, 12)
    distances = graph.distances.view(-1, 12)
    assert senders[2].tolist() == [2] * 12  # helium: its own images and its padding
    assert distances[2].tolist() == [7.0] * 6 + [9.0] * 6
    assert senders[3].tolist() == [3] * 12
    assert distances[3].tolist() == [9.0] * 12
    assert distances[:2].max() <= 8.0


def test_reference_padding_follows_the_views_cutoff(sparse):
    graph = batch_graph(sparse, np.array([0]), GraphView(6.5, 12, "reference"))
    assert graph.distances.tolist() == [7.5] * 12


@pytest.mark.parametrize("view", [GraphView(8.0, 12, "reference"), GraphView(8.0, 12, "mask")])
def test_named_sums(sparse, view):
    """The short cut for equal degrees and the general sum are the same sum."""
    graph = batch_graph(sparse, np.arange(3), view)
    torch.manual_seed(0)
    atoms = torch.randn(4, 3, dtype=torch.float64)
    messages = torch.randn(len(graph.distances), 3, dtype=torch.float64)
    assert torch.equal(gather_senders(atoms, graph), atoms[graph.edge_index[0]])
    assert torch.equal(gather_receivers(atoms, graph), atoms[graph.edge_index[1]])
    expected = messages + atoms[graph.edge_index[1]]
    torch.testing.assert_close(add_receivers(messages, atoms, graph), expected)
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for message, receiver in zip(messages, graph.edge_index[1], strict=True):
        expected[receiver] += message
    torch.testing.assert_close(sum_over_neighbors(messages, graph), expected)
    sums = torch.stack([atoms[0], atoms[1], atoms[2] + atoms[3]])
    torch.testing.assert_close(sum_over_crystals(atoms, graph), sums)
    means = sums / torch.tensor([[1.0], [1.0], [2.0]])
    torch.testing.assert_close(mean_over_crystals(atoms, graph), means)


def test_same_device_is_not_copied(table):
    graph = batch_graph(table, ALL, GraphView(8.0, 12))
    assert graph.to(torch.device("cpu")) is graph


@pytest.mark.gpu
def test_other_device(table):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")
    graph = batch_graph(table, ALL, GraphView(8.0, 12))
    moved = graph.to(torch.device("cuda"))
    assert moved.distances.is_cuda
    assert moved.edge_index.is_cuda
    assert moved.degree == graph.degree


def test_table_is_not_written_to(table):
    """Trials of one node share the table's memory."""
    before = (table.distances.copy(), table.indices.copy())
    graph = batch_graph(table, ALL, GraphView(8.0, 16, "reference"))
    graph.distances.zero_()
    graph.edge_index.zero_()
    graph.atomic_numbers.zero_()
    assert np.array_equal(table.distances, before[0])
    assert np.array_equal(table.indices, before[1])
    assert table.atomic_numbers.all()


def test_a_shell_that_the_cutoff_splits_keeps_its_nearer_neighbor():
    # One shell, chained within 1e-4 Å and ordered by index: the first is farther than the second.
    table = NeighborTable(
        offsets=np.array([0, 2]),
        atomic_numbers=np.array([11, 17], dtype=np.uint8),
        indices=np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint16),
        distances=np.array([[3.00005, 3.0, 4.0], [2.0, 3.0, 4.0]], dtype=np.float32),
        n_ambiguous=np.zeros(1, dtype=np.int32),
        config=NeighborConfig(cutoff=5.0, max_neighbors=3),
    )
    graph = batch_graph(table, np.array([0]), GraphView(cutoff=3.00001, max_neighbors=1))
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]
    assert graph.distances.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("view", [GraphView(8.5, 12), GraphView(8.0, 17)])
def test_a_view_that_reaches_beyond_the_table(table, view):
    with pytest.raises(ValueError, match="is smaller than the view"):
        view.batch(table, ALL)
