"""SOAP vectors: golden numbers, DScribe told of all species, and what must not change them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slow_neighbors import one, random_crystal, supercell

from raymat.config import build_config
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.structure_parser import parse_cif, quiet_pymatgen
from raymat.errors import ConfigError, DataError
from raymat.features.descriptor_table import DescriptorTable
from raymat.features.soap import SoapConfig, SoapView, count_elements
from raymat.features.soap_forecast import (
    check_memory,
    count_images,
    count_working_bytes,
    forecast,
)
from raymat.features.soap_vectors import import_soap

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "soap.json").read_text(encoding="utf-8"))["structures"]
CELLS = json.loads((REFERENCE / "crystal_graphs.json").read_text(encoding="utf-8"))["structures"]
GOLDEN_RELATIVE, GOLDEN_FLOOR = 1e-6, 1e-9  # as its README says
INVARIANCE = 1e-6  # relative to the largest value; rounding of coordinates
TO_94 = tuple(range(1, 95))
FEW = (1, 8, 11, 14, 17, 22, 38, 55)
MODES = ("off", "mu2", "mu1nu1", "crossover")
DSCRIBE_PADDING = 3.716922188849838  # sigmas; DScribe's search goes as far beyond r_cut


def golden_crystal(name: str) -> Crystal:
    from pymatgen.core import Lattice

    of = CELLS[name]
    return Crystal(
        material_id=name,
        lattice=np.array(Lattice.from_parameters(*of["lattice"]).matrix),
        atomic_numbers=np.array(of["atomic_numbers"], dtype=np.uint8),
        frac_coords=np.array(of["frac_coords"], dtype=np.float64),
    )


def vector_of(crystal: Crystal, config: SoapConfig) -> np.ndarray:
    table = config.build(one(crystal))
    return SoapView(config).batch(table, np.array([0])).to_dense().numpy()[0]


def by_dscribe(crystal: Crystal, config: SoapConfig) -> np.ndarray:
    """DScribe told of all species of the configuration."""
    from ase import Atoms

    given = config.model_dump(exclude={"compression"})
    soap = import_soap()(periodic=True, compression={"mode": config.compression}, **given)
    atoms = Atoms(
        numbers=crystal.atomic_numbers,
        cell=crystal.lattice,
        positions=crystal.frac_coords @ crystal.lattice,
        pbc=True,
    )
    vector = soap.create(atoms)
    return np.where(np.abs(vector) < 1e-12, 0.0, vector)


def mixed_crystal(seed: int = 3, n_sites: int = 6) -> Crystal:
    rng = np.random.default_rng(seed)
    crystal = random_crystal(rng, n_sites)
    numbers = rng.choice([8, 22, 38], n_sites).astype(np.uint8)
    numbers[:3] = [38, 8, 22]
    return Crystal("mixed", crystal.lattice, numbers, crystal.frac_coords)


def assert_golden(crystal: Crystal, name: str) -> None:
    golden = GOLDEN[name]
    elements = SoapConfig(species=tuple(golden["species"]))
    expected = np.array(golden["compact_vector"])
    found = vector_of(crystal, elements)
    assert np.allclose(found, expected, rtol=GOLDEN_RELATIVE, atol=GOLDEN_FLOOR)
    assert np.linalg.norm(found) == pytest.approx(golden["l2norm"], rel=GOLDEN_RELATIVE)

    all_elements = SoapConfig(species=TO_94)
    wide = np.zeros(golden["n_features_Z1_94"])
    for column, value in golden["nonzero_Z1_94"].items():
        wide[int(column)] = value
    found = vector_of(crystal, all_elements)
    assert found.shape == wide.shape
    assert np.allclose(found, wide, rtol=GOLDEN_RELATIVE, atol=GOLDEN_FLOOR)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    assert_golden(golden_crystal(name), name)


@pytest.mark.data
def test_golden_from_the_cif_files(shared):
    files = sorted((shared / "spec" / "golden" / "cif").glob("*.cif"))
    assert {file.stem for file in files} == set(GOLDEN)
    for file in files:
        with quiet_pymatgen():
            parsed = parse_cif(file.read_text(encoding="utf-8"))
        assert not isinstance(parsed, str), parsed
        numbers = parsed.atomic_numbers.astype(np.uint8)
        crystal = Crystal(file.stem, parsed.lattice, numbers, parsed.frac_coords)
        assert_golden(crystal, file.stem)


@pytest.mark.parametrize(("n_species", "expected"), [(87, 11_484), (89, 12_015), (94, 13_395)])
def test_length_at_the_thesis_parameters(n_species, expected):
    assert SoapConfig(species=tuple(range(1, n_species + 1))).n_features == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_max", [1, 2, 3, 8])
@pytest.mark.parametrize("l_max", [0, 1, 6])
def test_length_is_the_one_of_dscribe(mode, n_max, l_max):
    config = SoapConfig(species=FEW, n_max=n_max, l_max=l_max, compression=mode)
    given = config.model_dump(exclude={"compression"})
    soap = import_soap()(periodic=True, compression={"mode": mode}, **given)
    assert config.n_features == soap.get_number_of_features()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("average", ["inner", "outer"])
@pytest.mark.parametrize("rbf", ["gto", "polynomial"])
@pytest.mark.parametrize("n_max", [1, 2, 3])
def test_equals_dscribe_told_of_all_species(mode, average, rbf, n_max):
    """Bit by bit, and so in DScribe's own order of features."""
    crystal = mixed_crystal()
    for l_max in range(4):
        config = SoapConfig(
            species=FEW, n_max=n_max, l_max=l_max, rbf=rbf, average=average, compression=mode
        )
        expected = by_dscribe(crystal, config)
        assert np.count_nonzero(expected) > 0
        assert np.array_equal(vector_of(crystal, config), expected)


def test_pairs_stand_where_dscribe_says():
    config = SoapConfig(species=FEW, n_max=2, l_max=1)
    soap = import_soap()(periodic=True, species=FEW, r_cut=5.0, n_max=2, l_max=1)
    columns = config.build(one(mixed_crystal())).columns
    pairs = [(8, 8), (8, 22), (8, 38), (22, 22), (22, 38), (38, 38)]
    places = [soap.get_location(pair) for pair in pairs]
    assert columns.tolist() == [k for place in places for k in range(place.start, place.stop)]


def test_vanishing_values_are_not_stored(tiny_crystals):
    config = SoapConfig(species=FEW)
    table = config.build(tiny_crystals)
    assert np.abs(table.values).min() > 1e-9
    # l = 0 of 3 pairs, 1 element, 3 pairs. SrTiO3 is cubic: its averages of l = 2 vanish as well.
    assert np.diff(table.row_offsets).tolist() == [3, 1, 3, 6]
    assert (table.columns % 3 == 0).all()


@pytest.mark.parametrize("average", ["inner", "outer"])
@pytest.mark.parametrize("rbf", ["gto", "polynomial"])
def test_what_must_not_change_the_vector(average, rbf):
    config = SoapConfig(species=FEW, n_max=2, average=average, rbf=rbf)
    crystal = mixed_crystal()
    lattice, numbers, frac = crystal.lattice, crystal.atomic_numbers, crystal.frac_coords
    expected = vector_of(crystal, config)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(numbers))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    changed = {
        "order of atoms": Crystal("x", lattice, numbers[order], frac[order]),
        "origin": Crystal("x", lattice, numbers, frac + np.array([0.3, -0.71, 5.2])),
        "image of an atom": Crystal("x", lattice, numbers, frac + rng.integers(-4, 5, frac.shape)),
        "rotation": Crystal("x", lattice @ rotation, numbers, frac),
        "supercell": supercell(crystal, (2, 1, 3)),
        "other lattice vectors": Crystal(
            "x", np.array([[1, 0, 0], [2, 1, 0], [0, -1, 1]]) @ lattice, numbers,
            frac @ np.linalg.inv([[1, 0, 0], [2, 1, 0], [0, -1, 1]]),
        ),
    }  # fmt: skip
    for what, same in changed.items():
        error = np.abs(vector_of(same, config) - expected).max()
        assert error < INVARIANCE * np.abs(expected).max(), what


def test_the_vector_sees_the_structure():
    config = SoapConfig(species=FEW)
    crystal = mixed_crystal()
    moved = crystal.frac_coords + np.eye(len(crystal.frac_coords), 3) * 0.05
    other = Crystal("x", crystal.lattice, crystal.atomic_numbers, moved)
    difference = np.abs(vector_of(other, config) - vector_of(crystal, config)).max()
    assert difference > 1e-3


@pytest.mark.parametrize("edge", [1.2, 2.5, 4.0])
def test_tiny_cell_of_one_atom(edge):
    """Far smaller than r_cut; must equal its own supercell."""
    config = SoapConfig(species=(14,), n_max=2)
    cell = np.eye(3) * edge + [[0, 0.3, 0], [0, 0, 0.2], [0, 0, 0]]
    crystal = Crystal("tiny", cell, np.array([14], dtype=np.uint8), np.array([[0.3, 0.9, 0.1]]))
    expected = vector_of(crystal, config)
    found = vector_of(supercell(crystal, (3, 2, 2)), config)
    assert np.abs(found - expected).max() < INVARIANCE * np.abs(expected).max()


def test_isolated_atom_has_its_own_density():
    config = SoapConfig(species=(10, 54))
    crystal = Crystal("far", np.eye(3) * 40.0, np.array([54], dtype=np.uint8), np.zeros((1, 3)))
    vector = vector_of(crystal, config)
    assert np.flatnonzero(vector).tolist() == [6]  # l = 0 of Xe with Xe; round, so nothing else
    assert vector[6] == pytest.approx(GOLDEN["edge_isolated_Xe"]["compact_vector"][0], rel=1e-9)


def test_foreign_elements_are_named_and_their_rows_empty(tiny_crystals):
    config = SoapConfig(species=(8, 14, 17, 22, 38))
    table = config.build(tiny_crystals)
    assert np.diff(table.row_offsets).tolist() == [0, 1, 0, 6]
    assert SoapView(config).unusable(tiny_crystals, table) == {
        0: "holds Na, which is not among the 5 elements the descriptor was made for",
        2: "holds Cs, which is not among the 5 elements the descriptor was made for",
    }


def test_several_foreign_elements_are_all_named(tiny_crystals):
    config = SoapConfig(species=(38,), compression="mu2")
    table = config.build(tiny_crystals)
    reasons = SoapView(config).unusable(tiny_crystals, table)
    assert SoapView(config).unknown_elements(tiny_crystals) == {
        0: (11, 17), 1: (14,), 2: (17, 55), 3: (8, 22)
    }  # fmt: skip
    assert len(reasons) == 4
    assert reasons[3].startswith("holds O and Ti, which are not among the 1 elements")
    assert len(table.values) == 0


def test_parts_join_to_the_whole(tiny_crystals):
    config = SoapConfig(species=FEW)
    whole = config.build(tiny_crystals)
    empty = config.build(tiny_crystals.take(np.zeros(0, dtype=np.int64)))
    parts = [config.build(tiny_crystals.take(np.array(rows))) for rows in ([0, 1], [2, 3])]
    joined = config.join([parts[0], empty, parts[1]])
    assert joined.config == config
    for name, dtype in DescriptorTable.dtypes.items():
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
        assert getattr(whole, name).dtype.str == getattr(joined, name).dtype.str == dtype


def test_rows_taken_are_those_of_the_crystals_taken(tiny_crystals):
    config = SoapConfig(species=(8, 14, 17, 22, 38, 55))  # no Na: the row of NaCl is empty
    rows = np.array([3, 0, 2, 3])
    taken, built = config.build(tiny_crystals).take(rows), config.build(tiny_crystals.take(rows))
    assert taken.config == built.config
    for name, dtype in DescriptorTable.dtypes.items():
        assert np.array_equal(getattr(taken, name), getattr(built, name))
        assert getattr(taken, name).dtype.str == dtype


def test_parts_of_another_descriptor_do_not_join(tiny_crystals):
    config, other = SoapConfig(species=FEW), SoapConfig(species=FEW, l_max=1)
    with pytest.raises(DataError, match=r"must share one configuration.*l_max=1"):
        config.join([config.build(tiny_crystals), other.build(tiny_crystals)])
    with pytest.raises(ValueError, match="does not hold the view"):
        SoapView(config).batch(other.build(tiny_crystals), np.array([0]))


def test_a_table_holds_only_its_own_configuration():
    config = SoapConfig(species=FEW)
    assert config.holds(SoapConfig(species=FEW))
    assert not config.holds(SoapConfig(species=FEW, average="outer"))
    assert not config.holds(SoapConfig(species=FEW[:-1]))


def test_flat_cell_is_refused():
    flat = Crystal("flat", np.diag([4.0, 4.0, 0.0]), np.array([14], np.uint8), np.zeros((1, 3)))
    with pytest.raises(DataError, match="flat: the cell has a volume of 0 Å3"):
        SoapConfig(species=FEW).build(one(flat))
    broken = Crystal("bad", np.eye(3) * np.nan, np.array([14], np.uint8), np.zeros((1, 3)))
    for crystal in (flat, broken):
        for ask in (forecast, lambda *given: check_memory(*given, 10**9)):
            with pytest.raises(
                DataError, match=f"^{crystal.material_id}: the cell has a volume of"
            ):
                ask(SoapConfig(species=FEW), one(crystal))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"species": []}, "'species': must be ascending atomic numbers from 1 to 100, each once"),
        ({"species": [8, 1]}, "must be ascending"),
        ({"species": [8, 8]}, "each once"),
        ({"species": [0, 8]}, "from 1 to 100"),
        ({"species": [8, 101]}, "from 1 to 100"),
        ({"species": [8], "r_cut": 1.0}, "'r_cut' must be above 1"),
        ({"species": [8], "n_max": 0}, "'n_max' must be at least 1"),
        ({"species": [8], "average": "off"}, "'average' must be one of 'inner', 'outer'"),
        ({}, "'species' is missing"),
    ],
)
def test_settings_that_cannot_be_used(values, message):
    with pytest.raises(ConfigError, match=message):
        build_config(SoapConfig, values, where="soap.yaml: model")


def test_defaults_are_those_of_the_thesis():
    config = build_config(SoapConfig, {"species": [8, 22]}, where="here")
    assert (config.r_cut, config.n_max, config.l_max, config.sigma) == (5.0, 1, 2, 1.0)
    assert (config.rbf, config.average, config.compression) == ("gto", "inner", "off")


def test_radial_functions_too_much_alike_are_refused(tiny_crystals):
    config = SoapConfig(species=FEW, r_cut=1.01, n_max=8)
    with pytest.raises(ConfigError, match=r"n_max=8.*r_cut=1.01 Å.*lower n_max or l_max"):
        config.build(tiny_crystals)


@pytest.mark.parametrize("mode", MODES)
def test_forecast_is_reached_where_no_symmetry_lets_values_vanish(mode):
    crystals = CrystalSet.from_crystals([mixed_crystal(seed, 5) for seed in range(3)])
    config = SoapConfig(species=FEW, n_max=2, l_max=3, average="outer", compression=mode)
    told, table = forecast(config, crystals), config.build(crystals)
    assert told.n_features == config.n_features
    assert told.n_values == len(table.values)
    assert told.table_bytes == config.forecast_bytes(crystals) == table.nbytes
    assert told.dense_row_bytes == 8 * config.n_features


@pytest.mark.parametrize("mode", ["mu2", "mu1nu1"])
def test_odd_l_vanish_where_an_inner_average_sums_over_elements(mode):
    config = SoapConfig(species=FEW, l_max=3, compression=mode)
    columns = config.build(one(mixed_crystal())).columns
    assert set((columns % 4).tolist()) == {0, 2}


def test_forecast_is_a_bound(tiny_crystals):
    config = SoapConfig(species=(8, 11, 14, 17, 22, 38))  # no Cs
    told = forecast(config, tiny_crystals)
    assert told.n_values == 9 + 3 + 0 + 18
    assert told.n_values >= len(config.build(tiny_crystals).values)
    assert count_elements(tiny_crystals).tolist() == [2, 1, 2, 3]
    assert told.largest == "SrTiO3"  # the smallest cell, repeated most


def test_forecast_of_no_crystals(tiny_crystals):
    told = forecast(SoapConfig(species=FEW), tiny_crystals.take(np.zeros(0, dtype=np.int64)))
    assert (told.n_values, told.working_bytes, told.largest) == (0, 0, "")


def test_forecast_counts_the_cells_that_dscribe_repeats():
    from dscribe.ext import extend_system

    for seed, sigma in ((0, 1.0), (1, 0.3), (2, 2.5)):
        crystal = mixed_crystal(seed, 4)
        config = SoapConfig(species=FEW, sigma=sigma)
        cutoff = config.r_cut + sigma * DSCRIBE_PADDING
        repeated = extend_system(
            crystal.frac_coords @ crystal.lattice, crystal.atomic_numbers.astype(np.int64),
            crystal.lattice, np.array([True] * 3), cutoff,
        )  # fmt: skip
        assert count_images(config, crystal.lattice[None])[0] == len(repeated.positions) / 4


def test_working_memory_grows_with_what_dscribe_allocates():
    crystals = CrystalSet.from_crystals([mixed_crystal(1, 4), mixed_crystal(1, 40)])
    small = count_working_bytes(SoapConfig(species=FEW), crystals)
    assert small[1] > small[0]
    for larger in ({"n_max": 4}, {"l_max": 8}, {"sigma": 3.0}, {"average": "outer"}):
        config = SoapConfig(species=FEW, **larger)
        assert (count_working_bytes(config, crystals) > small).all(), larger


def test_what_does_not_fit_is_refused_with_numbers_and_advice():
    crystals = CrystalSet.from_crystals([mixed_crystal(seed) for seed in range(40)])
    config = SoapConfig(species=FEW, n_max=8, l_max=6)
    needed = forecast(config, crystals).peak_bytes()
    check_memory(config, crystals, needed)
    with pytest.raises(ConfigError, match="set compression to mu1nu1") as raised:
        check_memory(config, crystals, needed - 1)
    message = str(raised.value)
    assert "SOAP vectors of 14,560 features for 40 crystals take up to 3.36 MB" in message
    assert "lower n_max=8 or l_max=6" in message
    assert "\n" not in message
    with pytest.raises(ConfigError, match="4 × "):
        check_memory(config, crystals, needed, n_workers=4)


def test_where_no_compression_helps_other_advice_is_given():
    crystals = one(mixed_crystal())
    config = SoapConfig(species=FEW, compression="mu2")
    with pytest.raises(ConfigError, match="10 kB are free; lower n_max=1, l_max=2, sigma=1"):
        check_memory(config, crystals, 10_000)


def test_importing_it_does_not_import_dscribe():
    code = (
        "import sys, raymat.features.soap, raymat.features.soap_forecast; "
        "sys.exit(sum(name in sys.modules for name in ('dscribe', 'ase', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
