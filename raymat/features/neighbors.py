"""The neighbor search: every atom's M nearest periodic images within a cutoff.

Order, and with it the choice among equally distant neighbors, is canonical (see `shells`). The
reference code of Xie & Grossman (Phys. Rev. Lett. 2018, 120, 145301) leaves ties to the neighbor
library; where a shell mixes elements, another version of it then gives another prediction. For
their checkpoints there is an order by index alone (`NeighborConfig.ties`), which like theirs
depends on how a crystal is written.

The search for pairs (see `pair_search`) runs first with a radius that the density suggests. An
atom's result stands if the shell of its last neighbor is closed inside that radius, which proves
that a wider search would add nothing to it; only the other atoms are searched again, up to the
cutoff.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet, offsets_of, ranges
from raymat.errors import DataError
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.pair_search import (
    SEARCH_SLACK,
    Cells,
    Pairs,
    cell_volumes,
    check_cells,
    chunks,
    cut_cells,
    find_neighbors,
)
from raymat.features.shells import (
    SHELL_GAP,
    Bools,
    Floats,
    Ints,
    Surroundings,
    first_ranks,
    group_into_shells,
    order_in_shells,
    reach,
    refine_ranks,
)

# Ranks must not depend on the table that is built, so they have a radius of their own: that of the
# first search for the usual 12 neighbors, whose pairs then serve both.
_RANKED_NEIGHBORS = 12
_LARGEST_REACH = 8.0  # Å


@dataclass(frozen=True)
class _Rows:
    """The rows of the table that belong to one chunk."""

    indices: NDArray[np.uint16]
    distances: NDArray[np.float32]
    is_ambiguous: Bools


def build_neighbor_table(crystals: CrystalSet, config: NeighborConfig) -> NeighborTable:
    """Find the nearest neighbors of every atom.

    An image is a neighbor if its distance, rounded to float32 as it is stored, is at most the
    cutoff. The atom itself is not one; its own images are. An atom may have fewer neighbors than
    `max_neighbors`, or none.

    Args:
        crystals: the crystals; coordinates may lie outside [0, 1).
        config: cutoff (Å) and number of neighbors kept.

    Returns:
        The table, one row per atom of `crystals`, in their order.

    Raises:
        DataError: a crystal has more than 65535 sites, a cell without volume, or values that are
            not finite.
    """
    check_cells(crystals)
    n_atoms = len(crystals.atomic_numbers)
    indices = np.zeros((n_atoms, config.max_neighbors), dtype=np.uint16)
    distances = np.full((n_atoms, config.max_neighbors), np.inf, dtype=np.float32)
    is_ambiguous = np.zeros(n_atoms, dtype=np.bool_)
    for first, last in chunks(crystals.offsets):
        atoms = slice(int(crystals.offsets[first]), int(crystals.offsets[last]))
        rows = _Rows(indices[atoms], distances[atoms], is_ambiguous[atoms])
        _fill_chunk(cut_cells(crystals, first, last), config, rows)
    return NeighborTable(
        offsets=np.array(crystals.offsets, dtype=np.int64),
        atomic_numbers=np.array(crystals.atomic_numbers, dtype=np.uint8),
        indices=indices,
        distances=distances,
        n_ambiguous=_count_per_crystal(is_ambiguous, crystals.offsets),
        config=config,
    )


def concatenate_tables(tables: list[NeighborTable]) -> NeighborTable:
    """Join the tables of consecutive parts of a crystal set.

    Raises:
        DataError: there is no table, or their configurations differ.
    """
    configs = sorted({(table.config.cutoff, table.config.max_neighbors) for table in tables})
    if len(configs) != 1:
        raise DataError(
            f"neighbor tables to join must share one configuration, found {len(configs)} "
            f"{configs}; build them with the same cutoff and max_neighbors"
        )
    counts = np.concatenate([np.diff(table.offsets) for table in tables])
    return NeighborTable(
        offsets=offsets_of(counts),
        atomic_numbers=np.concatenate([table.atomic_numbers for table in tables]),
        indices=np.concatenate([table.indices for table in tables]),
        distances=np.concatenate([table.distances for table in tables]),
        n_ambiguous=np.concatenate([table.n_ambiguous for table in tables]),
        config=tables[0].config,
    )


def _count_per_crystal(flags: Bools, offsets: Ints) -> NDArray[np.int32]:
    counts: NDArray[np.int32] = np.diff(offsets_of(flags)[offsets]).astype(np.int32)
    return counts


def _fill_chunk(cells: Cells, config: NeighborConfig, rows: _Rows) -> None:
    every = np.arange(len(cells.positions))
    whole = np.full(len(cells.lattices), config.cutoff + SEARCH_SLACK)
    guess = np.minimum(_first_radii(cells, config.max_neighbors), whole)
    if config.ties == "index":
        pairs, ranks = find_neighbors(cells, every, guess, config.cutoff), None
    else:
        reaches = np.minimum(_first_radii(cells, _RANKED_NEIGHBORS), _LARGEST_REACH)
        guess, farthest = np.maximum(guess, reaches), max(config.cutoff, _LARGEST_REACH)
        pairs = find_neighbors(cells, every, guess, farthest)
        ranks = _rank_atoms(cells, pairs, reaches)
        if farthest > config.cutoff:
            pairs = pairs.within(config.cutoff)
    is_done = _fill(cells, every, pairs, guess, ranks=ranks, config=config, rows=rows)
    if not is_done.all():
        atoms = np.flatnonzero(~is_done)
        pairs = find_neighbors(cells, atoms, whole, config.cutoff)
        _fill(cells, atoms, pairs, whole, ranks=ranks, config=config, rows=rows)


def _rank_atoms(cells: Cells, pairs: Pairs, reaches: Floats) -> Ints:
    """Rank (n_atoms,) atoms by element and surroundings within (n_crystals,) Å.

    Args:
        cells: the chunk.
        pairs: all within these distances, and maybe more.
        reaches: Å.
    """
    crystals = cells.crystal_of_atoms()
    squares = np.square(pairs.distance / reaches[crystals][pairs.atom])
    weights = np.maximum(1.0 - squares, 0.0) ** 3
    ranks = first_ranks(crystals, cells.atomic_numbers)
    return refine_ranks(ranks, crystals, Surroundings(pairs.atom, pairs.neighbor, weights))


def _first_radii(cells: Cells, max_neighbors: int) -> Floats:
    """Radii that would hold about 1.7 M atoms at each crystal's mean density.

    Measured on crystals of the Materials Project: smaller radii repeat too many searches, larger
    ones sort too many pairs.
    """
    n_sites = np.maximum(np.diff(cells.offsets), 1)
    volumes = cell_volumes(cells.lattices) / n_sites
    radii: Floats = np.cbrt(0.75 / np.pi * (1.7 * max_neighbors + 2.0) * volumes)
    return radii


def _fill(
    cells: Cells,
    atoms: Ints,
    pairs: Pairs,
    radii: Floats,
    *,
    ranks: Ints | None,
    config: NeighborConfig,
    rows: _Rows,
) -> Bools:
    """Fill the rows of those `atoms` whose result is proven; say which atoms are.

    Args:
        cells: the chunk.
        atoms: rows of the atoms that were searched around, rising.
        pairs: what was found, within the cutoff.
        radii: (n_crystals,) Å, how far was searched.
        ranks: (n_atoms,) of all atoms; None for an order by index.
        config: cutoff and cap.
        rows: where results go.

    Returns:
        (n_atoms,): False where a wider search is needed, and for atoms not asked for.
    """
    shells = group_into_shells(pairs.atom, pairs.distance, len(cells.positions))
    reached = reach(shells, config.max_neighbors)
    # A shell is closed if the next pair, seen or not, is at least one gap away.
    is_whole = radii >= config.cutoff + SEARCH_SLACK
    proven_to = np.where(is_whole, np.inf, radii - SHELL_GAP - SEARCH_SLACK)
    is_wanted = np.zeros(len(cells.positions), dtype=np.bool_)
    is_wanted[atoms] = True
    is_done: Bools = is_wanted & (reached.outermost <= np.repeat(proven_to, np.diff(cells.offsets)))
    done = np.flatnonzero(is_done)
    rows.is_ambiguous[done] = reached.is_ambiguous[done]

    n_read = reached.ends[done] - shells.atom_starts[done]
    places = ranges(shells.atom_starts[done], n_read)
    nearest = pairs.take(shells.pairs[places])
    local, image = nearest.local_neighbors(cells), nearest.given_images(cells)
    rank = None if ranks is None else ranks[nearest.neighbor]
    order = order_in_shells(shells.shell[places], local, image, rank=rank)
    n_kept = np.minimum(n_read, config.max_neighbors)
    kept = order[ranges(np.cumsum(n_read) - n_read, n_kept)]
    cell = np.repeat(done, n_kept), ranges(np.zeros_like(n_kept), n_kept)
    rows.indices[cell] = local[kept]
    rows.distances[cell] = nearest.distance[kept]
    return is_done
