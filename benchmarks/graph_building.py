"""Graph building against pymatgen's get_all_neighbors and Python sorting, in one process.

    python benchmarks/graph_building.py --data crystals.parquet --n 200 --out graph_building.json

Both sides start from the same arrays and must give the same distances. From CIF text the parser
is shared, so what is reported there is its share of the time.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from results_file import machine_facts, write_results

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table

# Å; where the cap cuts a shell (distances within 1e-4 of the next) raymat chooses by element and
# surroundings, sorting the least distances.
SAME_DISTANCE = 3e-4


def read_crystals(path: Path, n: int, seed: int) -> CrystalSet:
    """Read `n` random rows of a Parquet file with the columns of `raymat data`."""
    columns = ["material_id", "lattice", "atomic_numbers", "frac_coords"]
    frame = pd.read_parquet(path, columns=columns)
    frame = frame.sample(min(n, len(frame)), random_state=seed)
    return CrystalSet.from_crystals(
        [
            Crystal(
                row.material_id,
                np.reshape(row.lattice, (3, 3)).astype(np.float64),
                np.asarray(row.atomic_numbers, dtype=np.uint8),
                np.reshape(row.frac_coords, (-1, 3)).astype(np.float64),
            )
            for row in frame.itertuples()
        ]
    )


def make_crystals(n: int, seed: int) -> CrystalSet:
    """Make triclinic crystals with the cell sizes and densities usual in databases."""
    rng = np.random.default_rng(seed)
    crystals = []
    for k in range(n):
        n_sites = int(np.clip(rng.lognormal(1.8, 0.8), 1, 160))
        lattice = np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
        lattice *= np.cbrt(n_sites * rng.uniform(10, 25) / abs(np.linalg.det(lattice)))
        numbers = rng.integers(1, 90, n_sites).astype(np.uint8)
        crystals.append(Crystal(f"made-{k}", lattice, numbers, rng.uniform(0, 1, (n_sites, 3))))
    return CrystalSet.from_crystals(crystals)


def nearest_by_pymatgen(structure, config: NeighborConfig) -> list[list[tuple[float, int]]]:
    """Do what the CGCNN authors' loader does: list Neighbor objects, sort them, keep the first."""
    found = structure.get_all_neighbors(config.cutoff, include_index=True)
    nearest = [sorted(of, key=lambda neighbor: neighbor.nn_distance) for of in found]
    return [[(n.nn_distance, n.index) for n in of[: config.max_neighbors]] for of in nearest]


def build_by_pymatgen(crystals: CrystalSet, config: NeighborConfig) -> np.ndarray:
    """Build the same graphs one crystal at a time; give the distances."""
    rows = []
    for k in range(len(crystals)):
        rows += nearest_by_pymatgen(crystals[k].to_structure(), config)
    distances = np.full((len(rows), config.max_neighbors), np.inf, dtype=np.float32)
    for i, row in enumerate(rows):
        distances[i, : len(row)] = [distance for distance, _ in row]
    return distances


def search_by_pymatgen(structures: list, config: NeighborConfig) -> None:
    for structure in structures:
        nearest_by_pymatgen(structure, config)


def parse_texts(texts: list[str]) -> list:
    from pymatgen.core import Structure

    return [Structure.from_str(text, fmt="cif") for text in texts]


def median_times(repetitions: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Time the sides in turns, so that a slow spell of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def assert_same_graphs(crystals: CrystalSet, config: NeighborConfig) -> None:
    ours = np.sort(build_neighbor_table(crystals, config).distances)
    theirs = np.sort(build_by_pymatgen(crystals, config))
    if not (np.isinf(ours) == np.isinf(theirs)).all():
        raise SystemExit("the two searches found different numbers of neighbors")
    finite = np.isfinite(ours)
    worst = float(np.abs(ours[finite] - theirs[finite]).max())
    if worst > SAME_DISTANCE:
        raise SystemExit(f"distances differ by up to {worst:g} Å")


def compare_from_arrays(crystals: CrystalSet, config: NeighborConfig, repetitions: int) -> dict:
    structures = [crystals[k].to_structure() for k in range(len(crystals))]
    times = median_times(
        repetitions,
        raymat=lambda: build_neighbor_table(crystals, config),
        pymatgen=lambda: build_by_pymatgen(crystals, config),
        pymatgen_search_only=lambda: search_by_pymatgen(structures, config),
    )
    return {
        "n_crystals": len(crystals),
        "n_atoms": len(crystals.atomic_numbers),
        "raymat_s": times["raymat"],
        "pymatgen_s": times["pymatgen"],
        "pymatgen_search_only_s": times["pymatgen_search_only"],
        "ratio": times["pymatgen"] / times["raymat"],
        "ratio_search_only": times["pymatgen_search_only"] / times["raymat"],
    }


def compare_from_text(crystals: CrystalSet, config: NeighborConfig, repetitions: int) -> dict:
    texts = [crystals[k].to_structure().to(fmt="cif") for k in range(len(crystals))]
    times = median_times(
        repetitions,
        parse=lambda: parse_texts(texts),
        graphs=lambda: build_neighbor_table(crystals, config),
    )
    total = times["parse"] + times["graphs"]
    return {
        "n_crystals": len(crystals),
        "parse_s": times["parse"],
        "graphs_s": times["graphs"],
        "parsing_share": times["parse"] / total,
    }


def report(results: dict) -> None:
    arrays, text = results["from_arrays"], results["from_cif_text"]
    n = arrays["n_crystals"]
    print(f"{n} crystals, {arrays['n_atoms']} atoms, {results['graph']}, {results['source']}")
    print(f"{'from arrays':32}{'ms/crystal':>12}{'ratio':>8}")
    for label, key in (
        ("raymat", "raymat_s"),
        ("pymatgen + Python sorting", "pymatgen_s"),
        ("  without making structures", "pymatgen_search_only_s"),
    ):
        print(f"{label:32}{1e3 * arrays[key] / n:12.3f}{arrays[key] / arrays['raymat_s']:8.1f}")
    parse_ms, graph_ms = (1e3 * text[key] / text["n_crystals"] for key in ("parse_s", "graphs_s"))
    print(
        f"from CIF text: parsing {parse_ms:.2f} + graph {graph_ms:.3f} ms/crystal, "
        f"parsing is {100 * text['parsing_share']:.1f} % of it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare graph building with pymatgen's.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--n", type=int, default=200, help="crystals")
    parser.add_argument("--n-text", type=int, default=40, help="crystals written as CIF text")
    parser.add_argument("--cutoff", type=float, default=8.0, help="Å")
    parser.add_argument("--max-neighbors", type=int, default=12)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="pymatgen")  # noble gases, rounded coordinates
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")

    machine = machine_facts()
    config = NeighborConfig(cutoff=args.cutoff, max_neighbors=args.max_neighbors)
    read = read_crystals(args.data, args.n, args.seed) if args.data else None
    crystals = read or make_crystals(args.n, args.seed)
    assert_same_graphs(crystals, config)
    some = crystals.take(np.arange(min(args.n_text, len(crystals))))
    results = {
        "source": args.data.name if args.data else "made crystals",
        "graph": f"cutoff {config.cutoff} Å, {config.max_neighbors} neighbors",
        "machine": machine,
        "repetitions": args.repetitions,
        "from_arrays": compare_from_arrays(crystals, config, args.repetitions),
        "from_cif_text": compare_from_text(some, config, args.repetitions),
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
