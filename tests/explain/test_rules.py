"""Which grown graphs are valid, and where the rules come from."""

import numpy as np
import pytest
import torch
from test_growing_graphs import chain, grow_one

from raymat.explain.rule_tables import label_signs, make_rules, usual_coordination
from raymat.explain.rules import Rules
from raymat.features.coarse_graphs import label_of
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.oxidation import oxidation_signs


def star(center, *others):
    graphs = chain(center, max_nodes=6)
    for label in others:
        graphs, ok = grow_one(graphs, 0, 6 + label)
        assert ok
    return graphs


def allows(graphs, **rules):
    return bool(Rules(**rules).allow(graphs)[0])


def test_largest_degree_is_that_of_the_label():
    assert allows(star(0, 1, 1), max_degree=(2, 1))
    assert not allows(star(0, 1, 1, 1), max_degree=(2, 1))
    assert not allows(star(1, 0, 0), max_degree=(2, 1))
    assert allows(chain(0), max_degree=(2, 1))


SALT = {"max_degree": (4, 4, 4), "cation": (True, False, True), "anion": (False, True, True)}


@pytest.mark.parametrize(
    ("labels", "is_valid"),
    [
        ((0, 1), True),
        ((0, 0), False),  # two cations
        ((1, 1), False),  # two anions
        ((0, 2), True),  # what can be either is an anion here
        ((0, 2, 1), False),  # and would have to be both
        ((0, 1, 0), True),
        ((1, 2, 1), True),
        ((0,), True),
    ],
)
def test_charges_alternate(labels, is_valid):
    assert allows(chain(*labels), **SALT) is is_valid


def test_odd_ring_has_no_alternating_charges():
    ring, ok = grow_one(chain(2, 2, 2), 0, 2)
    assert ok
    assert not allows(ring, **SALT)
    square, ok = grow_one(chain(0, 1, 2, 1), 0, 3)
    assert ok
    assert allows(square, **SALT)


def test_rules_hold_for_graphs_side_by_side():
    first, second = chain(0, 1), chain(0, 0)
    both = type(first)(*(torch.cat([a, b]) for a, b in zip(
        vars(first).values(), vars(second).values(), strict=True)))  # fmt: skip
    assert Rules(**SALT).allow(both).tolist() == [True, False]


def test_signs_of_elements_and_groups():
    assert oxidation_signs(11) == (True, False)  # Na
    assert oxidation_signs(8) == (False, True)  # O
    assert oxidation_signs(2) == (False, False)  # He
    cation, anion = label_signs("group", [11, 8, 2])
    assert cation[label_of(11, "group")]
    assert not anion[label_of(11, "group")]
    assert anion[label_of(8, "group")]
    assert not cation[17]
    assert not anion[17]
    assert not any(cation[1:15])  # no crystal has these


def test_usual_coordination_of_crystals(tiny_crystals):
    """Textbook: 6 in NaCl, 4 in Si, 8 in CsCl; in SrTiO3 Ti has 6 O, O 2 Ti, Sr 12 O."""
    table = NeighborConfig(cutoff=8.0, max_neighbors=14).build(tiny_crystals)
    expected = {0: {11: 6, 17: 6}, 1: {14: 4}, 2: {55: 8, 17: 8}, 3: {22: 6, 8: 2, 38: 12}}
    for row, known in expected.items():
        found = usual_coordination(table, np.array([row]), "group")
        for z, n in known.items():
            assert found[label_of(z, "group")] == n
        assert set(found.tolist()) - set(known.values()) <= {1}


def test_rules_from_crystals(tiny_crystals):
    table = NeighborConfig(cutoff=8.0, max_neighbors=14).build(tiny_crystals)
    rules = make_rules(
        ["coordination", "charge"], "group", max_degree=4, table=table, rows=np.array([3])
    )
    oxygen, titanium = label_of(8, "group"), label_of(22, "group")
    assert (rules.max_degree[oxygen], rules.max_degree[titanium]) == (2, 4)
    assert rules.cation is not None
    assert rules.cation[titanium]
    plain = make_rules((), "group", max_degree=3, table=table, rows=np.array([0]))
    assert plain == Rules((3,) * 18)
