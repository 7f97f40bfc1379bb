"""Explanations are tried until the classifier is sure, and counted."""

import json

import pytest
import torch
from test_growing_graphs import chain, grow_one

from raymat.explain.explanations import (
    Explanation,
    Task,
    explanation_seed,
    find_explanations,
    read_graph,
)
from raymat.explain.generate import SURE, GrowConfig
from raymat.explain.rules import Rules

SHORT = GrowConfig(episodes=2, steps=5, rollouts=2)
TASK, RULES = Task("period", 1), Rules((4,) * 7)


def find(score, numbers=range(6), max_attempts=3):
    return find_explanations(
        TASK, numbers, score, seed=0, rules=RULES, config=SHORT, max_attempts=max_attempts
    )


def sure(graphs):
    return torch.full((len(graphs),), 0.9)


def test_sure_graphs_are_taken_at_once_if_they_are_no_single_node():
    found = find(sure)
    assert [e.number for e in found.explanations] == list(range(6))
    assert found.n_failed == 0
    for explanation in found.explanations:
        assert len(explanation.nodes) >= 2
        assert explanation.probability == pytest.approx(0.9)
        assert all(1 <= label <= 7 for label in explanation.nodes)
    assert found.n_attempts == sum(e.attempts for e in found.explanations)


@pytest.mark.parametrize("probability", [SURE, 0.5])
def test_graphs_at_the_limit_are_not_taken_and_counted(probability):
    """0.8 itself is not above 0.8."""
    found = find(lambda graphs: torch.full((len(graphs),), probability, dtype=torch.float64))
    assert not found.explanations
    assert (found.n_failed, found.n_attempts) == (6, 18)
    assert found.best_rejected == pytest.approx(probability)


def test_seed_gives_the_graph_again():
    first, second = find(sure), find(sure, numbers=[4, 2])
    by_number = {e.number: e for e in first.explanations}
    for explanation in second.explanations:
        assert explanation == by_number[explanation.number]


def test_seeds_differ():
    tasks = [Task(labels, c, m) for labels in ("group", "period") for c in (0, 1) for m in (0, 1)]
    seeds = {explanation_seed(0, t, n, a) for t in tasks for n in range(20) for a in range(3)}
    assert len(seeds) == len(tasks) * 60
    assert explanation_seed(1, tasks[0], 0, 0) not in seeds


def test_graph_is_read_as_chemists_count():
    ring, _ = grow_one(chain(0, 6, 3), 0, 2)
    assert read_graph(ring, 0) == ((1, 7, 4), ((0, 1), (0, 2), (1, 2)))


def test_json_round_trip():
    explanation = Explanation(3, 99, (1, 7), ((0, 1),), 0.93, 2, probability_full=0.4)
    assert Explanation.from_dict(json.loads(json.dumps(explanation.to_dict()))) == explanation
