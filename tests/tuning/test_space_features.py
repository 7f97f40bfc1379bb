"""Which features the trials of a search ask for, before any trial asks."""

from typing import Any

import numpy as np
import pytest

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.edge_table import EdgeConfig
from raymat.features.graph_view import GraphView
from raymat.features.neighbor_table import NeighborConfig
from raymat.models import load_spec
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space import parse_space, read_space, shipped_spaces
from raymat.tuning.space_features import tables_to_build, unusable_rows, views_of

SHIPPED = {name: read_space(str(path)) for name, path in shipped_spaces().items()}


def space_of(model: str, searched: dict[str, Any], **sections: Any) -> SearchSpace:
    content = {
        "model": model,
        "space": searched,
        "budget": {"trials": 4, "epochs": 1},
        "search": {"name": "random"},
        **sections,
    }
    return parse_space(content, path="s.yaml")


def cube(name: str, z: int, side: float) -> Crystal:
    return Crystal(name, np.eye(3) * side, np.array([z], dtype=np.uint8), np.zeros((1, 3)))


@pytest.fixture(scope="module")
def crystals(tiny_crystals: CrystalSet) -> CrystalSet:
    """Two that a model of all neighbors cannot take within 4 Å, one of them at 5 Å."""
    return CrystalSet.from_crystals(
        [tiny_crystals[0], cube("near", 36, 4.5), tiny_crystals[2], cube("far", 54, 9.0)]
    )


def test_one_table_of_neighbors_serves_every_trial():
    searched = {
        "model.cutoff": {"uniform": [4.0, 9.0]},
        "model.max_neighbors": {"int": [6, 20]},
    }
    (table,) = tables_to_build(space_of("cgcnn", searched))
    assert table == NeighborConfig(cutoff=9.0, max_neighbors=20)


def test_the_default_may_lie_outside_the_space():
    """It is trial 0 all the same, so the table must hold it."""
    searched = {"model.cutoff": {"uniform": [4.0, 5.0]}, "model.max_neighbors": {"int": [14, 16]}}
    (table,) = tables_to_build(space_of("cgcnn", searched))
    assert table == NeighborConfig(cutoff=8.0, max_neighbors=16)


def test_all_neighbors_up_to_the_largest_cutoff():
    searched = {"model.cutoff": {"uniform": [3.0, 5.5]}}
    assert tables_to_build(space_of("megnet", searched)) == (EdgeConfig(cutoff=5.5),)


def test_of_descriptors_those_that_are_tried_first(crystals: CrystalSet):
    searched = {"model.n_max": {"choice": [1, 2, 3]}, "model.C": {"log_uniform": [0.1, 10.0]}}
    first = [{"model.C": 2.0}, {"model.n_max": 2}, {"model.n_max": 2, "model.C": 3.0}]
    space = space_of("soap_svr", searched, try_first=first).decided_by(crystals)
    tables = tables_to_build(space)
    assert [table.n_max for table in tables] == [1, 2]
    assert {table.species for table in tables} == {(11, 17, 36, 54, 55)}


@pytest.mark.parametrize("space", SHIPPED.values(), ids=SHIPPED)
def test_every_trial_of_a_shipped_space_finds_its_graph(space: SearchSpace, crystals: CrystalSet):
    """A graph is built once for all trials; of a descriptor at least the default's is there."""
    space = space.decided_by(crystals)
    tables, rng = tables_to_build(space), np.random.default_rng(7)
    reads = load_spec(space.model).reads
    assert len({table.kind for table in tables}) == 1
    default = reads(space.configure({}).architecture).table_config
    drawn = [reads(space.configure(space.sample(rng)).architecture) for _ in range(100)]
    graphs = [view.table_config for view in drawn if isinstance(view, GraphView)]
    for wanted in (default, *graphs):
        assert any(table.holds(wanted) for table in tables), wanted


def test_rows_that_some_trial_could_not_take(crystals: CrystalSet):
    searched = {"model.cutoff": {"uniform": [4.0, 5.0]}}
    space = space_of("megnet", searched)
    tables = [config.build(crystals) for config in tables_to_build(space)]
    found = unusable_rows(space, crystals, tables)
    assert set(found) == {1, 3}  # all trials must be compared on the same rows
    assert "no atom has a neighbor within" in found[1]
    fixed = space_of("megnet", {"model.n_blocks": {"int": [1, 2]}}, fixed={"model.cutoff": 5.0})
    tables = [config.build(crystals) for config in tables_to_build(fixed)]
    assert set(unusable_rows(fixed, crystals, tables)) == {3}


def test_no_row_is_unusable_for_the_descriptor_of_its_own_data(crystals: CrystalSet):
    space = SHIPPED["soap_svr"].decided_by(crystals)
    tables = [config.build(crystals) for config in tables_to_build(space)[:1]]
    (lone,) = unusable_rows(space, crystals, tables).items()  # its image stands at 9 Å
    assert lone[0] == 3
    assert lone[1].startswith("no atom has a neighbor within")
    fewer = SHIPPED["soap_svr"].decided_by(crystals.take(np.arange(3)))
    tables = [config.build(crystals) for config in tables_to_build(fewer)[:1]]
    (told,) = unusable_rows(fewer, crystals, tables).items()
    assert told[0] == 3
    assert "holds Xe" in told[1]


def test_views_are_those_of_trials():
    space = space_of("megnet", {"model.cutoff": {"choice": [4.0, 4.5, 5.0]}})
    assert {view.cutoff for view in views_of(space)} == {4.0, 4.5, 5.0}
