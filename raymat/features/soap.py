"""SOAP: how a crystal looks around its atoms, element by element, as one vector.

Bartók, Kondor & Csányi, Phys. Rev. B 2013, 87, 184115; computed by DScribe (Himanen et al.,
Comput. Phys. Commun. 2020, 247, 106949). The atoms around a site are smeared into Gaussians and
expanded in radial functions n and spherical harmonics l, m, each element Z by itself. The
coefficients c are averaged over the sites, then combined into

    p_nn'l(Z1, Z2) ~ sum_m c_nlm(Z1) c_n'lm(Z2)

Features stand in DScribe's order: pairs Z1 <= Z2 ascending, in a pair l, in an l n, then n'.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from raymat.config import Config
from raymat.data.composition import SYMBOLS
from raymat.data.crystals import CrystalSet
from raymat.errors import DataError
from raymat.features.descriptor_table import DescriptorBatch, DescriptorTable
from raymat.features.graph_view import lone_atoms_text
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.pair_search import check_cells
from raymat.features.soap_vectors import SoapVectors
from raymat.features.table import TableConfig
from raymat.features.unknown_elements import elements_by_row, name_elements

# DScribe's own: the Gaussian of an atom has decayed to this where its search for neighbors ends.
DECAY = 1e-3
FARTHEST = 15.0  # Å; an atom that far from all others stands alone


class SoapFields(Config):
    """Which SOAP vectors; defaults as in Abenza's thesis, and DScribe's where it is silent.

    Attributes:
        species: atomic numbers that may occur, ascending; they decide the length of the vectors.
            None where the data are still to decide them.
        r_cut: Å; the radial functions have decayed there.
        n_max: radial functions; with more than 8, DScribe's are not orthonormal any more.
        l_max: highest degree of the spherical harmonics.
        sigma: Å, width of the Gaussian of an atom.
        rbf: radial functions: "gto" Gaussian type orbitals, or "polynomial".
        average: "inner" averages coefficients over the sites, "outer" their products.
        compression: "off" keeps all pairs of elements. "crossover" keeps those of an element
            with itself; "mu1nu1" pairs each element with the sum of all; "mu2" takes all
            atoms for one element (Darby et al., npj Comput. Mater. 2022, 8, 166). With an inner
            average, odd l vanish for the last two: each pair of atoms is seen from both ends.
    """

    species: tuple[int, ...] | None = None
    r_cut: float = Field(5.0, gt=1.0, le=15.0)  # Å
    n_max: int = Field(1, ge=1, le=8)
    l_max: int = Field(2, ge=0, le=10)
    sigma: float = Field(1.0, ge=0.05, le=5.0)  # Å
    rbf: Literal["gto", "polynomial"] = "gto"
    average: Literal["inner", "outer"] = "inner"
    compression: Literal["off", "mu2", "mu1nu1", "crossover"] = "off"

    @field_validator("species")
    @classmethod
    def _check_species(cls, species: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if species is None:
            return None
        in_range = all(1 <= z <= len(SYMBOLS) for z in species)
        if not species or not in_range or list(species) != sorted(set(species)):
            raise ValueError(
                f"must be ascending atomic numbers from 1 to {len(SYMBOLS)}, each once"
            )
        return species


class SoapConfig(SoapFields, TableConfig):
    """Which SOAP vectors are computed: `SoapFields` with the species known."""

    kind: ClassVar[str] = "soap"
    packages: ClassVar[tuple[str, ...]] = ("dscribe",)

    species: tuple[int, ...]

    @property
    def reach(self) -> float:
        """How far an atom can stand and still add to the vector, in Å: DScribe's search."""
        return self.r_cut + self.sigma * float(np.sqrt(-2.0 * np.log(DECAY)))

    @property
    def n_features(self) -> int:
        """Length of the vectors."""
        return self.count_features(len(self.species))

    def count_features(self, n_elements: int) -> int:
        """Give the number of features of so many elements.

        It is also the most that can be nonzero in a crystal of so many.
        """
        n, each = self.n_max, n_elements * self.n_max
        of_one_l = {
            "off": each * (each + 1) // 2,
            "mu1nu1": each * n,
            "crossover": each * (n + 1) // 2,
            "mu2": n * (n + 1) // 2,
        }
        return of_one_l[self.compression] * (self.l_max + 1)

    def count_features_of(self, n_elements: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n_crystals,) `count_features` of (n_crystals,) numbers of elements."""
        counts = [self.count_features(n) for n in range(n_elements.max(initial=0) + 1)]
        return np.array(counts, dtype=np.int64)[n_elements]

    @classmethod
    def table_class(cls) -> type[DescriptorTable]:
        """Give the class of its tables."""
        return DescriptorTable

    def build(self, crystals: CrystalSet) -> DescriptorTable:
        """Compute the vectors on one core.

        The row of a crystal with an element outside `species` is empty (see `SoapView.unusable`).

        Raises:
            DataError: a crystal has no usable cell.
            ConfigError: DScribe finds no radial functions for these parameters.
        """
        check_cells(crystals)
        vectors = SoapVectors(self)
        rows = [vectors.row(crystals[k]) for k in range(len(crystals))]
        return DescriptorTable.from_rows(self, rows)

    def join(self, tables: list[DescriptorTable]) -> DescriptorTable:
        """Join the tables of consecutive parts of a crystal set.

        Raises:
            DataError: a table holds something else.
        """
        other = next((table.config for table in tables if table.config != self), None)
        if other is not None:
            raise DataError(
                f"SOAP tables to join must share one configuration, found {other!r} beside "
                f"{self!r}; build them with the same one"
            )
        return DescriptorTable.from_parts(self, tables)

    def forecast_bytes(self, crystals: CrystalSet) -> int:
        """Give a bound on the memory of the table, known before it is computed."""
        bytes_per_value = sum(
            np.dtype(DescriptorTable.dtypes[name]).itemsize for name in ("columns", "values")
        )
        return bytes_per_value * int(self.count_values(crystals).sum()) + 8 * (len(crystals) + 1)

    def check_memory(
        self, crystals: CrystalSet, available_bytes: int, *, n_workers: int = 1
    ) -> None:
        """Check that the vectors can be computed and held; see `soap_forecast.check_memory`."""
        from raymat.features.soap_forecast import check_memory

        check_memory(self, crystals, available_bytes, n_workers=n_workers)

    def count_values(self, crystals: CrystalSet) -> NDArray[np.int64]:
        """(n_crystals,) the most values that each crystal can have, from its elements alone."""
        counts = self.count_features_of(count_elements(crystals))
        owners = np.repeat(np.arange(len(crystals)), crystals.n_sites)
        counts[owners[_is_unknown(crystals, self)]] = 0
        return counts


@dataclass(frozen=True)
class SoapView:
    """The SOAP vectors that a model reads."""

    config: SoapConfig

    @property
    def table_config(self) -> SoapConfig:
        """The table that serves it."""
        return self.config

    def batch(self, table: DescriptorTable, rows: NDArray[np.int64]) -> DescriptorBatch:
        """Take the crystals `rows` out of a table.

        Raises:
            ValueError: the table holds other vectors.
        """
        if not table.config.holds(self.config):
            raise ValueError(f"the table ({table.config!r}) does not hold the view ({self})")
        return table.batch(rows)

    def unknown_elements(self, crystals: CrystalSet) -> dict[int, tuple[int, ...]]:
        """Give the rows with elements that are not among the species, and which these are."""
        return elements_by_row(crystals, _is_unknown(crystals, self.config))

    def unusable(self, crystals: CrystalSet, table: DescriptorTable) -> dict[int, str]:
        """Give the rows with an atom that stands alone, or with an element that is not known."""
        del table
        unknown = self.unknown_elements(crystals)
        found = dict(_lone_atoms(crystals, round(min(self.config.reach, FARTHEST), 2)))
        return found | {row: self._reason(elements) for row, elements in unknown.items()}

    def doubtful(self, crystals: CrystalSet, table: DescriptorTable) -> dict[int, str]:
        """Give no row; see `unusable`."""
        del crystals, table
        return {}

    def _reason(self, elements: tuple[int, ...]) -> str:
        verb = "is" if len(elements) == 1 else "are"
        return (
            f"holds {name_elements(elements)}, which {verb} not among the"
            f" {len(self.config.species)} elements the descriptor was made for"
        )


def count_elements(crystals: CrystalSet) -> NDArray[np.int64]:
    """(n_crystals,) different elements in each crystal."""
    owners = np.repeat(np.arange(len(crystals)), crystals.n_sites)
    owned = np.unique(owners * 256 + crystals.atomic_numbers) // 256
    return np.bincount(owned, minlength=len(crystals))


def _lone_atoms(crystals: CrystalSet, cutoff: float) -> Iterator[tuple[int, str]]:
    """Give the rows of crystals with atoms that have no neighbor within a cutoff (Å), and why."""
    # An atom's own image stands at the end of every lattice vector.
    shortest = np.linalg.norm(crystals.lattices, axis=2).min(axis=1)
    rows = np.flatnonzero(shortest > cutoff)
    nearest = NeighborConfig(cutoff=cutoff, max_neighbors=1, ties="index").build(
        crystals.take(rows)
    )
    lone = nearest.count_isolated(cutoff)
    for found in np.flatnonzero(lone):
        text = lone_atoms_text(int(lone[found]), int(nearest.n_sites[found]), cutoff)
        yield int(rows[found]), text


def _is_unknown(crystals: CrystalSet, config: SoapConfig) -> NDArray[np.bool_]:
    """(n_atoms,) whether the element is outside the species."""
    return ~np.isin(crystals.atomic_numbers, config.species)
