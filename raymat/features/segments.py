"""Members of segments: atoms or bonds of crystals, bonds of atoms, and what is taken over them.

A bond here stands for all edges of a crystal graph that are alike: the same two atoms at the same
distance. In a small cell many are, since a neighbor has images; a third of the edges of the
Materials Project's elastic crystals within 4 Å need not be computed twice. Every mean and softmax
counts a bond as often as it occurs, so the numbers are those of the whole graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raymat.features.graph import CrystalGraph

# Edges of one pair of atoms whose distances differ by less are one bond with the mean distance.
# Positions are known to about this; a mean over the edges changes in second order, by 1e-9.
SAME_DISTANCE = 1e-5  # Å


@dataclass(frozen=True)
class Segments:
    """Members, each of one segment; a segment may be empty.

    Attributes:
        index: (n_members,) int64, the segment of each member.
        counts: (n_members,) float, how often each member occurs; None: once.
        totals: (n_segments,) float, members of each segment, counted as often as they occur.
    """

    index: Tensor
    counts: Tensor | None
    totals: Tensor


@dataclass(frozen=True)
class BondGraph:
    """The distinct edges of a batch of crystals, and what belongs to what.

    Attributes:
        senders: (n_bonds,) int64, the neighbor; the atom that has it is ``bonds_of_atoms.index``.
        distances: (n_bonds,) Å.
        bonds_of_atoms: the bonds by receiving atom.
        bonds_of_crystals: the bonds by crystal.
        atoms_of_crystals: the atoms by crystal.
        atoms_by_bonds: the atoms by crystal, each as often as it has bonds.
    """

    senders: Tensor
    distances: Tensor
    bonds_of_atoms: Segments
    bonds_of_crystals: Segments
    atoms_of_crystals: Segments
    atoms_by_bonds: Segments


def bond_graph(graph: CrystalGraph) -> BondGraph:
    """Take equal edges of a graph together.

    Equal edges that stand side by side are found, which in canonical order is almost all of them.
    """
    senders, receivers = graph.edge_index
    is_new = torch.ones_like(senders, dtype=torch.bool)
    is_new[1:] = (
        (senders.diff() != 0)
        | (receivers.diff() != 0)
        | (graph.distances.diff().abs() > SAME_DISTANCE)
    )
    senders, receivers = senders[is_new], receivers[is_new]
    bond = is_new.cumsum(0) - 1
    counts = _sums(torch.ones_like(graph.distances), bond, len(senders))
    crystals = graph.crystal_index
    of_atoms = _segments(receivers, counts, graph.n_atoms)
    return BondGraph(
        senders=senders,
        distances=_sums(graph.distances, bond, len(senders)) / counts,
        bonds_of_atoms=of_atoms,
        bonds_of_crystals=_segments(crystals[receivers], counts, graph.n_crystals),
        atoms_of_crystals=Segments(crystals, None, graph.n_sites),
        atoms_by_bonds=_segments(crystals, of_atoms.totals, graph.n_crystals),
    )


def spread(values: Tensor, members: Segments) -> Tensor:
    """Give every member its segment's row: (n_segments, f) -> (n_members, f)."""
    return values.index_select(0, members.index)


def sum_over(values: Tensor, members: Segments) -> Tensor:
    """Sum the rows of each segment, each row once: (n_members, f) -> (n_segments, f)."""
    return _sums(values, members.index, len(members.totals))


def mean_over(values: Tensor, members: Segments) -> Tensor:
    """Average the rows of each segment, 0 where it is empty: (n_members, f) -> (n_segments, f)."""
    if members.counts is not None:
        values = values * members.counts.to(values.dtype)[:, None]
    return sum_over(values, members) / members.totals.clamp(min=1).to(values.dtype)[:, None]


def softmax_over(scores: Tensor, members: Segments) -> Tensor:
    r"""Give (n_members,) weights that sum to 1 in every segment.

    .. math:: a_k = n_k e^{s_k} \Big/ \sum_l n_l e^{s_l}

    for members that occur :math:`n_k` times.
    """
    if members.counts is not None:
        scores = scores + members.counts.to(scores.dtype).log()
    largest = scores.new_full((len(members.totals),), -torch.inf)
    largest = largest.scatter_reduce(0, members.index, scores.detach(), "amax")
    exponentials = torch.exp(scores - spread(largest, members))
    return exponentials / spread(sum_over(exponentials, members), members)


def _segments(index: Tensor, counts: Tensor, n_segments: int) -> Segments:
    return Segments(index, counts, _sums(counts, index, n_segments))


def _sums(values: Tensor, index: Tensor, n: int) -> Tensor:
    return values.new_zeros(n, *values.shape[1:]).index_add(0, index, values)
