"""Published trends, on counts whose answer is known."""

import numpy as np
import pytest

from raymat.explain.summary import LabelCounts
from raymat.explain.trends import PUBLISHED, Trend, test_trends

NODE = Trend("y", "period", 1, "node", (1, 2))
AMONG = Trend("y", "period", 0, "edge", (2, 3), (2, 3))
BETWEEN = Trend("y", "period", 0, "edge", (1,), (2, 3))


def counts(nodes, edges=()):
    found = LabelCounts(np.zeros(7, dtype=int), np.zeros((7, 7), dtype=int))
    for label, n in nodes.items():
        found.nodes[label - 1] = n
    for a, b, n in edges:
        found.edges[a - 1, b - 1] = n
    return found


def verdict(trend, high, low, training=None):
    same = counts({1: 1, 5: 1}, [(1, 2, 1), (5, 5, 1)])
    (tested,) = test_trends([trend], {1: high, 0: low}, training or {0: same, 1: same})
    return tested


def test_clear_trend_is_found():
    tested = verdict(NODE, counts({1: 40, 2: 20, 5: 40}), counts({1: 20, 5: 80}))
    assert (tested.verdict, tested.count, tested.other_count) == ("found", 60, 20)
    assert tested.ratio == pytest.approx(3.0)
    assert tested.training_ratio == pytest.approx(1.0)
    assert tested.p_value < 1e-6


@pytest.mark.parametrize("high", [22, 3])
def test_small_difference_is_weak(high):
    """A larger share by little, or by what few nodes can show by chance."""
    n = 100 if high == 22 else 10
    tested = verdict(NODE, counts({1: high, 5: n - high}), counts({1: 20, 5: 80}))
    assert tested.verdict == "weak"


def test_opposite_and_empty_are_not_found():
    assert verdict(NODE, counts({5: 50}), counts({1: 20, 5: 80})).verdict == "not found"
    assert verdict(NODE, counts({}), counts({})).verdict == "not found"


def test_edges_are_counted_once_whichever_end_comes_first():
    low = counts({}, [(1, 2, 3), (2, 2, 5), (2, 3, 7), (3, 3, 11), (1, 1, 13)])
    assert AMONG.counts(low) == (23, 39)
    assert BETWEEN.counts(low) == (3, 39)
    assert Trend("y", "period", 0, "edge", (2, 3), (1,)).counts(low) == (3, 39)


def test_absent_in_the_other_class_is_infinitely_more():
    tested = verdict(AMONG, counts({}, [(1, 1, 50)]), counts({}, [(2, 3, 50)]))
    assert tested.verdict == "found"
    assert tested.ratio == np.inf


def test_words():
    assert NODE.say() == "high: periods 1-2"
    assert AMONG.say() == "low: edges among periods 2-3"
    assert BETWEEN.say() == "low: edges between periods 1 and 2-3"


def test_published_trends_of_both_properties():
    """Each statement on the figures of the published explanations stands once."""
    assert len(PUBLISHED) == len(set(PUBLISHED)) == 12
    assert {t.target for t in PUBLISHED} == {"band_gap", "formation_energy_per_atom"}
    said = [t.say() for t in PUBLISHED if t.target == "formation_energy_per_atom"]
    assert said == [
        "low: groups 16-17",
        "low: periods 2",
        "low: edges between groups 1-4 and 16-17",
        "high: groups 5-15",
    ]
