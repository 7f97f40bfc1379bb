"""How much of a test set was, in a sense, seen in training."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.data.splits import Split
from raymat.data.symmetry import find_spacegroup

SPACEGROUP_COLUMN = "spacegroup_number"
N_SPACEGROUPS = 230


@dataclass(frozen=True)
class Leakage:
    """Test rows with a likeness among the training rows.

    Attributes:
        n_test: test rows.
        n_formula: of these, rows whose reduced formula a training row has.
        n_formula_spacegroup: of these, rows where such a training row has the same space group.
    """

    n_test: int
    n_formula: int
    n_formula_spacegroup: int

    def line(self) -> str:
        """Give the sentence that goes with every result."""
        return (
            f"leakage: {self.n_formula} of {self.n_test} test rows share a reduced formula with "
            f"training rows, {self.n_formula_spacegroup} also the space group"
        )


def find_leakage(
    crystals: CrystalSet, split: Split, *, known: dict[int, int] | None = None
) -> Leakage:
    """Count test rows whose formula, and formula with space group, occur in training rows.

    Space groups are those of the column ``spacegroup_number``; where it has no number from 1 to
    230, spglib finds them (symprec 0.1 Å), only for the crystals whose formula is shared. A
    crystal whose space group cannot be found shares it with none.

    Args:
        crystals: all of them.
        split: which of them train and test.
        known: row -> space group, of these crystals; filled with what is found here, so that
            another split of the same crystals need not find it again.
    """
    formulas = reduced_formulas(crystals)
    train, test = split.rows("train"), split.rows("test")
    in_train = set(formulas[train])
    shared_test = np.array([r for r in test if formulas[r] in in_train], dtype=np.int64)
    in_test = set(formulas[shared_test])
    shared_train = np.array([r for r in train if formulas[r] in in_test], dtype=np.int64)
    groups = {} if known is None else known
    _add_spacegroups(groups, crystals, np.concatenate([shared_test, shared_train]))
    met = {(formulas[r], groups[r]) for r in shared_train.tolist() if groups[r] > 0}
    n_both = sum((formulas[r], groups[r]) in met for r in shared_test.tolist())
    return Leakage(len(test), len(shared_test), n_both)


def _add_spacegroups(groups: dict[int, int], crystals: CrystalSet, rows: NDArray[np.int64]) -> None:
    """Add the space group number of each of these rows, 0 where there is none."""
    stated = stated_spacegroups(crystals)
    for row in rows.tolist():
        if row not in groups:
            groups[row] = int(stated[row]) or _find_spacegroup(crystals, row)


def stated_spacegroups(crystals: CrystalSet) -> NDArray[np.int64]:
    """Give (n,) numbers of the column, 0 where it holds none; it may hold symbols (Fm-3m)."""
    if SPACEGROUP_COLUMN not in crystals.properties:
        return np.zeros(len(crystals), dtype=np.int64)
    column = pd.to_numeric(crystals.properties[SPACEGROUP_COLUMN], errors="coerce")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    is_number = np.isin(numbers, np.arange(1, N_SPACEGROUPS + 1))
    return np.where(is_number, numbers, 0.0).astype(np.int64)


def _find_spacegroup(crystals: CrystalSet, row: int) -> int:
    return find_spacegroup(crystals[row])
