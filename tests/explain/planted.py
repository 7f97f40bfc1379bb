"""Made graphs whose class is decided by a known motif: an edge between two periods."""

import numpy as np

from raymat.data.crystals import Crystal, CrystalSet, offsets_of
from raymat.features.coarse_graphs import N_LABELS, element_labels
from raymat.features.neighbor_table import NeighborConfig, NeighborTable

LABELS = "period"
MOTIF = (2, 6)  # periods that are joined in class 1, and in class 0 never
MAX_NEIGHBORS = 4
NOISE = 0.03  # share of wrong classes: what can be learned by heart is learned too soon
_NODES = (1, 9)  # of a graph; the upper end is excluded
_DISTANCE = 2.5  # Å
_FIRST_ELEMENTS = np.unique(element_labels(LABELS)[1:], return_index=True)[1] + 1  # by label
_BOTH = 0.5  # of class 0 have both periods


def planted_graphs(n: int, *, seed: int) -> tuple[CrystalSet, NeighborTable, np.ndarray]:
    """Give crystals, the table of their neighbors, and (n,) classes 0.0 and 1.0.

    The graphs are random, with all periods. All of class 1 and half of class 0 have both
    period 2 and period 6, so that their labels tell little: only the edge between them does.
    """
    rng = np.random.default_rng(seed)
    graphs = [_graph(rng, is_planted=bool(number % 2)) for number in range(n)]
    targets = np.arange(n) % 2 == 1
    targets ^= rng.random(n) < NOISE
    numbers = [_FIRST_ELEMENTS[labels].astype(np.uint8) for labels, _ in graphs]
    crystals = [
        Crystal(f"graph-{i}", np.eye(3) * 20.0, z, rng.random((len(z), 3)))
        for i, z in enumerate(numbers)
    ]
    return CrystalSet.from_crystals(crystals), _table(numbers, graphs), targets.astype(float)


def has_motif(graphs, row: int, pair: tuple[int, int] = MOTIF) -> bool:
    """Say whether a grown graph joins two periods."""
    a, b = (graphs.labels[row] == label - 1 for label in pair)
    return bool((graphs.adjacency[row][a][:, b] > 0).any())


def _graph(rng: np.random.Generator, *, is_planted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give labels from 0 and adjacency of a connected graph with degrees of at most 4."""
    first, second = (label - 1 for label in MOTIF)
    while True:
        n = int(rng.integers(*_NODES))
        labels = rng.integers(N_LABELS[LABELS], size=n)
        if n > 1 and (is_planted or rng.random() < _BOTH):
            labels[rng.permutation(n)[:2]] = first, second
        joined = np.zeros((n, n), dtype=bool)
        for node in range(1, n):
            _join(joined, node, int(rng.integers(node)))
        for _ in range(int(rng.integers(3)) if n > 1 else 0):
            _join(joined, *rng.choice(n, size=2, replace=False).tolist())
        if joined.sum(1).max() > MAX_NEIGHBORS:
            continue
        found = joined[labels == first][:, labels == second].any()
        if bool(found) == is_planted:
            return labels, joined


def _join(joined: np.ndarray, a: int, b: int) -> None:
    joined[a, b] = joined[b, a] = True


def _table(numbers: list[np.ndarray], graphs: list[tuple[np.ndarray, np.ndarray]]) -> NeighborTable:
    n_atoms = sum(len(z) for z in numbers)
    indices = np.zeros((n_atoms, MAX_NEIGHBORS), dtype=np.uint16)
    distances = np.full((n_atoms, MAX_NEIGHBORS), np.inf, dtype=np.float32)
    atom = 0
    for _, joined in graphs:
        for row in joined:
            own = np.flatnonzero(row)
            indices[atom, : len(own)] = own
            distances[atom, : len(own)] = _DISTANCE
            atom += 1
    return NeighborTable(
        config=NeighborConfig(cutoff=8.0, max_neighbors=MAX_NEIGHBORS),
        offsets=offsets_of(np.array([len(z) for z in numbers])),
        atomic_numbers=np.concatenate(numbers),
        indices=indices,
        distances=distances,
        n_ambiguous=np.zeros(len(numbers), dtype=np.int32),
    )
