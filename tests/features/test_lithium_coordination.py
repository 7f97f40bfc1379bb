"""The coordination of lithium: golden crystals, pymatgen's cells, and cells that are none."""

import numpy as np
import pytest
from conftest import read_reference
from slow_neighbors import supercell

from raymat.data.crystals import Crystal
from raymat.errors import DataError
from raymat.features import lithium_coordination as coordination
from raymat.features.lithium_coordination import lithium_coordination, lithium_site_coordination

GOLDEN = read_reference("stability_structures.json")["structures"]
CRYSTALS = read_reference("crystal_graphs.json")["structures"]

GOLDEN_TOLERANCE = 1e-6  # relative, as the golden numbers' README says
SAME_CELL = 1e-9  # absolute; the same polyhedron computed in another way


def golden_crystal(name: str) -> Crystal:
    from pymatgen.core import Lattice

    golden = CRYSTALS[name]
    return Crystal(
        material_id=name,
        lattice=np.array(Lattice.from_parameters(*golden["lattice"]).matrix),
        atomic_numbers=np.array(golden["atomic_numbers"], dtype=np.uint8),
        frac_coords=np.array(golden["frac_coords"], dtype=np.float64),
    )


def crystal_of(lattice, numbers, frac_coords) -> Crystal:
    return Crystal(
        material_id="made",
        lattice=np.array(lattice, dtype=np.float64) * np.ones((3, 3)),
        atomic_numbers=np.array(numbers, dtype=np.uint8),
        frac_coords=np.array(frac_coords, dtype=np.float64),
    )


def cubic(a, numbers, frac_coords) -> Crystal:
    return crystal_of(np.eye(3) * a, numbers, frac_coords)


def pymatgen_numbers(crystal: Crystal, at_most: int | None = None):
    """What the published rule names: VoronoiNN with these settings, for the first Li sites."""
    from pymatgen.analysis.local_env import VoronoiNN

    rule = VoronoiNN(
        tol=0,
        cutoff=10,
        allow_pathological=True,
        weight="solid_angle",
        extra_nn_info=False,
        compute_adj_neighbors=False,
    )
    structure = crystal.to_structure()
    sites = np.flatnonzero(crystal.atomic_numbers == 3).tolist()[:at_most]
    return np.array([rule.get_cn(structure, site, use_weights=True) for site in sites])


def random_crystal(rng: np.random.Generator) -> Crystal:
    """A skewed cell with a random mix of Li and O at 15 Å3 per atom, none closer than 1 Å."""
    n = int(rng.integers(2, 9))
    while True:
        lattice = np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
        lattice *= (15 * n / np.linalg.det(lattice)) ** (1 / 3)
        numbers = np.where(np.arange(n) < (n + 1) // 2, 3, 8)
        crystal = crystal_of(lattice, numbers, rng.uniform(-1, 2, (n, 3)))
        distances = crystal.to_structure().distance_matrix + 9 * np.eye(n)
        if distances.min() > 1.0:
            return crystal


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_crystal(name):
    golden, crystal = GOLDEN[name], golden_crystal(name)
    numbers = lithium_site_coordination(crystal)
    assert np.allclose(numbers, golden["cn_per_Li"], rtol=GOLDEN_TOLERANCE, atol=0)
    found = lithium_coordination(crystal)
    assert found.number == pytest.approx(golden["cn_mean"], rel=GOLDEN_TOLERANCE)
    assert found.reason == ""


def test_simple_cubic_cell_is_a_cube():
    assert lithium_coordination(cubic(5.13, [3], [[0, 0, 0]])).number == pytest.approx(6.0)


def test_bcc_cell_is_a_truncated_octahedron():
    """6 squares, each 4 arcsin(1/9) wide, and 8 hexagons that share the rest and are the widest."""
    square = 4 * np.arcsin(1 / 9)
    hexagon = (4 * np.pi - 6 * square) / 8
    found = lithium_coordination(cubic(4.083, [3, 9], [[0, 0, 0], [0.5, 0.5, 0.5]])).number
    assert found == pytest.approx(4 * np.pi / hexagon, abs=SAME_CELL)


@pytest.mark.parametrize("seed", range(12))
def test_equals_pymatgens_cells(seed):
    crystal = random_crystal(np.random.default_rng(seed))
    found = lithium_site_coordination(crystal)
    assert np.allclose(found, pymatgen_numbers(crystal), rtol=0, atol=SAME_CELL)


def test_degenerate_corners_do_not_matter():
    """A billionth of an Å decides which facets meet in a corner of fcc, not the number."""
    crystal = golden_crystal("li_LiF")
    rng = np.random.default_rng(0)
    for size in (0.0, 1e-15, 1e-12, 1e-9):
        shaken = crystal.frac_coords + size * rng.normal(size=crystal.frac_coords.shape)
        moved = crystal_of(crystal.lattice, crystal.atomic_numbers, shaken)
        # A tiny facet of edge e has an angle of order e², the others lose of order e.
        assert np.allclose(lithium_site_coordination(moved), 6.0, rtol=0, atol=100 * size + 1e-9)


def test_number_is_one_of_the_crystal_and_not_of_its_description():
    crystal = golden_crystal("li_Li3N")
    number = lithium_coordination(crystal).number
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    order = np.array([3, 1, 0, 2])
    shifted = crystal.frac_coords + np.array([3.3, -0.7, 9.0])
    same = [
        crystal_of(crystal.lattice @ rotation, crystal.atomic_numbers, crystal.frac_coords),
        crystal_of(crystal.lattice, crystal.atomic_numbers, shifted),
        crystal_of(crystal.lattice, crystal.atomic_numbers[order], crystal.frac_coords[order]),
        supercell(crystal, (2, 1, 2)),
    ]
    for other in same:
        assert lithium_coordination(other).number == pytest.approx(number, abs=SAME_CELL)


def test_crystal_without_lithium(tiny_crystals):
    found = lithium_coordination(tiny_crystals[0])
    assert np.isnan(found.number)
    assert found.reason == "it holds no Li"
    with pytest.raises(DataError, match="NaCl: it holds no Li"):
        lithium_site_coordination(tiny_crystals[0])


SQUARE_LAYER = [[0, 0, 0], [0.5, 0.5, 0]]
OPEN = {
    "nothing within 10 Å": (cubic(12.0, [3], [[0, 0, 0]]), r"by the 0 atoms within 10 Å"),
    "one plane": (
        crystal_of(np.diag([3.0, 3.0, 30.0]), [3], [[0, 0, 0]]),
        r"cell of Li is open: site 0 is not enclosed by the \d+ atoms within 10 Å",
    ),
    "one chain": (crystal_of(np.diag([3.0, 30.0, 30.0]), [3], [[0, 0, 0]]), "by the 6 atoms"),
    "surface of a slab": (
        crystal_of(np.diag([4.0, 4.0, 30.0]), [3, 9, 9], [*SQUARE_LAYER, [0, 0, 0.06]]),
        "cell of Li is open",
    ),
    "a slab whose rough surface closes the cell far away": (
        crystal_of(np.diag([4.0, 4.0, 30.0]), [9, 3, 9], [*SQUARE_LAYER, [0, 0, 0.001]]),
        "cell of Li is open: site 1 is not enclosed",
    ),
    "a molecule in a box": (
        cubic(30.0, [9, 3], [[0, 0, 0], [0.05, 0, 0]]),
        "cell of Li is open: site 1 is not enclosed by the 1 atoms",
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_cell_is_a_reason_and_not_a_number(name):
    crystal, reason = OPEN[name]
    found = lithium_coordination(crystal)
    assert np.isnan(found.number)
    assert "\n" not in found.reason
    with pytest.raises(DataError, match=reason):
        lithium_site_coordination(crystal)


def test_pymatgen_has_a_number_for_an_open_cell():
    """Why the rule is not taken as it is: facets that reach infinity are left out in silence."""
    slab, _ = OPEN["surface of a slab"]
    assert np.isfinite(pymatgen_numbers(slab)).all()


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (cubic(4.0, [3, 9], [[0, 0, 0], [0, 0, 1]]), "sites 0 and 1 stand in one place"),
        (cubic(4.0, [3, 3], [[0, 0, 0], [0, 0, 1e-6]]), "sites 0 and 1 stand in one place"),
        (crystal_of(np.diag([4.0, 4.0, 0.0]), [3], [[0, 0, 0]]), "the cell has a volume of 0 Å3"),
        (cubic(4.0, [3], [[0, np.nan, 0]]), "site 0 has coordinates"),
    ],
)
def test_broken_crystal_is_a_reason(crystal, reason):
    found = lithium_coordination(crystal)
    assert np.isnan(found.number)
    assert reason in found.reason
    assert not found.reason.startswith("made")


def test_facets_that_do_not_close_are_not_believed(monkeypatch):
    halved = coordination._solid_angles
    monkeypatch.setattr(coordination, "_solid_angles", lambda *of: halved(*of) / 2)
    found = lithium_coordination(golden_crystal("li_LiF"))
    assert np.isnan(found.number)
    assert found.reason == (
        "the Voronoi cell of Li does not close: site 0, facets of 6.28319 sr instead of 4 pi"
    )


@pytest.mark.data
@pytest.mark.parametrize("name", ["li_Li2O", "li_LiF", "li_Li3N"])
def test_golden_crystal_read_from_its_cif(shared, name):
    from raymat.data.structure_parser import ParsedStructure, parse_cif

    text = (shared / "spec" / "golden" / "cif" / f"{name}.cif").read_text(encoding="utf-8")
    parsed = parse_cif(text)
    assert isinstance(parsed, ParsedStructure), parsed
    crystal = crystal_of(parsed.lattice, parsed.atomic_numbers, parsed.frac_coords)
    expected = GOLDEN[name]["cn_per_Li"]
    assert np.allclose(lithium_site_coordination(crystal), expected, rtol=GOLDEN_TOLERANCE, atol=0)


@pytest.mark.data
def test_equals_pymatgens_cells_on_200_real_crystals(shared):
    """At most two Li of each; the three without a number have over 280 Å3 per atom."""
    from raymat.data.readers import load_crystals

    crystals = load_crystals(str(shared / "data" / "li_sample.parquet")).crystals
    n_compared, opened = 0, []
    for row in range(200):
        crystal = crystals[row]
        found = lithium_coordination(crystal)
        if found.reason:
            opened.append(crystal.material_id)
            continue
        expected = pymatgen_numbers(crystal, at_most=2)
        numbers = lithium_site_coordination(crystal)[: len(expected)]
        n_compared += len(numbers)
        assert np.allclose(numbers, expected, rtol=0, atol=SAME_CELL), row
    assert n_compared > 300
    assert opened == ["mp-1095737", "mp-1096278", "mp-1097238"]
