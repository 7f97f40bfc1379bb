"""Two slow neighbor searches that share no code with the fast one but the written rule."""

from itertools import pairwise, product

import numpy as np

from raymat.data.crystals import Crystal, CrystalSet

GAP = 1e-4  # Å


def pymatgen_neighbors(crystal: Crystal, cutoff: float):
    """Per atom (distance, neighbor, a, b, c) from Structure.get_all_neighbors."""
    found = crystal.to_structure().get_all_neighbors(cutoff)
    return [
        [(float(n.nn_distance), int(n.index), *map(round, n.image)) for n in of] for of in found
    ]


def enumerated_neighbors(crystal: Crystal, cutoff: float):
    """The same by trying every cell that could reach."""
    lattice, frac = crystal.lattice, crystal.frac_coords
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    spread = np.ptp(frac, axis=0)
    reach = np.ceil(cutoff / heights + spread + 1e-9).astype(int)
    images = np.array(list(product(*(range(-r, r + 1) for r in reach))))
    found = []
    for i in range(len(frac)):
        delta = (frac[None] - frac[i] + images[:, None]) @ lattice
        distances = np.linalg.norm(delta, axis=2)
        near = (distances.astype(np.float32) <= np.float32(cutoff)) & (distances > 1e-6)
        found.append(
            [(float(distances[t, j]), int(j), *images[t].tolist()) for t, j in np.argwhere(near)]
        )
    return found


def ranks_of(crystal: Crystal):
    """Rank atoms by element, by what surrounds them and by the ranks of what surrounds them."""
    numbers = crystal.atomic_numbers.tolist()
    volume = abs(np.linalg.det(crystal.lattice)) / len(numbers)
    radius = min((0.75 / np.pi * 22.4 * volume) ** (1 / 3), 8.0)
    around = enumerated_neighbors(crystal, radius)
    keys = [(z,) for z in numbers]
    while True:
        ranks = [sorted(set(keys)).index(key) for key in keys]
        number = [1 + (r + 1) * (1 + 5**0.5) / 2 % 1 for r in ranks]
        sums = [
            sum(number[j] * max(1 - (d / radius) ** 2, 0) ** 3 for d, j, *_ in of) for of in around
        ]
        keys = []
        for rank, total in zip(ranks, sums, strict=True):
            alike = sorted(s for r, s in zip(ranks, sums, strict=True) if r == rank)
            steps = [b - a >= GAP for a, b in pairwise(alike)]
            keys.append((rank, sum(steps[: alike.index(total)])))
        if len(set(keys)) == len(set(ranks)):
            return ranks


def canonical(neighbors, ranks=None):
    """Sort one atom's neighbors as science demands, without ranks by index; give shells."""
    shells, last = [], -np.inf
    for neighbor in sorted(neighbors):
        if neighbor[0] - last >= GAP:
            shells.append([])
        shells[-1].append(neighbor)
        last = neighbor[0]
    return [sorted(shell, key=lambda n: (ranks[n[1]] if ranks else 0, *n[1:])) for shell in shells]


def slow_rows(
    crystal: Crystal,
    cutoff: float,
    max_neighbors: int,
    search=enumerated_neighbors,
    ties="surroundings",
):
    """Indices, distances and number of ambiguous sites as the table holds them."""
    n_sites = len(crystal.atomic_numbers)
    indices = np.zeros((n_sites, max_neighbors), dtype=np.uint16)
    distances = np.full((n_sites, max_neighbors), np.inf, dtype=np.float32)
    n_ambiguous = 0
    ranks = ranks_of(crystal) if ties == "surroundings" else None
    for i, neighbors in enumerate(search(crystal, cutoff)):
        shells = canonical(neighbors, ranks)
        row = [n for shell in shells for n in shell][:max_neighbors]
        indices[i, : len(row)] = [n[1] for n in row]
        distances[i, : len(row)] = [n[0] for n in row]
        sizes = np.cumsum([0] + [len(shell) for shell in shells])
        n_ambiguous += bool(((sizes[:-1] < max_neighbors) & (sizes[1:] > max_neighbors)).any())
    return indices, distances, n_ambiguous


def random_crystal(
    rng: np.random.Generator, n_sites: int, *, volume_per_atom: float = 18.0, spread: float = 1.0
) -> Crystal:
    """A triclinic cell of atoms at random places, `spread` cells wide."""
    lattice = np.eye(3) + rng.uniform(-0.35, 0.35, (3, 3))
    lattice *= (n_sites * volume_per_atom / abs(np.linalg.det(lattice))) ** (1 / 3)
    frac = rng.uniform(0, 1, (n_sites, 3))
    frac += rng.integers(-3, 4, frac.shape) * (spread > 1)
    numbers = rng.integers(1, 101, n_sites).astype(np.uint8)
    return Crystal(f"random-{n_sites}", lattice, numbers, frac)


def one(crystal: Crystal) -> CrystalSet:
    """A set of a single crystal."""
    return CrystalSet.from_crystals([crystal])


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Repeat the cell along its lattice vectors."""
    cells = np.array(list(product(*map(range, repeats))), dtype=float)
    frac = (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / np.array(repeats)
    numbers = np.repeat(crystal.atomic_numbers, len(cells))
    return Crystal("super", crystal.lattice * np.array(repeats)[:, None], numbers, frac)
