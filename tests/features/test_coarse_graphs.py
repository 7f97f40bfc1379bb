"""Crystals as simple graphs of groups and periods."""

import numpy as np
import pytest

from raymat.features.coarse_graphs import CoarseView, element_labels, label_of


@pytest.mark.parametrize(
    ("z", "group", "period"),
    [(1, 1, 1), (2, 18, 1), (5, 13, 2), (17, 17, 3), (26, 8, 4), (54, 18, 5), (71, 3, 6),
     (58, 3, 6), (92, 3, 7), (118, 18, 7)],
)  # fmt: skip
def test_labels_count_f_elements_as_group_3(z, group, period):
    assert label_of(z, "group") == group - 1
    assert label_of(z, "period") == period - 1


@pytest.mark.parametrize(("kind", "n"), [("group", 18), ("period", 7)])
def test_every_element_has_a_label_and_every_label_an_element(kind, n):
    labels = element_labels(kind)
    assert labels[0] == -1
    assert set(labels[1:].tolist()) == set(range(n))


def coarse(crystals, **settings):
    view = CoarseView(**settings)
    return view.batch(view.table_config.build(crystals), np.arange(len(crystals)))


def edges(graph):
    return set(map(tuple, graph.edge_index.T.tolist()))


def test_graph_is_simple_and_undirected(tiny_crystals):
    graph = coarse(tiny_crystals)
    found = graph.edge_index.T.tolist()
    assert len(edges(graph)) == len(found)  # no edge twice
    assert all(a != b for a, b in found)
    assert {(b, a) for a, b in edges(graph)} == edges(graph)
    assert np.array_equal(np.sort(graph.edge_index[1].numpy()), graph.edge_index[1].numpy())


def test_two_atoms_with_eight_bonds_are_joined_once(tiny_crystals):
    """CsCl: the four nearest neighbors of either atom are images of the other one."""
    graph = coarse(tiny_crystals.take(np.array([2])))
    assert edges(graph) == {(0, 1), (1, 0)}


def test_atom_that_is_its_own_neighbor_stands_alone(tiny_crystals):
    copper = tiny_crystals.take(np.array([2]))
    lone = type(copper).from_crystals([_one_atom(copper[0])])
    graph = coarse(lone)
    assert edges(graph) == set()
    assert graph.n_atoms == 1


def _one_atom(crystal):
    return type(crystal)("lone", crystal.lattice, crystal.atomic_numbers[:1], np.zeros((1, 3)))


def test_neighbors_are_the_nearest(tiny_crystals):
    """In SrTiO3 the nearest of Ti are O, and of O first Ti: Sr is joined by its own four O only."""
    graph = coarse(tiny_crystals.take(np.array([3])))
    sr, ti = 0, 1
    assert (sr, ti) not in edges(graph)
    assert {(ti, 2), (ti, 3), (ti, 4)} <= edges(graph)


def test_batch_equals_one_by_one(tiny_crystals):
    together = coarse(tiny_crystals)
    first = 0
    for row in range(len(tiny_crystals)):
        alone = coarse(tiny_crystals.take(np.array([row])))
        moved = {(a + first, b + first) for a, b in edges(alone)}
        assert moved == {(a, b) for a, b in edges(together) if first <= a < first + alone.n_atoms}
        first += alone.n_atoms


def test_larger_table_serves_a_smaller_view(tiny_crystals):
    wide = CoarseView(max_neighbors=12).table_config.build(tiny_crystals)
    own = CoarseView()
    graphs = [own.batch(t, np.arange(4)) for t in (wide, own.table_config.build(tiny_crystals))]
    assert edges(graphs[0]) == edges(graphs[1])
