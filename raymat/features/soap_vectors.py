"""SOAP vectors of single crystals, computed by DScribe with the elements that each one holds.

DScribe's time and memory grow with the species it is told of, and what it gives for elements that
are absent is exactly 0. So it is told of the elements of the crystal alone, and the values are put
where they stand among the features of all species: bit by bit the same numbers.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import Crystal, ranges
from raymat.data.lattices import reduce_lattices, wrap
from raymat.errors import ConfigError

if TYPE_CHECKING:
    from dscribe.descriptors import SOAP

    from raymat.features.soap import SoapConfig

# Averages that vanish by symmetry come out as 1e-30 and less.
NOISE = 1e-12

Ints = NDArray[np.int64]
Row = tuple[NDArray[np.int32], NDArray[np.float64]]


class SoapVectors:
    """Computes crystal after crystal for one configuration."""

    def __init__(self, config: "SoapConfig") -> None:
        self._config = config
        self._species = np.array(config.species)
        self._starts = _blocks(config, len(config.species)).start_table()
        self._calculators: dict[int, _Calculator] = {}

    def row(self, crystal: Crystal) -> Row:
        """Give columns and values; none for a crystal with an element outside the species."""
        elements, labels = np.unique(crystal.atomic_numbers, return_inverse=True)
        indices = np.searchsorted(self._species, elements)
        if not np.isin(elements, self._species).all():
            return np.zeros(0, np.int32), np.zeros(0, np.float64)
        calculator = self._calculator(len(elements))
        vector = calculator.compute(crystal, labels + 1)
        kept = np.abs(vector) >= NOISE
        columns = calculator.blocks.columns(self._starts, indices)
        return columns[kept].astype(np.int32), vector[kept]

    def _calculator(self, n_elements: int) -> "_Calculator":
        if n_elements not in self._calculators:
            self._calculators[n_elements] = _Calculator(self._config, n_elements)
        return self._calculators[n_elements]


class _Calculator:
    """DScribe, for all crystals with so many elements.

    To DScribe an element is a label, so the elements of a crystal are called 1, 2, ... in the
    order of Z, and one object serves every crystal with as many.
    """

    def __init__(self, config: "SoapConfig", n_elements: int) -> None:
        self.blocks = _blocks(config, n_elements)
        self._soap = _make_soap(config, n_elements)

    def compute(self, crystal: Crystal, labels: Ints) -> NDArray[np.float64]:
        """Give the vector of these elements alone."""
        from ase import Atoms

        # DScribe repeats the cell as often as is right for atoms inside it: an atom given outside
        # would miss neighbors without a word. Rounding can make 1 of a tiny negative number.
        (lattice,), (basis,) = reduce_lattices(crystal.lattice[None])
        inside, _ = wrap(crystal.frac_coords, basis)
        inside[inside >= 1.0] = 0.0
        atoms = Atoms(numbers=labels, cell=lattice, positions=inside @ lattice, pbc=True)
        vector: NDArray[np.float64] = self._soap.create(atoms)
        return vector


@dataclass(frozen=True)
class _Blocks:
    """The features as runs that belong to one pair of elements.

    Attributes:
        first, second: (n_blocks,) rank of the two elements, first <= second.
        sizes: (n_blocks,) features.
        n_elements: ranks.
    """

    first: Ints
    second: Ints
    sizes: Ints
    n_elements: int

    @cached_property
    def _within(self) -> Ints:
        """(n_features,) place in the run."""
        return ranges(np.zeros_like(self.sizes), self.sizes)

    def start_table(self) -> Ints:
        """(n_elements, n_elements) the first feature of each pair; 0 where there is no run."""
        table = np.zeros((self.n_elements, self.n_elements), dtype=np.int64)
        table[self.first, self.second] = np.cumsum(self.sizes) - self.sizes
        return table

    def columns(self, starts: Ints, indices: Ints) -> Ints:
        """(n_features,) where each feature stands among those of a longer list of elements.

        Args:
            starts: the longer list's `start_table`.
            indices: (n_elements,) rank in the longer list.
        """
        first = starts[indices[self.first], indices[self.second]]
        placed: Ints = np.repeat(first, self.sizes) + self._within
        return placed


def _blocks(config: "SoapConfig", n_elements: int) -> _Blocks:
    n, n_l = config.n_max, config.l_max + 1
    if config.compression == "off":
        first, second = np.triu_indices(n_elements)
    else:  # one run per element, or a single run that is no element's
        first = second = np.arange(1 if config.compression == "mu2" else n_elements)
    # n and n' can be exchanged where both sides are the same coefficients.
    symmetric = (first == second) & (config.compression != "mu1nu1")
    sizes = np.where(symmetric, n * (n + 1) // 2, n * n) * n_l
    return _Blocks(first, second, sizes, n_elements)


def import_soap() -> "type[SOAP]":
    """Give DScribe's class, which takes a second to import."""
    with warnings.catch_warnings():
        # Its docstrings hold TeX in plain strings, of which Python warns when it compiles them.
        warnings.filterwarnings("ignore", message=".*invalid escape sequence")
        from dscribe.descriptors import SOAP
    soap: type[SOAP] = SOAP
    return soap


def _make_soap(config: "SoapConfig", n_elements: int) -> "SOAP":
    """Set up DScribe for elements that are called 1 to `n_elements`.

    Raises:
        ConfigError: the radial functions cannot be made orthonormal.
    """
    from scipy.linalg import LinAlgWarning

    soap = import_soap()
    settings: dict[str, Any] = config.model_dump(exclude={"species", "compression"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", LinAlgWarning)
        try:
            return soap(
                species=range(1, n_elements + 1),
                compression={"mode": config.compression},
                periodic=True,
                **settings,
            )
        except (ValueError, np.linalg.LinAlgError, LinAlgWarning) as cause:
            raise ConfigError(
                f"n_max={config.n_max}, l_max={config.l_max} and r_cut={config.r_cut:g} Å give "
                "radial functions that DScribe cannot make orthonormal; lower n_max or l_max"
            ) from cause
