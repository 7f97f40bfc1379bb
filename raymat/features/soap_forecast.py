"""What SOAP vectors will cost, told before any is computed, and refused if it does not fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.data.lattices import reduce_lattices
from raymat.errors import ConfigError
from raymat.features.pair_search import check_cells
from raymat.features.soap import SoapConfig, count_elements
from raymat.features.table import COPIES

_GRID = 100  # points of DScribe's integration along r, for polynomial radial functions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SoapForecast:
    """Bounds from cells and element counts alone.

    Attributes:
        n_features: length of the vectors.
        n_values: nonzero values of all crystals.
        table_bytes: the stored vectors.
        dense_row_bytes: one vector with its zeros filled in.
        working_bytes: DScribe's arrays for the crystal that needs most.
        largest: that crystal's material_id; empty without crystals.
    """

    n_features: int
    n_values: int
    table_bytes: int
    dense_row_bytes: int
    working_bytes: int
    largest: str

    def peak_bytes(self, n_workers: int = 1) -> int:
        """Give the most memory taken while processes compute side by side and one joins."""
        return COPIES * self.table_bytes + n_workers * self.working_bytes


def forecast(config: SoapConfig, crystals: CrystalSet) -> SoapForecast:
    """Tell what the vectors of some crystals will cost, in milliseconds.

    Raises:
        DataError: a crystal has no usable cell.
    """
    check_cells(crystals)
    working = count_working_bytes(config, crystals)
    largest = int(working.argmax()) if len(crystals) else -1
    return SoapForecast(
        n_features=config.n_features,
        n_values=int(config.count_values(crystals).sum()),
        table_bytes=config.forecast_bytes(crystals),
        dense_row_bytes=8 * config.n_features,
        working_bytes=int(working[largest]) if len(crystals) else 0,
        largest=str(crystals.material_ids[largest]) if len(crystals) else "",
    )


def check_memory(
    config: SoapConfig, crystals: CrystalSet, available_bytes: int, *, n_workers: int = 1
) -> None:
    """Check that the vectors can be computed and held.

    Args:
        config: which vectors.
        crystals: of which crystals.
        available_bytes: as `raymat.features.memory.available_memory` gives it.
        n_workers: processes that compute at the same time on this machine.

    Raises:
        ConfigError: they need more; the message says how much, and what to do.
        DataError: a crystal has no usable cell.
    """
    told = forecast(config, crystals)
    needed = told.peak_bytes(n_workers)
    if needed <= available_bytes:
        return
    raise ConfigError(
        f"SOAP vectors of {told.n_features:,} features for {len(crystals):,} crystals take up to "
        f"{_size(needed)} ({told.n_values:,} values, {COPIES} × {_size(told.table_bytes)}; "
        f"{n_workers} × {_size(told.working_bytes)} at work on {told.largest}), "
        f"{_size(available_bytes)} are free; "
        f"{_advice(config, crystals, available_bytes, n_workers)}"
    )


def _advice(config: SoapConfig, crystals: CrystalSet, available_bytes: int, n_workers: int) -> str:
    """Name the compression that keeps most and fits, and what else makes the vectors shorter."""
    for mode in ("mu1nu1", "crossover", "mu2"):
        shorter = config.model_copy(update={"compression": mode})
        needed = forecast(shorter, crystals).peak_bytes(n_workers)
        if needed <= available_bytes and shorter.n_features < config.n_features:
            return (
                f"set compression to {mode} ({_size(needed)}), lower n_max={config.n_max} or "
                f"l_max={config.l_max}, or take fewer elements"
            )
    return (
        f"lower n_max={config.n_max}, l_max={config.l_max}, sigma={config.sigma:g} or "
        f"r_cut={config.r_cut:g}, or take fewer crystals"
    )


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def count_working_bytes(config: SoapConfig, crystals: CrystalSet) -> Floats:
    """(n_crystals,) bound on the arrays that DScribe 2.1 allocates for each crystal.

    Counted from its sources (`geometry.cpp`, `soapGTO.cpp`, `soapGeneral.cpp`). Per atom of the
    repeated cell: its position and the powers of x, y, z, r up to 20, or three grids along r;
    of these DScribe fills no more than it finds neighbors for. Per site and element: two copies
    of the coefficients. For the outer average: two copies of every site's vector.
    """
    n_sites = crystals.n_sites.astype(np.float64)
    n_elements = count_elements(crystals)
    n_harmonics = (config.l_max + 1) ** 2
    per_coefficient = 2 * 8 * config.n_max * n_harmonics
    in_repeated = n_sites * count_images(config, crystals.lattices)
    needed = in_repeated * _bytes_per_atom(config) + n_sites * n_elements * per_coefficient
    if config.average == "outer":
        needed += 2 * 8 * n_sites * config.count_features_of(n_elements)
    return needed


def _bytes_per_atom(config: SoapConfig) -> int:
    """Give the bytes for an atom of the repeated cell."""
    position_and_bins = 3 * 8 + 3 * 4 + 8
    if config.rbf == "gto":
        powers = 46 + max(0, (config.l_max + 1) ** 2 - 4) + config.n_max
        return position_and_bins + 8 * powers
    grids = (3 + config.l_max + 1) * _GRID + 6 + 2 * (config.l_max + 1) ** 2
    return position_and_bins + 8 * grids


def count_images(config: SoapConfig, lattices: Floats) -> Floats:
    """(n_crystals,) cells in the block that DScribe repeats to cover its search for neighbors."""
    lattices, _ = reduce_lattices(lattices)
    a, b, c = lattices[:, 0], lattices[:, 1], lattices[:, 2]
    faces = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    volumes = np.abs(np.einsum("ij,ij->i", a, faces[:, 0]))
    heights = volumes[:, None] / np.linalg.norm(faces, axis=2)
    images: Floats = np.prod(2.0 * np.ceil(config.reach / heights) + 1.0, axis=1)
    return images
