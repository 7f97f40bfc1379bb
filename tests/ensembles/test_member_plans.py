"""Who learns from which rows."""

import numpy as np
import pytest

from raymat.ensembles.members import MemberPlan, member_seed, plan_member
from raymat.errors import DataError

TRAIN = np.arange(1000, 3000, 2, dtype=np.int64)  # not the numbers from 0 on
CHANCE = 5.0  # standard deviations of a binomial count that no honest draw leaves


def plan(number: int = 0, attempt: int = 0, **changes: object) -> MemberPlan:
    values = {"seed": 0, "fraction": 0.6, "train": TRAIN, **changes}
    return plan_member(number, attempt, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("fraction", "n_rows"), [(0.6, 600), (0.3337, 334), (1.0, 1000)])
def test_rows_are_a_share_of_the_training_rows_without_replacement(
    fraction: float, n_rows: int
) -> None:
    rows = plan(fraction=fraction).rows
    assert len(rows) == len(set(rows.tolist())) == n_rows
    assert set(rows.tolist()) <= set(TRAIN.tolist())
    assert (np.diff(rows) > 0).all()


def test_same_arguments_give_the_same_member() -> None:
    first, again = plan(57), plan(57)
    assert first.seed == again.seed
    np.testing.assert_array_equal(first.rows, again.rows)


def test_members_and_attempts_and_ensembles_differ() -> None:
    plans = [plan(0), plan(1), plan(0, 1), plan(0, seed=1), plan(1, seed=1)]
    assert len({p.seed for p in plans}) == len(plans)
    assert len({p.rows.tobytes() for p in plans}) == len(plans)


def test_seeds_of_neighboring_ensembles_are_not_shared() -> None:
    """As they would be if seed and number were added."""
    seeds = {member_seed(seed, n, a) for seed in range(5) for n in range(100) for a in range(2)}
    assert len(seeds) == 5 * 100 * 2
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_ensembles_of_two_targets_have_the_same_rows() -> None:
    """The draw knows seed, number and training rows only: bulk and shear are paired by it."""
    bulk = [plan(n, n_configurations=1) for n in range(10)]
    shear = [plan(n, n_configurations=3) for n in range(10)]
    for one, other in zip(bulk, shear, strict=True):
        assert one.seed == other.seed
        np.testing.assert_array_equal(one.rows, other.rows)


def test_every_row_is_drawn_as_often_as_any_other() -> None:
    n_members = 200
    counts = np.zeros(len(TRAIN))
    for number in range(n_members):
        counts += np.isin(TRAIN, plan(number).rows)
    spread = np.sqrt(n_members * 0.6 * 0.4)
    assert np.abs(counts - 0.6 * n_members).max() < CHANCE * spread
    assert counts.std() == pytest.approx(spread, rel=0.15)


def test_members_take_the_configurations_in_turn() -> None:
    plans = [plan(number, n_configurations=3) for number in range(7)]
    assert [p.configuration for p in plans] == [0, 1, 2, 0, 1, 2, 0]
    assert plan(4, 1, n_configurations=3).configuration == 1  # the same in its second attempt


def test_folders_sort_like_numbers() -> None:
    assert [plan(number).name for number in (0, 57, 100)] == ["0000", "0057", "0100"]


def test_share_too_small_for_a_fit() -> None:
    with pytest.raises(DataError, match=r"^a share of 0.001 of 1,000 training rows leaves .* 1;"):
        plan(fraction=0.001)
    assert len(plan(fraction=0.002).rows) == 2
