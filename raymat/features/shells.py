"""Canonical order of neighbors: shells of equal distance, and a fixed order inside each.

Sorted distances are chained into shells by gaps below 1e-4 Å. Inside a shell neighbors stand by
what does not depend on how a crystal is written: by element, then by the rank of their own
surroundings (see `refine_ranks`), and only then by (neighbor index, image a, b, c). So neither the
order in which a search met equally distant neighbors nor the last digits matter, and where a list
of neighbors ends inside a shell, neither do the order of the atoms in a file, the origin or the
choice of the cell.

Atoms of one rank have equally many neighbors of every rank at every distance within the reach of
the ranks, so a network that passes messages by distance cannot tell them apart, whichever of them
the index picks. Not decided are atoms that differ in nothing but angles, in what lies beyond that
reach and has no part in any chain of neighbors, or in distances by less than the gap of a shell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import offsets_of

SHELL_GAP = 1e-4  # Å
# Distances are compared as whole numbers of 1e-12 Å: (atom, distance) then fits one integer,
# which sorts faster than two keys, and the result cannot depend on what else is sorted with it.
_TICKS_PER_ANGSTROM = 1e12
_TICK_BITS = 44  # holds 17.5 Å
_GAP_TICKS = round(SHELL_GAP * _TICKS_PER_ANGSTROM)
_SUM_GAP = 1e-4  # of sums over some 20 neighbors; coordinates in float32 move them by 1e-6
_GOLDEN_RATIO = 0.5 * (1 + np.sqrt(5.0))  # its multiples are spread evenly between whole numbers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Shells:
    """Pairs sorted by (atom, distance), cut into shells. A place is a position in this order.

    Attributes:
        pairs: (n_pairs,) row number of the pair at each place.
        distances: (n_pairs,) Å.
        atom_starts: (n_atoms + 1,) first place of each atom.
        shell: (n_pairs,) number of the shell at each place, rising.
        shell_starts: (n_shells + 1,) first place of each shell.
    """

    pairs: Ints
    distances: Floats
    atom_starts: Ints
    shell: Ints
    shell_starts: Ints


@dataclass(frozen=True)
class Reach:
    """How far into its sorted pairs each atom has to be read.

    Attributes:
        ends: (n_atoms,) place after the shell that holds the last neighbor kept.
        outermost: (n_atoms,) Å, distance of the last pair before it; +inf if there are fewer
            pairs than neighbors wanted, so that more might lie outside the search.
        is_ambiguous: (n_atoms,) the cap cuts that shell.
    """

    ends: Ints
    outermost: Floats
    is_ambiguous: Bools


def group_into_shells(atoms: Ints, distances: Floats, n_atoms: int) -> Shells:
    """Sort pairs by (atom, distance) and chain them into shells.

    Args:
        atoms: (n_pairs,) atom that each pair belongs to, below 2**19.
        distances: (n_pairs,) Å, below 17.5.
        n_atoms: how many atoms there are, with and without pairs.
    """
    keys = (atoms << _TICK_BITS) | np.rint(distances * _TICKS_PER_ANGSTROM).astype(np.int64)
    pairs = np.argsort(keys)
    # Another atom is further than any gap: its key is 2**44 ticks away, less 15 Å in ticks.
    is_first = np.diff(keys[pairs], prepend=-(1 << 62)) >= _GAP_TICKS
    shell = np.cumsum(is_first) - 1
    counts = np.bincount(atoms, minlength=n_atoms)
    return Shells(
        pairs=pairs,
        distances=distances[pairs],
        atom_starts=offsets_of(counts),
        shell=shell,
        shell_starts=np.append(np.flatnonzero(is_first), len(pairs)),
    )


def reach(shells: Shells, max_neighbors: int) -> Reach:
    """Find where the shell of each atom's last kept neighbor ends."""
    starts, ends = shells.atom_starts[:-1], shells.atom_starts[1:].copy()
    outermost = np.full(len(starts), np.inf)
    full = np.flatnonzero(ends - starts >= max_neighbors)
    last_kept = starts[full] + max_neighbors - 1
    ends[full] = shells.shell_starts[shells.shell[last_kept] + 1]
    outermost[full] = shells.distances[ends[full] - 1]
    return Reach(ends=ends, outermost=outermost, is_ambiguous=ends - starts > max_neighbors)


def order_in_shells(shell: Ints, neighbor: Ints, image: Ints, *, rank: Ints | None = None) -> Ints:
    """Give the order by (shell, rank, neighbor index, image a, b, c).

    Args:
        shell: (n,) number of the shell.
        neighbor: (n,) index of the neighbor in its crystal.
        image: (n, 3) lattice vectors from the given position of the neighbor.
        rank: (n,) rank of the neighbor, by element and surroundings; None for an order without
            it.
    """
    columns = [shell, *([] if rank is None else [rank]), neighbor, *image.T]
    if len(shell) == 0:
        return np.zeros(0, dtype=np.int64)
    columns = [column - column.min() for column in columns]
    widths = [int(column.max()).bit_length() for column in columns]
    if sum(widths) > 63:  # coordinates many cells apart: slower, any range
        return np.lexsort(columns[::-1])
    keys = columns[0]
    for column, width in zip(columns[1:], widths[1:], strict=True):
        keys = (keys << width) | column
    return np.argsort(keys)


@dataclass(frozen=True)
class Surroundings:
    """The pairs of atoms that ranks look at: all within a radius of some crystals' atoms.

    Attributes:
        atom, neighbor: (n_pairs,) rows of atoms.
        weights: (n_pairs,) what a neighbor counts, falling smoothly from 1 to 0 at the radius.
    """

    atom: Ints
    neighbor: Ints
    weights: Floats


def first_ranks(crystal: Ints, atomic_numbers: NDArray[np.uint8]) -> Ints:
    """Rank atoms by (crystal, element): (n_atoms,) whole numbers from 0, without gaps."""
    keys = crystal * 256 + atomic_numbers
    ranks: Ints = np.unique(keys, return_inverse=True)[1]
    return ranks


def refine_ranks(ranks: Ints, crystals: Ints, surroundings: Surroundings) -> Ints:
    r"""Rank atoms by their surroundings, and those by the ranks in them, until nothing changes.

    .. math:: f_i = \sum_j \omega(r_j) \, (1 - d_{ij}^2 / R^2)^3

    over the neighbors j of atom i within a radius R, with a number :math:`\omega` between 1 and 2
    for each rank r in a crystal. Atoms of one rank are ranked anew by f, which is smooth in all
    distances; values that gaps below 1e-4 chain together stay one rank. This is the refinement of
    Weisfeiler and Leman with distances, which tells as much apart as networks that pass messages.

    Args:
        ranks: (n_atoms,) as `first_ranks` gives them.
        crystals: (n_atoms,) crystal of each atom, rising.
        surroundings: the pairs.
    """
    starts = np.searchsorted(crystals, crystals)  # first atom of the same crystal
    firsts = np.unique(starts)
    while True:
        # Counted from the crystal's lowest, a rank is the same whatever stands beside the crystal.
        lowest = np.minimum.reduceat(ranks, firsts)[np.searchsorted(firsts, starts)]
        values = 1.0 + (ranks - lowest + 1) * _GOLDEN_RATIO % 1.0
        weights = values[surroundings.neighbor] * surroundings.weights
        sums = np.bincount(surroundings.atom, weights=weights, minlength=len(ranks))
        order = np.lexsort((sums, ranks))
        is_first = np.diff(ranks[order], prepend=-1) != 0
        is_first |= np.diff(sums[order], prepend=0.0) >= _SUM_GAP
        finer = np.empty_like(ranks)
        finer[order] = np.cumsum(is_first) - 1
        if finer.max(initial=0) == ranks.max(initial=0):
            return finer
        ranks = finer
