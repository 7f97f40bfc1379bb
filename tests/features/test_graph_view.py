"""What a graph model reads: the table it needs, its batches, and crystals it cannot take."""

import numpy as np
import pytest
import torch

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.edge_table import EdgeConfig
from raymat.features.graph_view import GraphView
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.table import FeatureTable

CAPPED = GraphView(cutoff=4.0, max_neighbors=12, max_atomic_number=94, takes_lone_atoms=True)
ALL_NEIGHBORS = GraphView(
    cutoff=4.0, max_neighbors=None, max_atomic_number=94, takes_lone_atoms=True
)
VIEWS = [pytest.param(CAPPED, id="capped"), pytest.param(ALL_NEIGHBORS, id="all neighbors")]


def cube(name: str, z: int, side: float) -> Crystal:
    return Crystal(name, np.eye(3) * side, np.array([z], dtype=np.uint8), np.zeros((1, 3)))


def pair(name: str, *numbers: int, distance: float) -> Crystal:
    coordinates = np.array([[0.0, 0.0, 0.0], [distance / 20.0, 0.0, 0.0]])
    return Crystal(name, np.eye(3) * 20.0, np.array(numbers, dtype=np.uint8), coordinates)


@pytest.fixture(scope="module")
def crystals(tiny_crystals: CrystalSet) -> CrystalSet:
    """Usable and unusable crystals in turns; row 6 has one atom without a neighbor."""
    lone_and_pair = Crystal(
        "LiHe2",
        np.eye(3) * 20.0,
        np.array([3, 2, 2], dtype=np.uint8),
        np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.6]]),
    )
    return CrystalSet.from_crystals(
        [
            tiny_crystals[0],
            cube("Xe", 54, 9.0),
            tiny_crystals[3],
            pair("AmCl", 95, 17, distance=2.5),
            cube("Po", 84, 3.35),
            cube("Cm", 96, 15.0),
            lone_and_pair,
        ]
    )


def table_of(view: GraphView, crystals: CrystalSet) -> FeatureTable:
    return view.table_config.build(crystals)


@pytest.mark.parametrize("view", VIEWS)
def test_crystals_that_cannot_be_taken_are_told_with_the_reason(view, crystals):
    assert view.unusable(crystals, table_of(view, crystals)) == {
        1: "no atom has a neighbor within 4 Å",
        3: "holds Am, which the model's table of elements lacks",
        5: "holds Cm, which the model's table of elements lacks",
    }


@pytest.mark.parametrize("view", VIEWS)
def test_all_unknown_elements_of_a_crystal_are_named(view):
    crystals = CrystalSet.from_crystals([cube("Po", 84, 3.35), pair("x", 96, 95, distance=2.5)])
    assert view.unknown_elements(crystals) == {1: (95, 96)}
    reasons = view.unusable(crystals, table_of(view, crystals))
    assert reasons == {1: "holds Am and Cm, which the model's table of elements lacks"}


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_unusable(view, tiny_crystals):
    assert view.unusable(tiny_crystals, table_of(view, tiny_crystals)) == {}


@pytest.mark.parametrize("max_neighbors", [12, None])
def test_an_atom_without_a_neighbor(crystals, max_neighbors):
    """A model refuses the crystal, or takes it with a warning unless all of its atoms are alone."""
    strict = GraphView(cutoff=4.0, max_neighbors=max_neighbors)
    lenient = GraphView(cutoff=4.0, max_neighbors=max_neighbors, takes_lone_atoms=True)
    table = table_of(strict, crystals)
    all_alone = dict.fromkeys((1, 5), "no atom has a neighbor within 4 Å")
    one_alone = {6: "1 of 3 atoms has no neighbor within 4 Å"}
    assert strict.unusable(crystals, table) == all_alone | one_alone
    assert strict.doubtful(crystals, table) == {}
    assert lenient.unusable(crystals, table) == all_alone
    assert lenient.doubtful(crystals, table) == one_alone
    assert "(3 without any)" in table.line()
    assert table.facts()["isolated_sites"] == 3


def test_reference_padding_takes_every_crystal_with_a_warning(crystals):
    padded = GraphView(cutoff=4.0, max_neighbors=12, pad="reference")
    table = table_of(padded, crystals)
    assert padded.unusable(crystals, table) == {}
    assert set(padded.doubtful(crystals, table)) == {1, 5, 6}
    graph = padded.batch(table, np.array([1, 5]))
    assert graph.edge_index.tolist() == [[0] * 12 + [1] * 12] * 2


@pytest.mark.parametrize(
    ("view", "wider"),
    [
        (CAPPED, NeighborConfig(cutoff=10.0, max_neighbors=40)),
        (ALL_NEIGHBORS, EdgeConfig(cutoff=10.0)),
    ],
)
def test_a_wider_table_does_not_lend_its_edges(view, wider, crystals):
    """Xenon has neighbors at 9 Å in the table, but the view ends at 4 Å."""
    table = wider.build(crystals)
    assert view.unusable(crystals, table) == view.unusable(crystals, table_of(view, crystals))
    for row in range(len(crystals)):
        own = view.batch(table_of(view, crystals), np.array([row]))
        found = view.batch(table, np.array([row]))
        assert found.edge_index.tolist() == own.edge_index.tolist()
        assert found.distances.tolist() == own.distances.tolist()


@pytest.mark.parametrize("view", VIEWS)
def test_a_neighbor_at_the_cutoff_is_one(view):
    crystals = CrystalSet.from_crystals([cube("at", 84, 4.0), cube("beyond", 84, 4.001)])
    assert set(view.unusable(crystals, table_of(view, crystals))) == {1}


def test_no_crystal():
    empty = CrystalSet.from_crystals([])
    for view in (CAPPED, ALL_NEIGHBORS):
        assert table_of(view, empty).count_isolated(4.0).shape == (0,)
        assert view.unusable(empty, table_of(view, empty)) == {}


def test_the_smallest_table_that_serves():
    assert CAPPED.table_config == NeighborConfig(cutoff=4.0, max_neighbors=12)
    assert ALL_NEIGHBORS.table_config == EdgeConfig(cutoff=4.0)


@pytest.mark.parametrize(
    ("view", "smaller"),
    [
        (CAPPED, NeighborConfig(cutoff=3.9, max_neighbors=12)),
        (CAPPED, NeighborConfig(cutoff=4.0, max_neighbors=11)),
        (CAPPED, EdgeConfig(cutoff=9.0)),
        (ALL_NEIGHBORS, EdgeConfig(cutoff=3.9)),
        (ALL_NEIGHBORS, NeighborConfig(cutoff=9.0, max_neighbors=200)),
    ],
)
def test_a_table_that_does_not_hold_the_view(view, smaller, tiny_crystals):
    """Missing edges would be no error anywhere else: the model would just see fewer."""
    with pytest.raises(ValueError, match=r"the table \(.*\) is smaller than the view \(GraphView"):
        view.batch(smaller.build(tiny_crystals), np.arange(2))


def test_all_neighbors_are_those_of_a_cap_that_cuts_nothing(tiny_crystals):
    rows = np.array([3, 0, 2])
    capped = GraphView(cutoff=4.0, max_neighbors=200)
    few = capped.batch(table_of(capped, tiny_crystals), rows)
    every = ALL_NEIGHBORS.batch(table_of(ALL_NEIGHBORS, tiny_crystals), rows)
    for name, tensor in vars(few).items():
        if isinstance(tensor, torch.Tensor) and name not in ("edge_index", "distances"):
            assert getattr(every, name).tolist() == tensor.tolist(), name
    edges = [
        sorted(zip(*g.edge_index.tolist(), g.distances.tolist(), strict=True)) for g in (few, every)
    ]
    assert edges[0] == edges[1]  # each atom's in its own order


def test_reference_padding_has_graphs_of_its_own(tiny_crystals):
    """The public checkpoints were trained on neighbors that the index decides among."""
    padded = GraphView(cutoff=8.0, max_neighbors=12, pad="reference")
    masked = GraphView(cutoff=8.0, max_neighbors=12)
    by_index = NeighborConfig(ties="index")
    assert padded.table_config == by_index
    assert masked.table_config == NeighborConfig()
    for view, other in ((padded, masked), (masked, padded)):
        with pytest.raises(ValueError, match="is smaller than the view"):
            view.batch(other.table_config.build(tiny_crystals), np.arange(2))
    assert by_index.union(NeighborConfig(max_neighbors=16)) is None
    assert by_index.union(NeighborConfig(max_neighbors=16, ties="index")) == NeighborConfig(
        max_neighbors=16, ties="index"
    )
