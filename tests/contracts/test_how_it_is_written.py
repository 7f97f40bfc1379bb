"""A prediction does not depend on how a crystal is written, not even where the cap cuts a shell.

In each of these crystals some atom's 12 or 8 nearest neighbors end inside a shell of equal
distances that holds different elements, or atoms of one element in different surroundings.
"""

import numpy as np
import pytest
from variants import one, variants

from raymat.data.crystals import Crystal
from raymat.features.edge_table import EdgeConfig, build_edge_table
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table

SAME = 1e-6  # distances are float32, see test_every_model.py
LI, OX, NA, CL, K, TI, NI, SR, CS = 3, 8, 11, 17, 19, 22, 28, 38, 55
FIRST_SHELL = 3.7  # Å
FCC = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
CENTERING = np.array([[0, 0, 0], [2, 1, 1], [1, 2, 2]]) / 3  # of a rhombohedral lattice
VARIANTS = [v for v in variants() if not v.ties_by_index]
CAPPED = [v for v in VARIANTS if v.is_capped]
UNIMODULAR = ([[1, 1, 0], [0, 1, 0], [0, -1, 1]], [[0, 1, 0], [1, 0, 2], [0, 0, -1]])


def crystal(name, lattice, sites):
    """Build a crystal from (Z, fractional coordinates) of its sites."""
    numbers, coordinates = zip(*sites, strict=True)
    return Crystal(
        name,
        np.array(lattice, dtype=np.float64),
        np.array(numbers, dtype=np.uint8),
        np.array(coordinates, dtype=np.float64),
    )


def ordered_rock_salt():
    """Li and Ni in alternating layers along (111) of an ideal rock salt: 4 atoms, all ties."""
    a = 4.1  # Å
    lattice = a / 2 * np.array([[1, 1, 0], [1, 0, 1], [2, -1, -1]])
    return crystal(
        "LiNiO2", lattice, [(LI, [0] * 3), (NI, [0.5] * 3), (OX, [0.25] * 3), (OX, [0.75] * 3)]
    )


def layered_rock_salt():
    """The same in the hexagonal cell of α-NaFeO2 with ideal c/a, 12 atoms."""
    a = 4.1 / np.sqrt(2)  # Å
    lattice = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, a * np.sqrt(24)]]
    heights = ((LI, 0.0), (NI, 0.5), (OX, 0.25), (OX, 0.75))
    return crystal(
        "layers",
        lattice,
        [(z, shift + np.eye(3)[2] * h) for z, h in heights for shift in CENTERING],
    )


def perovskite():
    oxygen = [(OX, site) for site in ([0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5])]
    return crystal("SrTiO3", np.eye(3) * 3.905, [(SR, [0] * 3), (TI, [0.5] * 3), *oxygen])


def two_kinds_of_chlorine():
    """CsCl three cells long with one Cs replaced: the Cl beside it and the others differ."""
    metals = [(z, [k / 3, 0, 0]) for k, z in enumerate((NA, CS, CS))]
    chlorine = [(CL, [(k + 0.5) / 3, 0.5, 0.5]) for k in range(3)]
    return crystal("CsCl", np.diag([12.33, 4.11, 4.11]), metals + chlorine)


def two_kinds_of_sodium():
    """NaCl two cells long with one Na replaced by K; Na and Cl are both of several kinds."""
    sites = [(site + np.array([k, 0, 0])) / [2, 1, 1] for k in range(2) for site in FCC]
    metals = [(K if i == 0 else NA, site) for i, site in enumerate(sites)]
    chlorine = [(CL, site + np.array([0.25, 0, 0])) for site in sites]
    return crystal("NaCl", np.diag([11.28, 5.64, 5.64]), metals + chlorine)


CRYSTALS = [
    ordered_rock_salt(),
    layered_rock_salt(),
    perovskite(),
    two_kinds_of_chlorine(),
    two_kinds_of_sodium(),
]


def with_basis(written, basis):
    """The same crystal with other lattice vectors, integer combinations of its own."""
    basis = np.array(basis)
    frac = written.frac_coords @ np.linalg.inv(basis)
    return Crystal("basis", basis @ written.lattice, written.atomic_numbers, frac)


def repeated(written, repeats):
    cells = np.array(list(np.ndindex(*repeats)), dtype=float)
    frac = (written.frac_coords[:, None] + cells).reshape(-1, 3) / repeats
    numbers = np.repeat(written.atomic_numbers, len(cells))
    return Crystal("cells", written.lattice * np.array(repeats)[:, None], numbers, frac)


def disguised(written, rng):
    """The same crystal with its atoms in another order, moved, turned and put into other cells."""
    order = rng.permutation(len(written.atomic_numbers))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    frac = written.frac_coords[order] + rng.normal(size=3) + rng.integers(-2, 3, (len(order), 3))
    return Crystal("other", written.lattice @ turn, written.atomic_numbers[order], frac)


def ways_to_write(written):
    rng = np.random.default_rng(1)
    cells = [repeated(written, (2, 1, 1)), repeated(written, (1, 1, 2))]
    bases = [with_basis(written, basis) for basis in UNIMODULAR]
    return [disguised(same, rng) for same in (*[written] * 4, *cells, *bases)]


@pytest.fixture(params=CRYSTALS, ids=lambda written: written.material_id)
def written(request):
    return request.param


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def network(variant, twelve_crystals):
    return variant.used_network(twelve_crystals, "y")


def test_prediction_and_latent_vector(variant, network, written):
    expected = variant.predict(network, written)
    latent = variant.latent(network, written)
    for same in ways_to_write(written):
        assert variant.predict(network, same) == pytest.approx(expected, abs=SAME)
        assert variant.latent(network, same) == pytest.approx(latent, abs=SAME)


@pytest.mark.parametrize("variant", CAPPED, indirect=True, ids=str)
@pytest.mark.parametrize("max_neighbors", [5, 8, 10, 16])
def test_any_cap(variant, written, twelve_crystals, max_neighbors):
    variant = variant.with_changes(max_neighbors=max_neighbors)
    network = variant.used_network(twelve_crystals, "y")
    expected = variant.predict(network, written)
    for same in ways_to_write(written):
        assert variant.predict(network, same) == pytest.approx(expected, abs=SAME)


def test_a_shell_is_cut_among_atoms_that_differ(written):
    """Else the tests above would show nothing: by index, the neighbors kept do depend on it."""
    ways = [written, *ways_to_write(written)]
    by_index = {kept(same, NeighborConfig(ties="index")) for same in ways}
    assert len(by_index) > 1
    assert len({kept(same, NeighborConfig()) for same in ways}) == 1


def kept(written, config):
    """Give the different atoms of a crystal, each with those it keeps, by their nearest atoms."""
    near = build_edge_table(one(written), EdgeConfig(cutoff=FIRST_SHELL))
    around = np.split(written.atomic_numbers[near.indices], near.edge_offsets[1:-1])
    labels = [
        f"{z}:{sorted(of.tolist())}" for z, of in zip(written.atomic_numbers, around, strict=True)
    ]
    table = build_neighbor_table(one(written), config)
    assert table.n_ambiguous[0] > 0
    rows = zip(labels, table.indices, strict=True)
    return frozenset((label, *sorted(labels[j] for j in row)) for label, row in rows)
