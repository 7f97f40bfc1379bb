"""How graphs are grown: rewards of the golden cases, rollouts, and what a policy learns."""

import numpy as np
import pytest
import torch
from conftest import read_reference
from test_growing_graphs import chain

from raymat.explain.generate import (
    CLIP_NORM,
    FAILED_REWARD,
    FAILED_ROLLOUT,
    GrowConfig,
    _clip,
    _Growth,
    grow,
    is_sure,
    step_reward,
)
from raymat.explain.growing_graphs import NO_NODE
from raymat.explain.rules import Rules

TOY = read_reference("xgnn_toy.json")
RULES = Rules((4, 4, 4))
SHORT = GrowConfig(episodes=3, steps=8, rollouts=4)


def share_of_label_0(graphs):
    """A score that is as simple as can be: the share of nodes with label 0."""
    return ((graphs.labels == 0).sum(1) / graphs.n_nodes).round(decimals=6)


def grow_some(seeds, config=SHORT, rules=RULES, score=share_of_label_0):
    return grow(seeds, score, n_labels=3, rules=rules, config=config)


@pytest.mark.parametrize(
    "case", [c for c in TOY["reward_examples"] if "p_target" in c], ids=lambda c: c["p_target"]
)
def test_reward_of_a_valid_step(case):
    rollouts = torch.tensor([case["rollout_rewards"]])
    found = step_reward(torch.tensor([case["p_target"]]), rollouts)
    assert float(found) == pytest.approx(case["total"], abs=1e-6)
    assert (float(found) < 0) == case.get("graph_is_rolled_back", False)


def test_reward_of_a_step_that_fails_or_breaks_a_rule():
    golden = {case["total"] for case in TOY["reward_examples"] if "case" in case}
    assert golden == {FAILED_REWARD}
    growth = make_growth(range(4), rules=Rules((0, 0, 0)))  # no edge is ever allowed
    before = growth.graphs
    rewards = growth._step(growth._draw()[:, 0], steps_left=7)
    assert rewards.tolist() == [FAILED_REWARD] * 4
    assert torch.equal(growth.graphs.labels, before.labels)


def make_growth(seeds, score=share_of_label_0, rules=RULES, config=SHORT):
    return _Growth(list(seeds), score, n_labels=3, rules=rules, config=config)


def rollouts_of(config):
    growth = make_growth(range(6), config=config)
    graphs = chain(0, 1, max_nodes=6).repeat(6)
    ends, fails = growth._roll_out(
        graphs, torch.arange(6), growth._draw()[:, 0, 1:], config.steps - 2
    )
    return graphs.repeat(config.rollouts), ends, fails


def test_rollout_ends_at_the_last_valid_graph():
    start, ends, fails = rollouts_of(GrowConfig(steps=30, rollouts=5))
    assert RULES.allow(ends).all()
    assert (ends.n_nodes >= start.n_nodes).all()
    assert (ends.degrees.sum(1) > start.degrees.sum(1)).any()
    assert fails.all()  # nobody can add 28 edges to a graph that holds 12


def test_strict_rollout_of_many_steps_is_a_constant():
    """The second defect of XGNN's code: whatever the policy does, the rollout says -0.1."""
    strict = GrowConfig(steps=30, rollouts=5, rollout="strict")
    growth = make_growth(range(3), config=strict)
    graphs = chain(0, 1, max_nodes=6).repeat(3)
    rewards = growth._reward(graphs, torch.arange(3), growth._draw()[:, 0, 1:], steps_left=28)
    expected = 0.1 + share_of_label_0(graphs) - 0.5 + 2.0 * FAILED_ROLLOUT
    assert rewards.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    short = GrowConfig(steps=3, rollouts=5, rollout="strict")
    _, _, fails = rollouts_of(short)
    assert not fails.all()  # one more step can succeed


def test_graph_is_put_back_where_the_reward_is_negative():
    growth = make_growth(range(8), score=lambda graphs: torch.zeros(len(graphs)))
    growth.run_episode()
    assert growth.graphs.n_nodes.tolist() == [1] * 8


def test_same_seed_same_graph_whoever_is_beside():
    seeds = [11, 12, 13, 14]
    together = grow_some(seeds)
    again = grow_some(seeds)
    assert torch.equal(together.graphs.labels, again.graphs.labels)
    assert torch.equal(together.graphs.adjacency, again.graphs.adjacency)
    assert torch.equal(together.rewards, again.rewards)
    alone = grow_some([13])
    assert torch.equal(alone.graphs.labels[0], together.graphs.labels[2])
    assert torch.equal(alone.graphs.adjacency[0], together.graphs.adjacency[2])
    other = grow_some([21, 22, 23, 24])
    assert not torch.equal(other.graphs.labels, together.graphs.labels)


def test_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    grow_some([1, 2], GrowConfig(episodes=1, steps=2, rollouts=2))
    assert torch.equal(torch.rand(3), expected)


def test_grown_graphs_are_connected_and_keep_to_the_rules():
    rules = Rules((2, 1, 3))
    found = grow_some(range(12), rules=rules).graphs
    assert rules.allow(found).all()
    reached = torch.eye(6) + found.adjacency
    for _ in range(6):
        reached = (reached @ reached > 0).float()
    for row in range(12):
        n = int(found.n_nodes[row])
        assert reached[row, :n, :n].all()
        assert (found.labels[row, n:] == NO_NODE).all()


def test_start_labels_are_drawn_uniformly():
    growth = make_growth(range(600))
    shares = torch.bincount(growth.first, minlength=3) / 600
    assert shares.numpy() == pytest.approx(np.full(3, 1 / 3), abs=0.06)


def test_policies_learn():
    """With many episodes the graphs of a policy have more of what is rewarded than at first."""
    config = GrowConfig(episodes=12, steps=12, rollouts=4)
    found = grow_some(range(24), config)
    assert found.rewards[-3:].mean() > found.rewards[:3].mean() + 0.05
    assert share_of_label_0(found.graphs).mean() > 0.5  # a third, were labels drawn blindly


def test_gradients_are_clipped_policy_by_policy():
    gradients = [torch.ones(2, 3, 3), torch.ones(2, 1, 4)]
    gradients[0][1] *= 1000.0
    _clip(gradients)
    norms = torch.stack([g.square().sum((1, 2)) for g in gradients]).sum(0).sqrt()
    assert float(norms[0]) == pytest.approx(13**0.5)  # 9 + 4 ones: small enough
    assert float(norms[1]) == pytest.approx(CLIP_NORM, rel=1e-5)


@pytest.mark.parametrize("field", ["max_nodes", "max_degree", "episodes", "steps", "rollouts"])
def test_sizes_must_make_sense(field):
    with pytest.raises(ValueError, match=field):
        GrowConfig(**{field: 0})


def of_three_nodes(graphs):
    """A score that is sure of graphs with just three nodes."""
    return torch.where(graphs.n_nodes == 3, 0.9, 0.6)


def test_latest_sure_graph_is_taken_or_else_the_last():
    """The same policies either way: only what is taken of their episodes differs."""
    config = GrowConfig(episodes=6, steps=3, rollouts=2)
    sure = grow_some(range(20), config, score=of_three_nodes)
    last = grow_some(range(20), GrowConfig(**{**config.model_dump(), "take": "last"}),
                     score=of_three_nodes)  # fmt: skip
    assert torch.equal(sure.rewards, last.rewards)
    ends_sure, was_sure = (is_sure(g.graphs, g.probability) for g in (last, sure))
    assert was_sure[ends_sure].all()
    assert was_sure.sum() > ends_sure.sum()
    same = ends_sure | ~was_sure
    assert torch.equal(sure.graphs.labels[same], last.graphs.labels[same])
    assert torch.equal(sure.probability[same], last.probability[same])


def no_graph_of_label_1(graphs):
    """A score for which a graph that begins with label 1 is hopeless."""
    return torch.where(graphs.labels[:, 0] == 1, 0.0, 0.7)


def test_policy_that_is_stuck_is_given_up_and_others_do_not_notice():
    config = GrowConfig(episodes=5, steps=4, rollouts=2, give_up_after=2)
    patient = GrowConfig(**{**config.model_dump(), "give_up_after": None})
    found, whole = (grow_some(range(12), c, score=no_graph_of_label_1) for c in (config, patient))
    is_stuck = found.graphs.labels[:, 0] == 1
    assert 0 < is_stuck.sum() < 12
    assert torch.equal(found.graphs.labels, whole.graphs.labels)
    assert torch.equal(found.graphs.adjacency, whole.graphs.adjacency)
    assert found.rewards[2:, is_stuck].isnan().all()
    assert torch.equal(found.rewards[:, ~is_stuck], whole.rewards[:, ~is_stuck])


def test_growth_ends_when_all_are_stuck():
    config = GrowConfig(episodes=5, steps=4, rollouts=2, give_up_after=1)
    found = grow_some([1, 2], config, score=lambda graphs: torch.zeros(len(graphs)))
    assert found.graphs.n_nodes.tolist() == [1, 1]
    assert found.rewards[1:].isnan().all()
