"""Element vectors against the CGCNN authors' table."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from raymat.errors import UnknownElementError
from raymat.features.elements import (
    BLOCKS,
    check_elements,
    element_categories,
    element_features,
    element_properties,
)

PROJECT = Path(__file__).parents[2]
GOLDEN = json.loads((PROJECT / "tests/reference/atom_features.json").read_text(encoding="utf-8"))
GOLDEN_NAMES = ("group", "period", "en", "rad", "val", "ie", "ea", "block", "vol")


def golden_vector(categories: dict[str, int | None]) -> np.ndarray:
    vector = np.zeros(92, dtype=np.float32)
    for name, category in categories.items():
        if category is not None:
            vector[GOLDEN["offsets"][name][0] + category] = 1.0
    return vector


def test_all_92_numbers_of_all_100_elements():
    features = element_features("properties_9")
    assert features.shape == (101, 92)
    assert features.dtype == np.float32
    assert not features[0].any()
    assert len(GOLDEN["elements"]) == 100
    symbols = {known.symbol: z for z, known in element_properties().items()}
    for symbol, categories in GOLDEN["elements"].items():
        expected = golden_vector(categories)
        assert np.array_equal(features[symbols[symbol]], expected), symbol


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_layout_of_the_blocks(name):
    lengths = list(BLOCKS.values())
    place = GOLDEN_NAMES.index(name)
    assert GOLDEN["offsets"][name] == [sum(lengths[:place]), lengths[place]]


def test_fewer_properties_are_the_first_blocks():
    full = element_features("properties_9")
    assert np.array_equal(element_features("properties_2"), full[:, :26])
    assert np.array_equal(element_features("properties_3"), full[:, :36])


def test_edges_belong_to_the_bin_below():
    assert element_categories(14)["electronegativity"] == 3  # Si, 1.90 on an edge
    assert element_categories(2)["electron_affinity"] is None  # He, below the range


def test_table_is_read_only_and_built_once():
    features = element_features("properties_9")
    assert element_features("properties_9") is features
    with pytest.raises(ValueError, match="read-only"):
        features[1, 0] = 1.0


def test_unknown_elements_are_named():
    check_elements([1, 100], where="mp-1")
    with pytest.raises(UnknownElementError, match=r"mp-1: .* atomic number 101, 118") as caught:
        check_elements(np.array([8, 118, 101, 101], dtype=np.uint8), where="mp-1")
    assert caught.value.atomic_numbers == (101, 118)
    with pytest.raises(UnknownElementError, match="atomic number 0"):
        check_elements([0], where="mp-2")


def test_shipped_table_is_what_its_source_gives():
    mendeleev = pytest.importorskip("mendeleev", reason="mendeleev (extra 'dev') not installed")
    if mendeleev.__version__ != "1.3.0":
        pytest.skip(f"the table is made from mendeleev 1.3.0, found {mendeleev.__version__}")
    tool = load_tool()
    assert tool.TABLE.read_text(encoding="utf-8") == tool.table_text()


def load_tool():
    path = PROJECT / "tools/make_element_table.py"
    spec = importlib.util.spec_from_file_location("make_element_table", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
