"""Every tabulated setting, by any of its names, is the one that spglib tabulates too."""

import numpy as np
import pytest
import spglib

from raymat.data.space_groups import Operations, find_settings, is_group, read_operations
from raymat.data.stated import UnusableError

CUBIC = np.eye(3) * 5.0
BOX = np.diag([5.0, 6.0, 7.0])


def as_set(rotations: np.ndarray, translations: np.ndarray) -> set[tuple[int, ...]]:
    shifts = np.rint(np.asarray(translations) * 24).astype(int) % 24
    rows = np.concatenate([np.reshape(rotations, (-1, 9)), shifts], axis=1)
    return set(map(tuple, rows.tolist()))


def cell_of(rotations: np.ndarray) -> np.ndarray:
    """Give a lattice that these rotations leave as it is, and no others if possible."""
    metric = np.array([[26.0, 1.3, 2.1], [1.3, 38.0, 1.7], [2.1, 1.7, 53.0]])
    mean = np.mean([r.T @ metric @ r for r in np.asarray(rotations)], axis=0)
    return np.linalg.cholesky(mean)


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
@pytest.mark.parametrize("start", range(1, 531, 53))
def test_hall_symbols_give_the_operations_of_spglib(start: int) -> None:
    for hall in range(start, start + 53):
        kind = spglib.get_spacegroup_type(hall)
        wanted = spglib.get_symmetry_from_database(hall)
        lattice = cell_of(wanted["rotations"])
        found = find_settings([], [kind.hall_symbol], kind.number, lattice)
        sets = [read_operations(setting.operations) for setting in found]
        assert [as_set(s.rotations, s.translations) for s in sets] == [
            as_set(wanted["rotations"], wanted["translations"])
        ], kind.hall_symbol


@pytest.mark.parametrize(
    ("symbol", "number", "lattice", "name"),
    [
        ("P n m a", 62, BOX, "P n m a"),
        ("Pbnm", 62, BOX, "P b n m"),
        ("C m c a", 64, BOX, "C m c e"),
        ("Aba2", 41, BOX, "A e a 2"),
        ("P 21 21 21", 19, BOX, "P 21 21 21"),
        ("P 2_1/c", 14, BOX, "P 1 21/c 1"),
        ("C -1", 2, BOX, "C -1"),
        ("F 4/m -3 2/m", 225, CUBIC, "F m -3 m"),
        ("f m 3 m", 225, CUBIC, "F m -3 m"),
        ("I a 3 d", 230, CUBIC, "I a -3 d"),
        ("P<sub>a</sub>3", 205, CUBIC, "P a -3"),
        ("F d -3 m Z", 227, CUBIC, "F d -3 m :2"),
        ("F41/d -3 2/m :1", 227, CUBIC, "F d -3 m :1"),
    ],
)
def test_names_of_one_setting(symbol: str, number: int, lattice: np.ndarray, name: str) -> None:
    assert [s.name for s in find_settings([symbol], [], number, lattice)] == [name]


def test_both_origins_are_offered_and_a_hall_symbol_tells_them_apart() -> None:
    both = find_settings(["P n n n"], [], None, BOX)
    assert [s.name for s in both] == ["P n n n :1", "P n n n :2"]
    assert find_settings(["P n n n"], ["-P 2ab 2bc"], 48, BOX) == both[1:]


def test_names_of_two_groups_are_refused() -> None:
    with pytest.raises(UnusableError, match="'P n m a', 'P 2y' name no one group"):
        find_settings(["P n m a"], ["P 2y"], None, BOX)


def test_operations_are_a_group_only_with_all_their_products() -> None:
    texts = ("x,y,z", "-x,-y,z", "-x,y,-z", "x,-y,-z")
    assert is_group(texts)
    assert not is_group(texts[:3])
    assert not is_group(("x,y,z", "x+1/4,y,z"))
    assert read_operations(("x,y,z", "x+1,y,z")).translations.tolist() == [[0, 0, 0]]


def test_fit_is_about_lengths_and_angles() -> None:
    turn: Operations = read_operations(("x,y,z", "y,x,-z"))
    assert turn.fit(np.diag([5.0, 5.05, 7.0]))
    assert not turn.fit(BOX)
