from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import elements_set

from raymat.data import leakage
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.leakage import Leakage, find_leakage
from raymat.data.readers import load_crystals
from raymat.data.splits import Split, SplitConfig, make_split


def split_of(crystals: CrystalSet, parts: list[str]) -> Split:
    return Split(SplitConfig(), crystals.material_ids, np.array(parts, dtype=object))


def test_counts_by_hand() -> None:
    crystals = elements_set([[11, 17], [11, 17], [14], [11, 11, 17, 17], [17], [14]])
    crystals.properties["spacegroup_number"] = [225, 221, 227, 221, 64, 166]
    split = split_of(crystals, ["train", "train", "train", "test", "test", "test"])
    found = find_leakage(crystals, split)
    assert found == Leakage(n_test=3, n_formula=2, n_formula_spacegroup=1)
    assert found.line() == (
        "leakage: 2 of 3 test rows share a reduced formula with training rows, "
        "1 also the space group"
    )


def test_validation_rows_are_no_training_rows() -> None:
    crystals = elements_set([[14], [14], [8]])
    assert (
        find_leakage(crystals, split_of(crystals, ["validation", "test", "train"])).n_formula == 0
    )


def fcc(name: str, a: float, c: float) -> Crystal:
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=float)
    return Crystal(name, np.diag([a, a, c]), np.full(4, 29, np.uint8), sites)


def test_space_groups_are_found_where_the_data_has_none() -> None:
    cube, larger, stretched = fcc("a", 3.6, 3.6), fcc("b", 3.9, 3.9), fcc("c", 3.6, 4.6)
    crystals = CrystalSet.from_crystals([cube, larger, stretched])
    split = split_of(crystals, ["train", "test", "test"])
    assert find_leakage(crystals, split) == Leakage(2, 2, 1)


@pytest.mark.parametrize(
    "column", [["Fm-3m", "Fm-3m", "P4/mmm"], [np.nan, 225, 0], [225, "225", -1], [225, 225.0, 231]]
)
def test_space_groups_that_are_no_numbers_are_found_by_spglib(column: list[object]) -> None:
    crystals = CrystalSet.from_crystals(
        [fcc("a", 3.6, 3.6), fcc("b", 3.9, 3.9), fcc("c", 3.6, 4.6)],
        pd.DataFrame({"spacegroup_number": column}),
    )
    split = split_of(crystals, ["train", "test", "test"])
    assert find_leakage(crystals, split) == Leakage(2, 2, 1)


def test_an_unknown_space_group_is_shared_with_none() -> None:
    sites = np.zeros((2, 3))  # both atoms in one place: spglib finds no symmetry
    crystals = CrystalSet.from_crystals(
        [Crystal(name, np.eye(3) * 3.0, np.full(2, 14, np.uint8), sites) for name in "ab"]
    )
    assert find_leakage(crystals, split_of(crystals, ["train", "test"])) == Leakage(1, 1, 0)


def test_a_space_group_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    find = leakage._find_spacegroup
    monkeypatch.setattr(
        leakage, "_find_spacegroup", lambda c, row: asked.append(row) or find(c, row)
    )
    crystals = CrystalSet.from_crystals([fcc(name, 3.6, 3.6) for name in "abc"])
    known: dict[int, int] = {}
    for parts in (["train", "test", "validation"], ["test", "train", "train"]):
        assert find_leakage(crystals, split_of(crystals, parts), known=known).n_formula == 1
    assert asked == [1, 0, 2]
    assert known == {0: 225, 1: 225, 2: 225}


@pytest.mark.data
def test_elastic_set(shared: Path) -> None:
    crystals = load_crystals(str(shared / "data" / "elastic.parquet")).crystals
    assert find_leakage(crystals, make_split(crystals, SplitConfig())) == Leakage(898, 119, 9)
    for kind in ("formula", "chemical_system"):
        found = find_leakage(crystals, make_split(crystals, SplitConfig(kind=kind)))
        assert found == Leakage(898, 0, 0)


@pytest.mark.data
def test_spglib_agrees_with_the_column(shared: Path) -> None:
    crystals = load_crystals(str(shared / "data" / "elastic_sample.parquet")).crystals
    config = SplitConfig(train=0.5, validation=0.1, test=0.4)
    bare = CrystalSet(**{**vars(crystals), "properties": pd.DataFrame(index=range(len(crystals)))})
    for seed in range(3):
        split = make_split(crystals, config.model_copy(update={"seed": seed}))
        assert find_leakage(bare, split) == find_leakage(crystals, split)
