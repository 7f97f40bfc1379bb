"""Operations over segments against loops, and bonds that stand for several equal edges."""

import numpy as np
import pytest
import torch

from raymat.features.graph import CrystalGraph
from raymat.features.graph_view import GraphView
from raymat.features.segments import (
    SAME_DISTANCE,
    Segments,
    bond_graph,
    mean_over,
    softmax_over,
    spread,
    sum_over,
)

INDEX = torch.tensor([2, 0, 2, 2, 0])  # segment 1 is empty, and so is the last one, 3
COUNTS = torch.tensor([1.0, 3.0, 2.0, 1.0, 5.0], dtype=torch.float64)
VALUES = torch.tensor(np.random.default_rng(0).normal(size=(5, 3)))
SCORES = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.5], dtype=torch.float64)


@pytest.fixture(params=["once", "several times"])
def members(request):
    counts = COUNTS if request.param == "several times" else None
    weights = torch.ones(5, dtype=torch.float64) if counts is None else counts
    return Segments(INDEX, counts, torch.zeros(4, dtype=torch.float64).index_add(0, INDEX, weights))


def repeated(values, members):
    """Every member as often as it occurs: what the counts stand for."""
    if members.counts is None:
        return values, members.index
    times = members.counts.long()
    return values.repeat_interleave(times, 0), members.index.repeat_interleave(times)


def test_mean(members):
    values, index = repeated(VALUES, members)
    found = mean_over(VALUES, members)
    for s in (0, 2):
        torch.testing.assert_close(found[s], values[index == s].mean(0))
    assert not found[[1, 3]].any()  # nothing to average: 0, not nan


def test_sum_takes_each_row_once(members):
    expected = torch.stack([VALUES[s == INDEX].sum(0) for s in range(4)])
    torch.testing.assert_close(sum_over(VALUES, members), expected)
    assert sum_over(SCORES, members).shape == (4,)


def test_softmax(members):
    scores, index = repeated(SCORES, members)
    found = softmax_over(SCORES, members)
    for s in (0, 2):
        whole = torch.softmax(scores[index == s], 0)
        for k in torch.nonzero(s == INDEX).flatten():
            torch.testing.assert_close(found[k], whole[scores[index == s] == SCORES[k]].sum())
        assert float(found[s == INDEX].sum()) == pytest.approx(1.0, abs=1e-14)


def test_softmax_of_large_scores(members):
    found = softmax_over(SCORES + 1e4, members)
    torch.testing.assert_close(found, softmax_over(SCORES, members), rtol=1e-10, atol=0.0)


def test_gradients(members):
    scores, values = SCORES.clone().requires_grad_(), VALUES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: softmax_over(s, members), (scores,))
    assert torch.autograd.gradcheck(lambda v: mean_over(v, members), (values,))
    assert torch.autograd.gradcheck(
        lambda s, v: sum_over(softmax_over(s, members)[:, None] * v, members), (scores, values)
    )


def test_spread(members):
    rows = torch.arange(8.0).view(4, 2)
    assert torch.equal(spread(rows, members), rows[INDEX])


def graph_of(edges, *, crystal_index=(0, 0, 1)):
    """A graph of (receiver, sender, distance)."""
    receivers, senders, distances = zip(*edges, strict=True)
    crystals = torch.tensor(crystal_index)
    return CrystalGraph(
        atomic_numbers=torch.ones(len(crystals), dtype=torch.int64),
        edge_index=torch.tensor([senders, receivers]),
        distances=torch.tensor(distances, dtype=torch.float64),
        crystal_index=crystals,
        n_sites=torch.bincount(crystals).double(),
        degree=None,
    )


def test_equal_edges_are_one_bond():
    near = SAME_DISTANCE / 2
    edges = [(0, 1, 2.0), (0, 1, 2.0 + near), (0, 1, 2.5), (1, 0, 2.5), (2, 2, 3.0), (2, 2, 3.0)]
    bonds = bond_graph(graph_of(edges))
    assert bonds.senders.tolist() == [1, 1, 0, 2]
    assert bonds.bonds_of_atoms.index.tolist() == [0, 0, 1, 2]
    assert bonds.bonds_of_atoms.counts.tolist() == [2, 1, 1, 2]
    assert bonds.bonds_of_atoms.totals.tolist() == [3, 1, 2]
    assert bonds.bonds_of_crystals.index.tolist() == [0, 0, 0, 1]
    assert bonds.bonds_of_crystals.totals.tolist() == [4, 2]
    assert bonds.atoms_by_bonds.counts.tolist() == [3, 1, 2]
    assert bonds.atoms_by_bonds.totals.tolist() == [4, 2]
    assert bonds.atoms_of_crystals.totals.tolist() == [2, 1]
    assert bonds.distances.tolist() == pytest.approx([2.0 + near / 2, 2.5, 2.5, 3.0], abs=1e-12)


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 1, 2.0), (0, 0, 2.0)],  # another sender
        [(0, 1, 2.0), (1, 1, 2.0)],  # another receiver
        [(0, 1, 2.0), (0, 1, 2.0 + 2 * SAME_DISTANCE)],  # another distance
        [(0, 1, 2.0), (0, 1, 3.0), (0, 1, 2.0)],  # not side by side: not found, but not wrong
    ],
)
def test_other_edges_stay_apart(edges):
    bonds = bond_graph(graph_of(edges))
    assert bonds.bonds_of_atoms.counts.tolist() == [1] * len(edges)


def test_every_edge_is_counted(tiny_crystals):
    view = GraphView(4.0, None)
    graph = view.batch(view.table_config.build(tiny_crystals), np.arange(4))
    bonds = bond_graph(graph)
    assert 2 * len(bonds.senders) < len(graph.distances)  # these cells are small and symmetric
    received = torch.bincount(graph.edge_index[1], minlength=graph.n_atoms)
    assert bonds.bonds_of_atoms.totals.tolist() == received.tolist()
    of_crystals = torch.bincount(graph.crystal_index, weights=received.double())
    assert bonds.bonds_of_crystals.totals.tolist() == of_crystals.tolist()


def test_graph_without_edges():
    graph = graph_of([(0, 0, 1.0)])
    empty = CrystalGraph(
        **{
            **vars(graph),
            "edge_index": torch.zeros(2, 0, dtype=torch.int64),
            "distances": torch.zeros(0, dtype=torch.float64),
        }
    )
    bonds = bond_graph(empty)
    assert bonds.bonds_of_atoms.totals.tolist() == [0, 0, 0]
    assert mean_over(torch.zeros(0, 2), bonds.bonds_of_atoms).tolist() == [[0, 0]] * 3
