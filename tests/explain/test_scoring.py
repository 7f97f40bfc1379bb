"""Scores of grown graphs: those of the classifier, each graph once."""

import numpy as np
import pytest
import torch
from test_growing_graphs import chain, grow_one

from raymat.explain.coarse_classifier import CoarseCGCNN, CoarseConfig
from raymat.explain.growing_graphs import GrowingGraphs
from raymat.explain.scoring import DECIMALS, CoarseScorer, graph_keys, score_graphs
from raymat.features.coarse_graphs import CoarseView

SAME = 10.0**-DECIMALS


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return CoarseCGCNN(
        CoarseConfig(labels="group", atom_dim=8, hidden_dim=8), "classification"
    ).eval()


def side_by_side(*graphs):
    return GrowingGraphs(
        *(torch.cat(parts) for parts in zip(*(vars(g).values() for g in graphs), strict=True))
    )


def test_grown_graph_scores_as_the_crystal_that_looks_like_it(classifier, tiny_crystals):
    """CsCl is one edge between group 1 and group 17, and so is a grown graph of these two."""
    view = CoarseView()
    batch = view.batch(view.table_config.build(tiny_crystals), np.array([2]))
    with torch.inference_mode():
        expected = classifier(batch).exp().numpy()
    found = score_graphs(classifier, chain(0, 16, max_nodes=6))
    assert found == pytest.approx(expected, abs=SAME)
    assert found.sum() == pytest.approx(1.0, abs=2 * SAME)


def test_score_does_not_depend_on_the_order_of_nodes_or_the_batch(classifier):
    a, b = chain(0, 16, 15, max_nodes=6), chain(15, 16, 0, max_nodes=6)
    together = score_graphs(classifier, side_by_side(a, b, chain(3, max_nodes=6)))
    assert together[0] == pytest.approx(together[1], abs=SAME)
    assert np.array_equal(together[:1], score_graphs(classifier, a))


def test_scorer_gives_its_class_and_asks_once(classifier):
    graphs = side_by_side(chain(0, 16), chain(0, 16), chain(16, 0))
    low, high = (CoarseScorer(classifier, c) for c in (0, 1))
    assert (low(graphs) + high(graphs)).tolist() == pytest.approx([1.0] * 3, abs=2 * SAME)
    assert torch.equal(low(graphs), low(graphs))
    assert low.n_scored == 2
    assert low.n_asked == 9


def test_keys_tell_graphs_apart():
    line, ring = chain(0, 1, 2), grow_one(chain(0, 1, 2), 0, 2)[0]
    graphs = side_by_side(line, ring, chain(0, 1, 2, 2), chain(0, 2, 1), line)
    keys = graph_keys(graphs)
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]


def test_keys_hold_ten_nodes_of_eighteen_labels():
    first = chain(*[17] * 10, max_nodes=10)
    second = chain(*[17] * 9, 16, max_nodes=10)
    assert len(set(graph_keys(side_by_side(first, second)))) == 2
