import numpy as np
import pytest
from builders import elements_set
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from raymat.data.composition import (
    SYMBOLS,
    chemical_systems,
    element_totals,
    reduced_formulas,
)
from raymat.data.crystals import CrystalSet

ATOMS = st.lists(
    st.sampled_from([1, 3, 8, 11, 17, 22, 26, 38, 57, 92, 100]), min_size=1, max_size=12
)


def test_symbols_are_in_order_of_z() -> None:
    assert list(SYMBOLS) == [Element.from_Z(z).symbol for z in range(1, 101)]


def test_tiny_crystals(tiny_crystals: CrystalSet) -> None:
    assert reduced_formulas(tiny_crystals).tolist() == ["NaCl", "Si", "CsCl", "SrTiO3"]
    assert chemical_systems(tiny_crystals).tolist() == ["Cl-Na", "Si", "Cl-Cs", "O-Sr-Ti"]
    assert element_totals(tiny_crystals) == {
        "O": 1, "Na": 1, "Si": 1, "Cl": 2, "Ti": 1, "Sr": 1, "Cs": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "formula"),
    [
        ([1, 8, 1], "H2O"),
        ([3, 3, 79, 79, *[53] * 8], "LiAuI4"),
        ([3, 5, 1, 1, 1, 1], "LiBH4"),
        ([6, 8, 8, 8, 20], "CaCO3"),
        ([8, 8], "O"),
    ],
)
def test_formulas_read_as_chemists_write_them(numbers: list[int], formula: str) -> None:
    assert reduced_formulas(elements_set([numbers])).tolist() == [formula]


@settings(max_examples=50, deadline=None)
@given(st.lists(ATOMS, min_size=1, max_size=6))
def test_formulas_agree_with_pymatgen(numbers: list[list[int]]) -> None:
    crystals = elements_set(numbers)
    formulas, systems = reduced_formulas(crystals), chemical_systems(crystals)
    for row, zs in enumerate(numbers):
        given_ = Composition({SYMBOLS[z - 1]: zs.count(z) for z in set(zs)})
        expected = {e.symbol: n for e, n in given_.items()}
        divisor = np.gcd.reduce([int(n) for n in expected.values()])
        found = {e.symbol: n * divisor for e, n in Composition(formulas[row]).items()}
        assert found == expected
        assert systems[row] == given_.chemical_system


@settings(max_examples=50, deadline=None)
@given(ATOMS, st.integers(1, 4), st.randoms())
def test_a_supercell_in_any_order_has_the_same_formula(zs: list[int], k: int, rng: object) -> None:
    larger = zs * k
    rng.shuffle(larger)  # type: ignore[attr-defined]
    one, other = reduced_formulas(elements_set([zs, larger]))
    assert one == other


def test_empty_set() -> None:
    assert reduced_formulas(CrystalSet.from_crystals([])).tolist() == []
