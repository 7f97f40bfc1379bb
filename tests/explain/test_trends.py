"""Published trends, on counts whose answer is known."""

import numpy as np
import pytest

from raymat.explain.explanations import Explanation
from raymat.explain.summary import count_explanations
from raymat.explain.trends import PUBLISHED, Trend, check_trends

NODE = Trend("y", "period", 1, "node", (1, 2))
AMONG = Trend("y", "period", 0, "edge", (2, 3), (2, 3))
BETWEEN = Trend("y", "period", 0, "edge", (1,), (2, 3))


def graphs(*labels, n=1):
    """Give `n` chains for each tuple of labels."""
    edges = [tuple((i, i + 1) for i in range(len(own) - 1)) for own in labels]
    return [
        Explanation(k, 0, own, joined, 0.9, 1)
        for own, joined in zip(labels, edges, strict=True)
        for k in range(n)
    ]


def verdict(trend, high, low):
    same = count_explanations(graphs((1, 2), (5, 5)), "period")
    (tested,) = check_trends([trend], {1: high, 0: low}, {0: same, 1: same})
    return tested


def test_clear_trend_is_found():
    tested = verdict(NODE, graphs((1, 2), n=30) + graphs((5, 5), n=20),
                     graphs((1, 5), n=20) + graphs((5, 5), n=30))  # fmt: skip
    assert (tested.verdict, tested.count, tested.other_count) == ("found", 60, 20)
    assert tested.ratio == pytest.approx(3.0)
    assert tested.training_ratio == pytest.approx(1.0)
    assert tested.p_value < 0.001


@pytest.mark.parametrize("n", [1, 25])
def test_small_difference_is_weak(n):
    """A larger share that few graphs can show by chance, or one that is hardly larger."""
    if n == 1:
        tested = verdict(NODE, graphs((1, 5), (5, 5)), graphs((5, 5), (5, 5), (1, 5)))
    else:
        high = graphs((1, 5), n=11 * n) + graphs((5, 5), n=10 * n)
        low = graphs((1, 5), n=10 * n) + graphs((5, 5), n=11 * n)
        tested = verdict(NODE, high, low)
    assert tested.ratio > 1
    assert tested.verdict == "weak"


def test_one_graph_with_many_nodes_is_no_proof():
    """Nodes of a graph are not independent: what changes classes by chance is the whole graph."""
    tested = verdict(NODE, graphs((1,) * 6) + graphs((5,) * 6, n=3), graphs((5,) * 6, n=4))
    assert tested.ratio == np.inf
    assert tested.p_value > 0.3
    assert tested.verdict == "weak"


def test_opposite_is_not_found_and_what_is_empty_untested():
    assert verdict(NODE, graphs((5, 5)), graphs((1, 5))).verdict == "not found"
    for high, low in (([], graphs((1, 5))), (graphs((1, 5)), []), ([], [])):
        tested = verdict(NODE, high, low)
        assert tested.verdict == "untested"
        assert np.isnan([tested.ratio, tested.p_value]).all()


def test_edges_are_counted_once_whichever_end_comes_first():
    low = count_explanations(graphs((1, 2), n=3) + graphs((2, 2), n=5) + graphs((3, 2), n=7)
                             + graphs((3, 3), n=11) + graphs((1, 1), n=13), "period")  # fmt: skip
    assert AMONG.counts(low) == (23, 39)
    assert BETWEEN.counts(low) == (3, 39)
    assert Trend("y", "period", 0, "edge", (2, 3), (1,)).counts(low) == (3, 39)


def test_absent_in_the_other_class_is_infinitely_more():
    tested = verdict(AMONG, graphs((1, 1), n=50), graphs((2, 3), n=50))
    assert tested.verdict == "found"
    assert tested.ratio == np.inf


def test_words():
    assert NODE.say() == "high: periods 1-2"
    assert AMONG.say() == "low: edges among periods 2-3"
    assert BETWEEN.say() == "low: edges between period 1 and 2-3"


def test_published_trends_of_both_properties():
    """Each statement on the figures of the published explanations stands once."""
    assert len(PUBLISHED) == len(set(PUBLISHED)) == 12
    assert {t.target for t in PUBLISHED} == {"band_gap", "formation_energy_per_atom"}
    said = [t.say() for t in PUBLISHED if t.target == "formation_energy_per_atom"]
    assert said == [
        "low: groups 16-17",
        "low: period 2",
        "low: edges between groups 1-4 and 16-17",
        "high: groups 5-15",
    ]
