"""Graphs while they are grown."""

import pytest
import torch
from conftest import read_reference

from raymat.explain.growing_graphs import GrowingGraphs, most_edges

TOY = read_reference("xgnn_toy.json")


def chain(*labels, max_nodes=4):
    """Give one graph: nodes with these labels, each joined to the one before."""
    graphs = GrowingGraphs.start(torch.tensor(labels[:1]), max_nodes)
    for place, label in enumerate(labels[1:]):
        graphs, ok = graphs.grow(torch.tensor([place]), torch.tensor([max_nodes + label]))
        assert ok.all()
    return graphs


def grow_one(graphs, start, end):
    found, succeeds = graphs.grow(torch.tensor([start]), torch.tensor([end]))
    return found, bool(succeeds[0])


def test_edge_between_nodes_and_to_a_new_node():
    graphs = chain(0, 2, 1)
    assert graphs.labels.tolist() == [[0, 2, 1, -1]]
    assert graphs.degrees.tolist() == [[1, 2, 1, 0]]
    ring, succeeds = grow_one(graphs, 0, 2)
    assert succeeds
    assert ring.degrees.tolist() == [[2, 2, 2, 0]]
    assert torch.equal(ring.adjacency, ring.adjacency.transpose(1, 2))
    larger, succeeds = grow_one(ring, 1, 4 + 2)
    assert succeeds
    assert larger.labels.tolist() == [[0, 2, 1, 2]]
    assert larger.n_nodes.tolist() == [4]


def test_step_fails_where_the_edge_is_there_or_the_graph_is_full():
    graphs = chain(0, 2, 1)
    for start, end in ((0, 1), (1, 0)):
        same, succeeds = grow_one(graphs, start, end)
        assert not succeeds
        assert torch.equal(same.adjacency, graphs.adjacency)
    full = chain(0, 2, 1, 1)
    same, succeeds = grow_one(full, 0, 4 + 2)
    assert not succeeds
    assert torch.equal(same.labels, full.labels)
    assert torch.equal(same.adjacency, full.adjacency)


def test_graphs_side_by_side_do_not_touch():
    graphs = GrowingGraphs.start(torch.tensor([0, 1, 2]), 3)
    grown, succeeds = graphs.grow(torch.tensor([0, 0, 0]), torch.tensor([3, 4, 5]))
    assert succeeds.all()
    assert grown.labels.tolist() == [[0, 0, -1], [1, 1, -1], [2, 2, -1]]
    kept = grown.where(torch.tensor([True, False, True]), graphs)
    assert kept.n_nodes.tolist() == [2, 1, 2]
    assert kept.take(torch.tensor([1])).labels.tolist() == [[1, -1, -1]]
    assert kept.repeat(2).labels[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("case", TOY["rollout_bound"])
def test_most_edges(case):
    assert most_edges(case["max_nodes"], case["max_degree"]) == case["max_edges"]
