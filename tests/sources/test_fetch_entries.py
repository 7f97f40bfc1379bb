"""One OPTIMADE entry to a structure, or the reason why it is none."""

import numpy as np
import pytest
from optimade_database import shared, structure, whole

from raymat.data.raw import ParsedStructure
from raymat.sources.databases.entries import entry_id, parse_entry


def entry(**changes: object) -> dict[str, object]:
    made = structure(5, **changes)
    return {"id": made.pop("id"), "type": "structures", "attributes": made}


def test_cartesian_positions_become_fractional_in_an_oblique_cell():
    lattice = [[3.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.5, 0.25, 5.0]]
    fractional = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    positions = (fractional @ np.array(lattice)).tolist()
    found = parse_entry(entry(lattice_vectors=lattice, cartesian_site_positions=positions))
    assert isinstance(found, ParsedStructure)
    np.testing.assert_allclose(found.frac_coords, fractional, atol=1e-14)
    np.testing.assert_array_equal(found.lattice, lattice)
    assert found.atomic_numbers.tolist() == [3, 17]


def test_without_species_the_names_of_the_sites_are_elements():
    found = parse_entry(entry(species=[]))
    assert isinstance(found, ParsedStructure)
    assert found.atomic_numbers.tolist() == [3, 17]
    assert parse_entry(entry(species=None, species_at_sites=["Li1", "Cl"])) == (
        "unknown element: species 'Li1' is no element"
    )


def test_species_may_have_any_names():
    species = [whole("Li") | {"name": "Li1"}, whole("Cl") | {"name": "halide"}]
    found = parse_entry(entry(species=species, species_at_sites=["Li1", "halide"]))
    assert isinstance(found, ParsedStructure)
    assert found.atomic_numbers.tolist() == [3, 17]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"species": [shared("Li", "Na"), whole("Cl")]}, "partial occupancy: "),
        ({"species": [shared("Li", "vacancy"), whole("Cl")]}, "vacancies: "),
        (
            {"species": [whole("Li") | {"concentration": [0.9]}, whole("Cl")]},
            "partial occupancy: a site is shared, or not fully occupied (species 'Li', 1 of 2",
        ),
        ({"species": [whole("Li") | {"chemical_symbols": ["X"]}, whole("Cl")]}, "unknown element"),
        ({"species": [whole("Li") | {"attached": ["H"]}, whole("Cl")]}, "attached atoms: "),
        ({"species": [whole("Li")]}, "malformed entry: no field 'Cl'"),
        ({"structure_features": ["implicit_atoms"]}, "atoms are missing: "),
        ({"structure_features": ["unknown_positions"]}, "positions are missing: "),
        ({"nperiodic_dimensions": 2}, "not a crystal: periodic in 2 dimensions, expected 3"),
        ({"lattice_vectors": None}, "structure is missing: no lattice_vectors"),
        ({"cartesian_site_positions": []}, "structure is missing: no cartesian_site_positions"),
        ({"lattice_vectors": [[1.0, 0.0], [0.0, 1.0]]}, "malformed entry: lattice_vectors"),
        ({"lattice_vectors": [[1, 0, 0], [None] * 3, [0, 0, 1]]}, "not finite: "),
        ({"lattice_vectors": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "singular lattice: "),
        ({"lattice_vectors": [["a", 0, 0], [2, 0, 0], [0, 0, 1]]}, "malformed entry: "),
        ({"cartesian_site_positions": [[0, 0, 0]]}, "malformed entry: cartesian_site_positions"),
        ({"species": "Li"}, "malformed entry: "),
        ({"species_at_sites": 7}, "malformed entry: "),
    ],
)
def test_reasons(changes, reason):
    found = parse_entry(entry(**changes))
    assert isinstance(found, str)
    assert found.startswith(reason)
    assert "\n" not in found


@pytest.mark.parametrize("nonsense", [None, 3, "text", [], {}, {"attributes": None}])
def test_nonsense_is_malformed(nonsense):
    found = parse_entry(nonsense)
    assert isinstance(found, str)
    assert found.startswith("malformed entry: ")


def test_a_large_cell_is_left_out():
    assert parse_entry(entry(), max_atoms=1) == ("cell too large: 2 atoms, more than --max-atoms 1")


def test_ids():
    assert entry_id({"id": "mp-149"}) == "mp-149"
    assert entry_id({"id": 7}) == "7"
    assert entry_id({"id": " "}) is None
    assert entry_id({}) is None
    assert entry_id("text") is None
