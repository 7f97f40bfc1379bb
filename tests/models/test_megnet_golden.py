"""MEGNet against numbers from an independent implementation (science: the authors' equations)."""

import json

import numpy as np
import pytest
import torch
from golden import NAMES, REFERENCE, golden_crystals
from golden_megnet import BONDED, GOLDEN, STRUCTURES, TIGHT, TOLERANCE, golden_state

from raymat.features import segments
from raymat.features.graph_view import GraphView
from raymat.models.megnet import SPEC, DistanceExpansion, MEGNet, MEGNetConfig

ROWS = np.array([NAMES.index(name) for name in BONDED])
EXPECTED = np.array([STRUCTURES[name]["synthetic_T3_cutoff4"] for name in BONDED])
CENTERS_IN_FLOAT32 = 1e-5  # relative, where the slope of a Gaussian's logarithm is largest
VIEW = SPEC.reads(MEGNetConfig())


@pytest.fixture(scope="module")
def table():
    return VIEW.table_config.build(golden_crystals())


@pytest.fixture(scope="module")
def network():
    network = MEGNet(MEGNetConfig(), "regression").double()
    network.load_state_dict({k: torch.tensor(v) for k, v in golden_state().items()})
    return network.eval()


def predict(network, table, rows=ROWS):
    with torch.inference_mode():
        return network(VIEW.batch(table, rows))[:, 0].numpy()


def test_outputs(network, table):
    assert len(BONDED) == 14
    assert np.abs(predict(network, table) - EXPECTED).max() < TIGHT


def test_outputs_one_by_one(network, table):
    found = [predict(network, table, np.array([row]))[0] for row in ROWS]
    assert np.abs(np.array(found) - EXPECTED).max() < TIGHT


def test_outputs_in_single_precision(table):
    network = MEGNet(MEGNetConfig(), "regression")
    network.load_state_dict({k: torch.tensor(v) for k, v in golden_state().items()})
    assert np.abs(predict(network.eval(), table) - EXPECTED).max() < TOLERANCE / 10


def test_taking_equal_edges_together_changes_nothing(network, table, monkeypatch):
    together = predict(network, table)
    monkeypatch.setattr(segments, "SAME_DISTANCE", -1.0)
    assert segments.bond_graph(VIEW.batch(table, ROWS)).distances.shape == table.distances.shape
    assert np.abs(predict(network, table) - together).max() < 1e-11


def test_a_true_lstm_misses_the_golden_values(table):
    network = MEGNet(MEGNetConfig(set2set="lstm"), "regression").double()
    network.load_state_dict({k: torch.tensor(v) for k, v in golden_state().items()})
    difference = np.abs(predict(network.eval(), table) - EXPECTED)
    assert (difference > 10 * TIGHT).all()


@pytest.mark.parametrize("cutoff", [4, 5])
def test_number_of_bonds(cutoff):
    table = GraphView(float(cutoff), None).table_config.build(golden_crystals())
    for name, n_edges in zip(NAMES, table.n_edges, strict=True):
        assert n_edges == STRUCTURES[name].get(f"n_bonds_cutoff{cutoff}", 0), name


def test_crystals_without_bonds_are_named(table):
    unusable = VIEW.unusable(golden_crystals(), table)
    assert {NAMES[row] for row in unusable} == set(STRUCTURES) - set(BONDED)
    assert set(unusable.values()) == {"no atom has a neighbor within 4 Å"}


@pytest.mark.parametrize("model", GOLDEN["models"])
def test_published_sizes(model):
    published = GOLDEN["models"][model]
    config = MEGNetConfig(cutoff=published["cutoff"], set2set_steps=published["set2set_T"][0])
    network = MEGNet(config, "regression")
    assert network.n_parameters == published["n_parameters"]
    first, last, n_centers = published["centres"]
    centers = network.expand.centers
    assert (len(centers), float(centers[0]), float(centers[-1])) == (n_centers, first, last)
    assert network.expand.width == published["width"]


def test_distance_expansion():
    golden = json.loads((REFERENCE / "gaussian.json").read_text(encoding="utf-8"))
    examples = golden["megnet_examples_centres_0_5_100_width_0.5"]
    expand = DistanceExpansion(4.0, 100, 0.5).double()
    for distance, expected in examples.items():
        found = expand(torch.tensor([float(distance)], dtype=torch.float64))[0]
        assert float(found.sum()) == pytest.approx(expected["sum"], rel=CENTERS_IN_FLOAT32)
        for place, value in expected["at_index"].items():
            assert float(found[int(place)]) == pytest.approx(value, rel=CENTERS_IN_FLOAT32)
