"""How much of a test set was, in a sense, seen in training."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.data.splits import Split

SPACEGROUP_COLUMN = "spacegroup_number"
_SYMPRECS = (0.1, 0.01)  # Å; the tighter one where the looser fails


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


def find_leakage(crystals: CrystalSet, split: Split) -> Leakage:
    """Count test rows whose formula, and formula with space group, occur in training rows.

    Space groups are those of the column ``spacegroup_number``; without it spglib finds them
    (symprec 0.1 Å), only for the crystals whose formula is shared. A crystal whose space group
    cannot be found shares it with none.
    """
    formulas = reduced_formulas(crystals)
    train, test = split.rows("train"), split.rows("test")
    in_train = set(formulas[train])
    shared_test = np.array([r for r in test if formulas[r] in in_train], dtype=np.int64)
    in_test = set(formulas[shared_test])
    shared_train = np.array([r for r in train if formulas[r] in in_test], dtype=np.int64)
    groups = _spacegroups(crystals, np.concatenate([shared_test, shared_train]))
    known = {(formulas[r], groups[r]) for r in shared_train.tolist() if groups[r] > 0}
    n_both = sum((formulas[r], groups[r]) in known for r in shared_test.tolist())
    return Leakage(len(test), len(shared_test), n_both)


def _spacegroups(crystals: CrystalSet, rows: NDArray[np.int64]) -> dict[int, int]:
    """Give the space group number of each of these rows, 0 where there is none."""
    if SPACEGROUP_COLUMN in crystals.properties:
        numbers = crystals.target(SPACEGROUP_COLUMN)
        return {r: int(np.nan_to_num(numbers[r])) for r in rows.tolist()}
    return {r: _find_spacegroup(crystals, r) for r in rows.tolist()}


def _find_spacegroup(crystals: CrystalSet, row: int) -> int:
    import spglib

    crystal = crystals[row]
    cell = (
        crystal.lattice.tolist(),
        crystal.frac_coords.tolist(),
        crystal.atomic_numbers.tolist(),
    )
    for symprec in _SYMPRECS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # spglib's change of error style
            try:
                found = spglib.get_symmetry_dataset(cell, symprec=symprec)
            except spglib.SpglibError:
                continue
        if found is not None:
            return int(found.number)
    return 0
