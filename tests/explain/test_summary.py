"""What explanations have in common, counted by hand."""

import numpy as np
import pytest
from conftest import read_reference

from raymat.explain.explanations import Explanation, Task
from raymat.explain.summary import (
    LabelCounts,
    count_crystals,
    count_explanations,
    most_frequent,
    motif_of,
    rank_agreement,
    summary_rows,
    summary_table,
)
from raymat.features.coarse_graphs import CoarseView

TOY = read_reference("xgnn_toy.json")["summary_example"]
VIEW = CoarseView()


def explanation(nodes, edges, number=0):
    return Explanation(number, 0, tuple(nodes), tuple(edges), 0.9, 1)


def toy_explanations():
    for labels, edges in zip(TOY["labels"], TOY["edges"], strict=True):
        yield explanation([label + 1 for label in labels], [tuple(e) for e in edges])


def test_counts_are_those_of_the_golden_example():
    found = count_explanations(toy_explanations(), "period")
    assert found.nodes[:3].tolist() == TOY["histogram"]
    assert not found.nodes[3:].any()
    pairs = {f"{a}-{b}": int(found.edges[a, b]) for a, b in np.argwhere(found.edges).tolist()}
    assert pairs == TOY["heatmap_upper"]


def test_crystals_are_counted_as_the_classifier_reads_them(tiny_crystals):
    """Silicon's cubic cell: 8 atoms of 4 bonds, each bond counted once; salt joins two groups."""
    table = VIEW.table_config.build(tiny_crystals)
    salt = count_crystals(table, np.array([0]), "group", VIEW)
    assert salt.nodes[[0, 16]].tolist() == [4, 4]
    assert salt.nodes.sum() == 8
    assert salt.edges.sum() == salt.edges[0, 16] > 0
    both = count_crystals(table, np.array([0, 1]), "group", VIEW)
    silicon = count_crystals(table, np.array([1]), "group", VIEW)
    assert silicon.edges[13, 13] == silicon.edges.sum() == 16
    assert np.array_equal((salt + silicon).edges, both.edges)


def test_summary_has_every_label_and_every_pair_that_is_met():
    own = count_explanations(toy_explanations(), "period")
    training = LabelCounts(own.nodes * 0 + 1, own.edges * 0)
    training.edges[0, 0] = 5
    table = summary_table(summary_rows(Task("period", 1), own, training))
    assert list(table.columns[:6]) == ["labels", "target_class", "kind", "a", "b", "count"]
    nodes = table[table["kind"] == "node"]
    assert nodes["a"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert nodes["b"].isna().all()
    assert nodes["share"].sum() == pytest.approx(1.0)
    assert nodes["ratio"].iloc[2] == pytest.approx(3 / 5 * 7)
    edges = table[table["kind"] == "edge"].set_index(["a", "b"])
    assert sorted(edges.index) == [(1, 1), (1, 3), (2, 3), (3, 3)]
    assert edges.loc[(1, 1), "count"] == 0
    assert edges.loc[(1, 1), "ratio"] == 0.0
    assert np.isnan(edges.loc[(2, 3), "ratio"])  # crystals have none


def test_motif_is_the_same_whatever_the_order_of_nodes():
    one = explanation([1, 17, 17], [(0, 1), (0, 2)])
    two = explanation([17, 17, 1], [(0, 2), (1, 2)])
    other = explanation([1, 17, 17], [(0, 1), (1, 2)])
    assert motif_of(one) == motif_of(two) == "1-17 x2"
    assert motif_of(other) == "1-17, 17-17"
    ranked = most_frequent([one, other, two], 5)
    assert [(motif_of(e), n) for e, n in ranked] == [("1-17 x2", 2), ("1-17, 17-17", 1)]
    assert most_frequent([one, other], 1) == [(one, 1)]  # ties by probability, then by name


def test_rank_agreement():
    a = count_explanations(toy_explanations(), "period")
    assert rank_agreement(a, a) == {"nodes": pytest.approx(1.0), "edges": None}  # all edges alike
    reverse = LabelCounts(a.nodes.max() - a.nodes, a.edges)
    assert rank_agreement(a, reverse)["nodes"] == pytest.approx(-1.0)
    empty = count_explanations([], "period")
    assert rank_agreement(a, empty)["nodes"] is None
