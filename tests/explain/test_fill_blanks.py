"""Grown graphs with what they lack filled in."""

import numpy as np
import pytest
import torch

from raymat.data.scaling import TargetScaling
from raymat.explain.explanations import Explanation
from raymat.explain.fill_blanks import (
    N_DRAWS,
    ElementShares,
    covalent_radii,
    filled_graph,
    score_filled,
)
from raymat.models.cgcnn import CGCNN, CGCNNConfig
from raymat.training.model_files import TrainedModel

PAIR = Explanation(0, 7, (1, 17), ((0, 1),), 0.9, 1)


def shares(*atomic_numbers, labels="group"):
    return ElementShares.of(labels, np.array(atomic_numbers, dtype=np.uint8))


def make_model(task="classification"):
    torch.manual_seed(0)
    config = CGCNNConfig(atom_dim=8, hidden_dim=8, max_neighbors=8)
    return TrainedModel(
        name="cgcnn", config=config, network=CGCNN(config, task).eval(), target="y", unit="",
        task=task, scaling=TargetScaling(), threshold=None, elements=(), training={},
    )  # fmt: skip


def test_elements_are_drawn_as_often_as_crystals_have_them():
    found = shares(*[11] * 30, *[19] * 10, *[17] * 5)
    assert found.elements[1].tolist() == [11, 19]
    drawn = np.concatenate([found.draw((1, 17), np.random.default_rng(seed)) for seed in range(40)])
    assert drawn.shape == (40 * N_DRAWS, 2)
    assert (drawn[:, 1] == 17).all()
    assert (drawn[:, 0] == 11).mean() == pytest.approx(0.75, abs=0.04)


def test_label_that_no_crystal_has_cannot_be_filled():
    found = shares(11, 17)
    assert found.draw((1, 2), np.random.default_rng(0)) is None
    missing = Explanation(0, 7, (1, 2), ((0, 1),), 0.9, 1)
    assert score_filled(make_model(), missing, found, target_class=1, threshold=None) is None


def test_neighbors_come_in_turn_at_the_sum_of_radii():
    """A chain Na-Cl-K: Cl's neighbors are Na and K in turn, the others have Cl only."""
    graph = filled_graph(np.array([[11, 17, 19]] * 2), [(0, 1), (1, 2)], max_neighbors=5)
    assert graph.degree == 5
    assert graph.edge_index[1].tolist() == [i for i in range(6) for _ in range(5)]
    assert graph.edge_index[0, :15].tolist() == [1] * 5 + [0, 2, 0, 2, 0] + [1] * 5
    assert graph.edge_index[0, 15:].tolist() == [4] * 5 + [3, 5, 3, 5, 3] + [4] * 5
    radii = covalent_radii()
    assert radii[[11, 17, 19]] == pytest.approx([1.55, 0.99, 1.96])  # Pyykkö, single bonds
    assert graph.distances[:7].tolist() == pytest.approx([2.54] * 5 + [2.54, 2.95])
    assert graph.n_sites.tolist() == [3.0, 3.0]


def test_probability_is_the_mean_over_draws():
    model, found = make_model(), shares(11, 19, 17)
    elements = found.draw(PAIR.nodes, np.random.default_rng([PAIR.seed, N_DRAWS]))
    with torch.inference_mode():
        out = model.network(filled_graph(elements, PAIR.edges, max_neighbors=8)).exp()
    high = score_filled(model, PAIR, found, target_class=1, threshold=None)
    low = score_filled(model, PAIR, found, target_class=0, threshold=None)
    assert high == pytest.approx(float(out[:, 1].double().mean()), abs=1e-6)
    assert low == pytest.approx(1 - high)


def test_model_of_numbers_counts_the_draws_above_the_threshold():
    model, found = make_model("regression"), shares(11, 19, 17)
    high = [score_filled(model, PAIR, found, target_class=1, threshold=t) for t in (-9.0, 9.0)]
    assert high == [1.0, 0.0]
    assert score_filled(model, PAIR, found, target_class=0, threshold=9.0) == 1.0
