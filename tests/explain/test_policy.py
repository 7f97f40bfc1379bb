"""The policy, against a plain one that is written as XGNN's code lays its matrices out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import read_reference
from test_growing_graphs import chain

from raymat.explain.growing_graphs import GrowingGraphs
from raymat.explain.policy import (
    CHANNELS,
    Policies,
    choose,
    draw,
    embed_candidates,
    normalised_adjacency,
)

TOY = read_reference("xgnn_toy.json")
N_LABELS = 3
SAME = 1e-5  # float32


def policies(*seeds, n_labels=N_LABELS):
    return Policies([np.random.default_rng(seed) for seed in seeds], n_labels)


def weights_of(found):
    return {name: weight.detach() for name, weight in found.weights.items()}


def plain_layout(labels, edges, *, max_nodes, n_labels=N_LABELS):
    """Give features and adjacency as the authors' code has them: nodes, then candidates."""
    n = len(labels)
    features = torch.zeros(max_nodes + n_labels, n_labels)
    features[:n] = F.one_hot(torch.tensor(labels), n_labels).float()
    features[n : n + n_labels] = torch.eye(n_labels)
    adjacency = torch.eye(max_nodes + n_labels)
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1.0
    scale = adjacency.sum(1).rsqrt()
    return features, scale[:, None] * adjacency * scale[None]


def plain_scores(w, features, adjacency, n, start):
    """Give scores of start and end, masked, over nodes and candidates in the authors' order."""
    x = features @ w["input"] + w["input_bias"]
    for i in range(len(CHANNELS)):
        x = torch.relu(adjacency @ x @ w[f"conv{i}"])
    first = F.relu6(x @ w["start"] + w["start_bias"]) @ w["start_out"] + w["start_out_bias"]
    first = first[:, 0].masked_fill(torch.arange(len(x)) >= n, -torch.inf)
    pairs = torch.cat([x, x[start].expand_as(x)], dim=1)
    second = F.relu6(pairs @ w["end"] + w["end_bias"]) @ w["end_out"] + w["end_out_bias"]
    place = torch.arange(len(x))
    is_possible = (place < n + N_LABELS) & (place != start)
    return first, second[:, 0].masked_fill(~is_possible, -torch.inf)


def test_layout_is_that_of_the_golden_state():
    features, adjacency = plain_layout([0, 2, 1], [(0, 1), (1, 2)], max_nodes=4)
    assert features.tolist() == TOY["node_feature_rows"]
    assert adjacency.numpy() == pytest.approx(np.array(TOY["normalised_adjacency"]), abs=1e-6)
    own = normalised_adjacency(chain(0, 2, 1))[0]
    assert own[:3, :3].numpy() == pytest.approx(adjacency[:3, :3].numpy(), abs=1e-6)


@pytest.mark.parametrize("u", [0.01, 0.3, 0.7, 0.99])
def test_choice_is_that_of_the_plain_policy(u):
    """Candidates apart from the graph, and halves of the end head apart: the same numbers."""
    found = policies(7)
    w = {name: weight[0] for name, weight in weights_of(found).items()}
    features, adjacency = plain_layout([0, 2, 1], [(0, 1), (1, 2)], max_nodes=4)
    graphs = chain(0, 2, 1)
    own = weights_of(found)
    choice = choose(own, embed_candidates(own), graphs, torch.full((1, 1, 2), u))
    start = int(choice.start)
    first, second = plain_scores(w, features, adjacency, 3, start)
    assert start in TOY["allowed_start"]
    assert first.softmax(0)[:start].sum() <= u + SAME
    assert first.softmax(0)[: start + 1].sum() >= u - SAME
    end = int(choice.end)
    place = end if end < 4 else end - 1  # candidates begin after 3 nodes there, after 4 here
    assert place != start
    expected = first.log_softmax(0)[start] + second.log_softmax(0)[place]
    assert float(choice.log_probability) == pytest.approx(float(expected), abs=SAME)


def test_log_probability_is_that_of_the_masked_softmax():
    """All choices together have probability 1: what is masked has no share."""
    found = policies(3)
    own, graphs = weights_of(found), chain(0, 2, 1).repeat(4000)
    draws = torch.rand(1, len(graphs), 2, generator=torch.Generator().manual_seed(0))
    choice = choose(own, embed_candidates(own), graphs, draws)
    seen = {
        (int(s), int(e)): float(p)
        for s, e, p in zip(choice.start[0], choice.end[0], choice.log_probability[0], strict=True)
    }
    assert len(seen) == 3 * (2 + N_LABELS)
    assert sum(np.exp(list(seen.values()))) == pytest.approx(1.0, abs=1e-4)


def test_draw_follows_the_probabilities():
    scores = torch.tensor([0.0, -torch.inf, 1.0, 2.0]).expand(20_000, 4)
    index, log_probability = draw(
        scores, torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    )
    shares = torch.bincount(index, minlength=4) / 20_000
    expected = torch.tensor([0.0, -torch.inf, 1.0, 2.0]).softmax(0)
    assert shares.numpy() == pytest.approx(expected.numpy(), abs=0.015)
    assert log_probability[0].exp() == pytest.approx(float(expected[index[0]]), abs=SAME)


@pytest.mark.parametrize("u", [0.0, 1.0 - 2**-24])
def test_draw_never_takes_what_is_masked(u):
    scores = torch.tensor([-torch.inf, 1.0, 0.5, -torch.inf])
    index, log_probability = draw(scores[None], torch.tensor([u]))
    assert int(index) in (1, 2)
    assert torch.isfinite(log_probability).all()


def test_policy_does_not_depend_on_those_beside_it():
    alone, beside = policies(5), policies(4, 5, 6)
    for name, weight in weights_of(alone).items():
        assert torch.equal(weight[0], weights_of(beside)[name][1])
    graphs = chain(0, 2, 1)
    three = GrowingGraphs(*(torch.cat([t] * 3) for t in vars(graphs).values()))
    draws = torch.rand(3, 1, 2, generator=torch.Generator().manual_seed(2))
    one = choose(weights_of(alone), embed_candidates(weights_of(alone)), graphs, draws[1:2])
    all_three = weights_of(beside)
    many = choose(all_three, embed_candidates(all_three), three, draws)
    assert (int(one.start), int(one.end)) == (int(many.start[1]), int(many.end[1]))
    assert float(one.log_probability) == pytest.approx(float(many.log_probability[1]), abs=SAME)


def test_first_weights_are_glorot():
    found = weights_of(policies(*range(30), n_labels=18))
    assert found["conv1"].shape == (30, 16, 24)
    bound = (6 / (16 + 24)) ** 0.5
    assert float(found["conv1"].abs().max()) <= bound
    assert float(found["conv1"].std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not found["end_bias"].any()
