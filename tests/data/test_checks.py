from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import array_table, cif_text, rock_salt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.core import Structure

from raymat.data.checks import check_rows, find_column
from raymat.data.crystals import CrystalSet
from raymat.data.distances import MIN_DISTANCE, find_close_atoms
from raymat.data.raw import ParsedStructure, RawCrystals
from raymat.data.readers import LoadedData, load_crystals
from raymat.errors import DataError


def one_raw(
    lattice: Any, numbers: list[int], coords: Any, properties: pd.DataFrame | None = None
) -> RawCrystals:
    parsed = ParsedStructure(
        np.array(lattice, dtype=float), np.array(numbers), np.array(coords, dtype=float)
    )
    table = pd.DataFrame(index=[0]) if properties is None else properties
    return RawCrystals.from_parsed(np.array(["x"], dtype=object), [parsed], table)


def reason_of(raw: RawCrystals) -> str:
    return str(check_rows(raw, None, where="here").reasons[0])


def load_broken(path: Path, tiny: CrystalSet, row: int, column: str, value: object) -> LoadedData:
    table = array_table(tiny)
    table[column] = table[column].astype(object)
    table.at[row, column] = value  # noqa: PD008 (a list into one cell)
    pq.write_table(pa.table({name: table[name].tolist() for name in table}), path)
    return load_crystals(str(path), max_rejected=0.5)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("lattice", [1.0] * 6, "unreadable structure: lattice has 6 numbers, not 9"),
        ("lattice", None, "unreadable structure: lattice has 0 numbers, not 9"),
        ("lattice", [1.0, 0, 0] * 3, "singular lattice"),
        ("lattice", [0.0] * 9, "singular lattice"),
        ("lattice", [np.nan] * 9, "not finite"),
        ("lattice", [np.inf] + [0.0] * 8, "not finite"),
        ("frac_coords", [0.0] * 7, "unreadable structure: 2 atoms but 7 coordinates"),
        ("frac_coords", [0.0] * 6, "atoms closer than 0.5 Å: sites 0 and 1 are 0.00 Å apart"),
        ("frac_coords", [0.0] * 5 + [np.nan], "not finite"),
        ("frac_coords", [0.0] * 5 + [1e300], "not finite"),
        ("frac_coords", None, "unreadable structure: 2 atoms but 0 coordinates"),
        ("atomic_numbers", [55, 0], "unknown element: Z = 0"),
        ("atomic_numbers", [55, 101], "unknown element: Z = 101"),
        ("atomic_numbers", [300, 17], "unknown element: Z = 300"),
        ("atomic_numbers", [-3, 17], "unknown element: Z = -3"),
        ("atomic_numbers", [55, None], "unknown element: Z = 0"),
        ("atomic_numbers", [55.0, 17.5], "unknown element: Z = 0"),
    ],
)
def test_broken_arrays_are_rejected_alone(
    tmp_path: Path, tiny_crystals: CrystalSet, column: str, value: object, reason: str
) -> None:
    loaded = load_broken(tmp_path / "b.parquet", tiny_crystals, 2, column, value)
    assert loaded.rejected["material_id"].tolist() == ["CsCl"]
    assert loaded.rejected["reason"][0].startswith(reason)
    kept = loaded.crystals
    assert kept.material_ids.tolist() == ["NaCl", "Si", "SrTiO3"]
    np.testing.assert_array_equal(kept[2].frac_coords, tiny_crystals[3].frac_coords)
    np.testing.assert_array_equal(kept[1].atomic_numbers, tiny_crystals[1].atomic_numbers)


def test_no_atoms(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    table = array_table(tiny_crystals)
    table["atomic_numbers"] = [[], *table["atomic_numbers"][1:]]
    table["frac_coords"] = [[], *table["frac_coords"][1:]]
    pq.write_table(pa.table({name: table[name].tolist() for name in table}), tmp_path / "n.parquet")
    loaded = load_crystals(str(tmp_path / "n.parquet"), max_rejected=0.5)
    assert loaded.rejected["reason"][0] == "structure is missing: no atoms"


def test_text_in_structure_columns(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    table = array_table(tiny_crystals).assign(atomic_numbers=[["Na"]] * 4)
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"must hold lists of numbers, found list<.*string>"):
        load_crystals(str(tmp_path / "t.parquet"))


def test_nested_lists_read_as_flat_ones(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    table = array_table(tiny_crystals)
    nested = {name: table[name].tolist() for name in table}
    for name in ("lattice", "frac_coords"):
        nested[name] = [np.reshape(row, (-1, 3)).tolist() for row in nested[name]]
    pq.write_table(pa.table(nested), tmp_path / "nested.parquet")
    read = load_crystals(str(tmp_path / "nested.parquet")).crystals
    np.testing.assert_array_equal(read.frac_coords, tiny_crystals.frac_coords)
    np.testing.assert_array_equal(read.lattices, tiny_crystals.lattices)


def test_partial_occupancy_in_cif_and_dictionary() -> None:
    from raymat.data.structure_parser import parse_cell, quiet_pymatgen

    mixed = Structure(
        rock_salt().lattice, [{"Na": 0.5, "K": 0.5}, {"Cl": 1.0}], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    vacant = Structure(rock_salt().lattice, [{"Na": 0.9}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    expected = "partial occupancy: 1 of 2 sites are not one whole atom"
    with quiet_pymatgen():
        for structure in (mixed, vacant):
            assert parse_cell(structure.as_dict()) == expected
            assert parse_cell(cif_text(structure)) == expected


def test_atom_of_no_number_is_an_unknown_element() -> None:
    raw = one_raw(np.eye(3) * 5.0, [11, 0], np.array([[0.0] * 3, [0.5] * 3]))
    assert reason_of(raw) == "unknown element: Z = 0, expected 1 to 100"


def test_more_than_200_sites_are_welcome() -> None:
    grid = np.array(list(product(range(6), range(6), range(6)))) / 6.0
    assert reason_of(one_raw(np.eye(3) * 18.0, [14] * 216, grid)) == ""


def test_self_image_of_a_flat_cell() -> None:
    raw = one_raw(np.diag([5.0, 5.0, 0.4]), [6], [[0, 0, 0]])
    assert reason_of(raw) == "atoms closer than 0.5 Å: site 0 and its own image are 0.40 Å apart"


def test_a_good_crystal_in_a_very_skewed_cell_is_kept() -> None:
    skewed = np.eye(3) * 3.0
    skewed[2] += 40 * skewed[0] + 7 * skewed[1]  # planes 0.07 Å apart, the same lattice
    assert reason_of(one_raw(skewed, [29], [[0.1, 0.2, 0.3]])) == ""


@pytest.mark.parametrize(("gap", "is_bad"), [(0.49, True), (0.51, False)])
def test_limit_across_the_cell_border(gap: float, is_bad: bool) -> None:
    raw = one_raw(np.eye(3) * 4.0, [6, 8], [[0.999, 0.5, 0.5], [0.999 + gap / 4 - 1, 0.5, 0.5]])
    assert reason_of(raw).startswith("atoms closer") is is_bad


def shortest_distance(lattice: NDArray[Any], frac: NDArray[Any]) -> float:
    """Give the smallest distance by looking at every image within five cells."""
    images = np.array(list(product(range(-5, 6), repeat=3)))
    shifts = frac[:, None, None] - frac[None, :, None] + images
    distances = np.linalg.norm(shifts @ lattice, axis=-1)
    own = np.eye(len(frac), dtype=bool)[:, :, None] & ~images.any(axis=1)
    return float(distances[~own].min())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.6, 1.2, 3.0]), n=st.integers(1, 4))
def test_close_atoms_agree_with_brute_force(seed: int, scale: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) * scale + rng.uniform(-0.4, 0.4, (3, 3)) * scale
    frac = rng.uniform(-1.0, 2.0, (n, 3)) if n > 1 else np.zeros((1, 3))
    frac -= np.floor(frac)
    found = find_close_atoms(one_raw(lattice, [6] * n, frac), np.array([0]))
    assert bool(found) == (shortest_distance(lattice, frac) < MIN_DISTANCE)


def targets(values: list[object], name: str = "y", dtype: Any = None) -> RawCrystals:
    n = len(values)
    cube = ParsedStructure(np.eye(3) * 4.0, np.array([14]), np.zeros((1, 3)))
    ids = np.array([f"c-{i}" for i in range(n)], dtype=object)
    table = pd.DataFrame({name: pd.Series(values, dtype=dtype), "formula": ["Si"] * n})
    return RawCrystals.from_parsed(ids, [cube] * n, table)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("y", None, "target is missing: NaN or empty"),
        ("y", float("nan"), "target is missing: NaN or empty"),
        ("y", float("-inf"), "target is infinite"),
        ("y", "about 3", "target is not a number: 'about 3'"),
        ("y", [1.0], "target is not a number: [1.0]"),
        ("band_gap", -0.1, "target out of bounds: -0.1, but band_gap lies between 0 and 50 eV"),
        ("is_metal", 2, "target out of bounds: 2, but is_metal is 0 or 1"),
    ],
)
def test_bad_targets(name: str, value: object, reason: str) -> None:
    checked = check_rows(targets([1.0, value, 0.0], name, object), name, where="here")
    assert checked.reasons.tolist() == ["", reason, ""]


def test_targets_are_free_when_none_is_asked_for() -> None:
    assert len(check_rows(targets([None, "a", np.inf], dtype=object), None, where="x").usable) == 3


def test_booleans_become_zero_and_one() -> None:
    checked = check_rows(targets([True, False, None], "is_metal", object), "is_metal", where="x")
    assert checked.properties["is_metal"][:2].tolist() == [1.0, 0.0]
    assert checked.usable.tolist() == [0, 1]


def test_a_text_column_is_no_target() -> None:
    with pytest.raises(
        DataError, match=r"here: column 'formula' holds text \('Si'\), not numbers; .*columns: y$"
    ):
        check_rows(targets([1.0, 2.0]), "formula", where="here")


def test_first_usable_row_of_an_id_is_kept() -> None:
    raw = targets([None, 1.0, 2.0, 3.0], dtype=object)
    raw.material_ids[:] = ["a", "a", "b", "a"]
    checked = check_rows(raw, "y", where="x")
    assert checked.usable.tolist() == [1, 2]
    assert checked.reasons[3] == "duplicate id: an earlier row has this material_id"


@pytest.mark.parametrize(
    ("values", "names", "numbers"),
    [
        ([0, 1, 1], ("0", "1"), [0, 1, 1]),
        ([1.0, 0.0, np.nan], ("0", "1"), [1, 0, np.nan]),
        ([True, False, None], ("0", "1"), [1, 0, np.nan]),
        (["metal", "insulator", None], ("insulator", "metal"), [1, 0, np.nan]),
        (["yes", "no", " Yes "], ("no", "Yes"), [1, 0, 1]),
        (["metal", "non-metal", "Metal"], ("non-metal", "Metal"), [1, 0, 1]),
        ([0, 1, 2], None, [0, 1, 2]),
        ([1, 1, 1], None, [1, 1, 1]),
        ([0.0, 1.0, 0.5], None, [0, 1, 0.5]),
    ],
)
def test_values_decide_what_is_a_class(values, names, numbers) -> None:
    checked = check_rows(targets(values, "stable"), "stable", where="here")
    assert checked.prop is not None
    assert checked.prop.names == names
    assert checked.prop.task == ("regression" if names is None else "classification")
    assert np.array_equal(checked.properties["stable"], numbers, equal_nan=True)


def test_rows_that_cannot_be_used_do_not_decide() -> None:
    raw = targets([0.0, 1.0, 5.0])
    raw.problems[2] = "structure unreadable: x"
    assert check_rows(raw, "y", where="here").prop.task == "classification"


@pytest.mark.parametrize("name", ["band_gap", "K_VRH"])
def test_a_standard_property_of_numbers_stays_one(name: str) -> None:
    checked = check_rows(targets([0, 1, 1], name), name, where="here")
    assert (checked.prop.task, checked.prop.names) == ("regression", None)
    with pytest.raises(DataError, match=f"column '{name}' holds text \\('metal'\\), not numbers"):
        check_rows(targets(["metal", "gap", "gap"], name), name, where="here")


def test_more_than_two_classes_are_refused_by_name() -> None:
    raw = targets(["b", "a", "c", "a"], "phase")
    with pytest.raises(
        DataError,
        match=r"here: column 'phase' holds 3 classes \(a, b, c\); raymat learns two: leave",
    ):
        check_rows(raw, "phase", where="here")


@pytest.mark.parametrize("value", [1e200, -2e100])
def test_a_number_too_large_to_be_squared_is_left_out(value: float) -> None:
    checked = check_rows(targets([1.0, value, 2.0]), "y", where="here")
    assert str(checked.reasons[1]).startswith(f"target out of bounds: {value:g}, but raymat")
    assert checked.usable.tolist() == [0, 2]


def test_a_column_of_two_words_is_offered_by_name() -> None:
    properties = pd.DataFrame({"K": [1.0, 2.0], "stable": ["yes", "no"], "note": ["a", "a"]})
    with pytest.raises(DataError, match=r"no column 'stabel'; did you mean 'stable'\?"):
        find_column(properties, "stabel", where="t.csv")
    with pytest.raises(DataError, match=r"no column 'zzz'; known: K, stable$"):
        find_column(properties, "zzz", where="t.csv")
