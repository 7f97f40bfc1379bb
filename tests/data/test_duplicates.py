"""Crystals that are one and the same are found, however their cells are written down."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_crystal
from pydantic import ValidationError

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.duplicate_candidates import DuplicateRules, near_pairs
from raymat.data.duplicates import KnownCrystals, find_duplicates
from raymat.data.readers import load_crystals
from raymat.data.symmetry import crystal_system, find_symmetry, primitive_cell


def named(crystal: Crystal, name: str) -> Crystal:
    return Crystal(name, crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)


def supercell(crystal: Crystal) -> Crystal:
    """Double the cell along a."""
    coords = np.concatenate([crystal.frac_coords, crystal.frac_coords + np.eye(3)[0]])
    lattice = crystal.lattice * [[2.0], [1.0], [1.0]]
    numbers = np.tile(crystal.atomic_numbers, 2)
    return Crystal(crystal.material_id, lattice, numbers, coords / [2.0, 1.0, 1.0])


def moved(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Shift the origin, turn the lattice and shuffle the atoms."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    order = rng.permutation(len(crystal.atomic_numbers))
    coords = (crystal.frac_coords + rng.uniform(size=3)) % 1.0
    return Crystal(
        crystal.material_id, crystal.lattice @ turn, crystal.atomic_numbers[order], coords[order]
    )


def groups_of(*crystals: Crystal, **rules: float) -> list[set[str]]:
    found = find_duplicates(
        [("a", CrystalSet.from_crystals(list(crystals)))], DuplicateRules(**rules)
    )
    table = found.table()
    return [set(rows["material_id"]) for _, rows in table.groupby("group")]


@pytest.mark.parametrize("name", ["NaCl", "Si", "CsCl", "SrTiO3"])
def test_every_way_to_write_a_crystal_is_found(name: str) -> None:
    rng = np.random.default_rng(0)
    crystal = make_crystal(name)
    ways = [
        named(crystal, "given"),
        named(moved(crystal, rng), "moved"),
        named(supercell(crystal), "doubled"),
        named(moved(supercell(crystal), rng), "doubled and moved"),
        named(make_crystal(name, 1.02), "stretched"),
        named(primitive_cell(crystal), "primitive"),
    ]
    assert groups_of(*ways) == [{way.material_id for way in ways}]


def test_what_differs_is_kept_apart() -> None:
    salt = make_crystal("NaCl")
    other = make_crystal("CsCl")  # NaCl in the structure of CsCl: another polymorph
    polymorph = Crystal("b2", other.lattice * 0.85, np.array([11, 17], np.uint8), other.frac_coords)
    wide = named(make_crystal("NaCl", 1.1), "wide")  # a third more volume
    potassium = Crystal("KCl", salt.lattice, np.where(salt.atomic_numbers == 11, 19, 17).astype(
        np.uint8), salt.frac_coords)  # fmt: skip
    assert groups_of(salt, polymorph, wide, potassium, make_crystal("Si")) == []
    assert groups_of(salt, wide, volume_window=0.5) == [{"NaCl", "wide"}]


def test_targets_of_a_group_are_compared_across_sources() -> None:
    first = CrystalSet.from_crystals(
        [make_crystal("NaCl"), make_crystal("Si")], pd.DataFrame({"gap": [5.0, 0.5]})
    )
    second = CrystalSet.from_crystals(
        [named(make_crystal("Si", 1.01), "x-1"), named(make_crystal("Si", 1.02), "x-2")],
        pd.DataFrame({"gap": [0.75, np.nan]}),
    )
    third = CrystalSet.from_crystals([named(make_crystal("NaCl"), "y-1")])
    found = find_duplicates([("a", first), ("b", second), ("c", third)])
    assert (len(found.groups), found.n_crystals, found.n_across, found.n_within) == (2, 5, 2, 1)
    table = found.table("gap")
    assert table["group"].tolist() == [1, 1, 1, 2, 2]
    assert table["source"].tolist() == ["a", "b", "b", "a", "c"]
    assert table["material_id"].tolist() == ["Si", "x-1", "x-2", "NaCl", "y-1"]
    assert table["formula"].tolist() == ["Si"] * 3 + ["NaCl"] * 2
    assert table["spacegroup_number"].tolist() == [227] * 3 + [225] * 2
    assert table["target_range"].tolist()[:3] == [0.25] * 3
    assert table["target_range"].isna().tolist()[3:] == [True, True]  # one value is no range
    line = found.lines()[0]
    assert line.startswith("duplicates: 2 groups of 5 crystals (2 across sources, 1 within one)")
    assert "symprec 0.1 Å" in line
    assert "stol 0.3" in line


def test_limits_are_told() -> None:
    many = [named(make_crystal("Si", 1 + 0.001 * k), f"si-{k}") for k in range(5)]
    pairs = [*many, named(make_crystal("SrTiO3"), "a"), named(make_crystal("SrTiO3", 1.01), "b")]
    crystals = CrystalSet.from_crystals(pairs)
    found = find_duplicates([("a", crystals)], DuplicateRules(largest=4))
    assert [group.formula for group in found.groups] == ["SrTiO3"]
    assert "1 sets of more than 4 crystals" in found.lines()[-1]
    assert "the largest 5 of Si in space group 227" in found.lines()[-1]
    found = find_duplicates([("a", crystals)], DuplicateRules(most_pairs=10))
    assert [group.formula for group in found.groups] == ["Si"]  # 2 atoms come before 5
    assert (found.n_pairs, found.n_left_out) == (11, 1)
    assert found.lines()[-1].startswith("not compared here: 1 more such pairs")


def test_stated_space_groups_only_spare_work() -> None:
    crystals = [make_crystal("Si"), named(make_crystal("Si", 1.01), "twin")]
    for numbers, n_groups in (([227, 227], 1), ([227, 1], 0), ([0, 0], 1)):
        stated = CrystalSet.from_crystals(crystals, pd.DataFrame({"spacegroup_number": numbers}))
        assert len(find_duplicates([("a", stated)], trust_stated=True).groups) == n_groups
        assert len(find_duplicates([("a", stated)]).groups) == 1


def test_symmetry_does_not_depend_on_the_cell() -> None:
    for name, number, system in (("NaCl", 225, "cubic"), ("SrTiO3", 221, "cubic")):
        crystal = make_crystal(name)
        found = find_symmetry(crystal)
        assert found is not None
        assert found.spacegroup == number
        assert crystal_system(number) == system
        assert find_symmetry(supercell(crystal)) == find_symmetry(primitive_cell(crystal)) == found
    assert find_symmetry(make_crystal("SrTiO3")).orbits == ((8, 3), (22, 1), (38, 1))
    ends = {1: "triclinic", 15: "monoclinic", 16: "orthorhombic", 75: "tetragonal",
            143: "trigonal", 168: "hexagonal", 195: "cubic", 230: "cubic"}  # fmt: skip
    assert {number: crystal_system(number) for number in ends} == ends


def test_pairs_of_near_volumes() -> None:
    pairs = near_pairs(np.array([10.0, 11.0, 12.0, 30.0]), 0.1)
    assert pairs.tolist() == [[0, 1], [1, 2]]
    assert near_pairs(np.zeros(0), 0.1).shape == (0, 2)


def test_rules_are_checked() -> None:
    for wrong in ({"stol": 0.0}, {"symprec": -1.0}, {"largest": 1}, {"angle_tol": 90.0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            DuplicateRules(**wrong)


@pytest.mark.data
@pytest.mark.long
def test_the_same_ids_of_two_real_sources(shared: Path) -> None:
    names = ("elastic_sample", "mp_sample")
    loaded = [load_crystals(str(shared / "data" / f"{name}.parquet")).crystals for name in names]
    same = set(loaded[0].material_ids) & set(loaded[1].material_ids)
    table = find_duplicates(list(zip(names, loaded, strict=True))).table()
    joined = [set(rows["material_id"]) for _, rows in table.groupby("group")]
    assert same
    assert sum(any(name in group for group in joined) for name in same) >= 0.95 * len(same)


# --- one crystal among known ones ----------------------------------------------------------------


def strained(crystal: Crystal, strain: float = 0.01) -> Crystal:
    """Stretch along a and shear, which leaves nothing of a cubic symmetry."""
    form = np.eye(3) + strain * np.array([[1.0, 0.5, 0.0], [0.0, -0.3, 0.4], [0.0, 0.0, 0.2]])
    return Crystal(
        crystal.material_id, crystal.lattice @ form, crystal.atomic_numbers, crystal.frac_coords
    )


def rattled(crystal: Crystal, rng: np.random.Generator, size: float = 0.02) -> Crystal:
    """Move every atom by about `size` (Å)."""
    shift = rng.normal(scale=size, size=crystal.frac_coords.shape) @ np.linalg.inv(crystal.lattice)
    return Crystal(
        crystal.material_id, crystal.lattice, crystal.atomic_numbers, crystal.frac_coords + shift
    )


@pytest.mark.parametrize("name", ["NaCl", "Si", "CsCl", "SrTiO3"])
def test_a_known_crystal_is_found_under_any_name(name: str, tiny_crystals: CrystalSet) -> None:
    rng = np.random.default_rng(1)
    crystal = named(make_crystal(name), "elsewhere")
    ways = [
        crystal,
        moved(crystal, rng),
        supercell(crystal),
        moved(supercell(crystal), rng),
        primitive_cell(crystal),
        named(make_crystal(name, 1.02), "stretched"),
        strained(crystal),
        moved(strained(crystal), rng),
        rattled(crystal, rng),
    ]
    known = KnownCrystals(tiny_crystals)
    found = known.contains(CrystalSet.from_crystals(ways))
    assert found.tolist() == [True] * len(ways)


def test_strangers_are_not_known_whatever_they_are_called(tiny_crystals: CrystalSet) -> None:
    salt = make_crystal("NaCl")
    others = CrystalSet.from_crystals(
        [
            named(make_crystal("CsCl"), "NaCl"),  # another composition under a known name
            Crystal("NaCl", np.eye(3) * 3.3, np.array([11, 17], np.uint8),
                    np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])),  # the same in another structure
            named(make_crystal("NaCl", 1.05), "NaCl"),  # 16 % more volume
            Crystal("NaCl", salt.lattice, salt.atomic_numbers[::-1].copy(), salt.frac_coords),
        ]
    )  # fmt: skip
    known = KnownCrystals(tiny_crystals.take(np.array([0])))
    # Sodium and chlorine may change places in rock salt.
    assert known.contains(others).tolist() == [False, False, False, True]
    nobody = KnownCrystals(tiny_crystals.take(np.zeros(0, np.int64)))
    assert not nobody.contains(others).any()


@pytest.mark.data
def test_lithium_candidates_that_the_elastic_set_holds(shared: Path) -> None:
    """Both name their crystals in one way, so that ids tell what must be found."""
    elastic, lithium = (
        load_crystals(str(shared / "data" / f"{name}.parquet"), max_rejected=1.0).crystals
        for name in ("elastic", "li_candidates")
    )
    rows = np.arange(0, len(lithium), 10)
    some = lithium.take(rows)
    found = KnownCrystals(elastic).contains(some)
    by_id = np.isin(some.material_ids.astype(str), elastic.material_ids.astype(str))
    assert by_id.sum() > 50
    assert found[by_id].all()
    assert found.sum() - by_id.sum() < 0.2 * by_id.sum()  # twins under another id
