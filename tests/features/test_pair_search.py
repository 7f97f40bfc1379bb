"""Sheared cells: the same neighbors, images, descriptors and coordination as of a plain cell."""

import numpy as np
import pytest

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import DataError
from raymat.features.edge_table import EdgeConfig
from raymat.features.lithium_coordination import lithium_coordination
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.pair_search import check_cells, cut_cells, find_pairs
from raymat.features.soap import SoapConfig
from raymat.features.soap_forecast import count_working_bytes

SAME = 1e-6  # Å; distances are float32
SALT = Crystal(
    "LiCl", np.eye(3) * 3.2, np.array([3, 17], np.uint8), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
)
SHEARS = {
    "thousand": [[1, 0, 0], [1000, 1, 0], [0, 0, 1]],
    "twice": [[1, 0, 0], [-30_000, 1, 0], [7, 5000, 1]],
}
SOAP = SoapConfig(species=(3, 17))
TABLES = [NeighborConfig(), NeighborConfig(max_neighbors=64), EdgeConfig(cutoff=8.0), SOAP]


def sheared(shear):
    """The same crystal with other lattice vectors."""
    basis = np.array(shear, dtype=np.float64)
    frac = SALT.frac_coords @ np.linalg.inv(basis)
    return Crystal("sheared", basis @ SALT.lattice, SALT.atomic_numbers, frac)


def one(crystal):
    return CrystalSet.from_crystals([crystal])


@pytest.mark.parametrize("shear", SHEARS.values(), ids=SHEARS)
@pytest.mark.parametrize("config", TABLES, ids=repr)
def test_tables(config, shear):
    found, expected = (config.build(one(crystal)) for crystal in (sheared(shear), SALT))
    for name in expected.dtypes:
        values = getattr(expected, name)
        assert getattr(found, name) == pytest.approx(values, abs=SAME), name


@pytest.mark.parametrize("shear", SHEARS.values(), ids=SHEARS)
def test_coordination_and_forecast(shear):
    crystal = sheared(shear)
    expected = lithium_coordination(SALT).number
    assert lithium_coordination(crystal).number == pytest.approx(expected, abs=SAME)
    needed, usual = (count_working_bytes(SOAP, one(c)) for c in (crystal, SALT))
    assert needed == pytest.approx(usual)


@pytest.mark.parametrize("shear", [np.eye(3), *SHEARS.values()])
def test_images_are_those_of_the_given_cell(shear):
    crystal = sheared(shear)
    cells = cut_cells(one(crystal), 0, 1)
    pairs = find_pairs(cells, np.arange(2), np.array([6.0]))
    steps = crystal.frac_coords[pairs.neighbor] - crystal.frac_coords[pairs.atom]
    vectors = (steps + pairs.given_images(cells)) @ crystal.lattice
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(pairs.distance, abs=SAME)


def test_a_cell_beyond_any_crystal_is_refused_by_name():
    wide = Crystal("wide", np.eye(3) * 9e5, SALT.atomic_numbers, SALT.frac_coords)
    with pytest.raises(DataError, match=r"wide: cell too large: 9e.05 × .*; drop the crystal"):
        check_cells(CrystalSet.from_crystals([SALT, wide]))
