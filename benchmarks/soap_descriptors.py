"""How long SOAP vectors take, and how little of them is stored, against DScribe called plainly.

    python benchmarks/soap_descriptors.py --data crystals.parquet --out soap_descriptors.json

The other side is DScribe 2.1 told of all elements of the data, sparse output, on as many cores.
Both must give the same numbers. raymat's chunks of 512 crystals go to plain processes here; their
start, and the imports in each, are part of raymat's time. DScribe's own are kept from one
repetition to the next, so the median has neither.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from graph_building import make_crystals, median_times
from results_file import machine_facts, write_results

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.features.descriptor_table import DescriptorTable
from raymat.features.soap import SoapConfig
from raymat.features.soap_forecast import forecast
from raymat.features.soap_vectors import NOISE, import_soap

CHUNK = 512  # crystals that one process takes at a time
SAME = 1e-9  # DScribe's side keeps atoms where they are given; raymat moves them into the cell


def read_data(path: Path | None, n: int | None, seed: int) -> CrystalSet:
    if path is None:
        return make_crystals(n or 1000, seed)
    crystals = load_crystals(str(path)).crystals
    rows = np.random.default_rng(seed).permutation(len(crystals))[: n or len(crystals)]
    return crystals.take(np.sort(rows))


def in_cell(crystals: CrystalSet) -> CrystalSet:
    """Put the atoms inside their cells, where DScribe needs them."""
    return replace(crystals, frac_coords=crystals.frac_coords % 1.0)


def build_chunk(config: SoapConfig, crystals: CrystalSet) -> DescriptorTable:
    return config.build(crystals)


def build_in_processes(config: SoapConfig, crystals: CrystalSet, n_workers: int) -> DescriptorTable:
    starts = range(0, len(crystals), CHUNK)
    chunks = [
        crystals.take(np.arange(start, min(start + CHUNK, len(crystals)))) for start in starts
    ]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=spawned) as pool:
        return config.join(list(pool.map(build_chunk, [config] * len(chunks), chunks)))


def build_by_dscribe(config: SoapConfig, crystals: CrystalSet, n_workers: int):
    """Give a sparse.COO matrix."""
    from ase import Atoms

    given = config.model_dump(exclude={"compression"})
    soap = import_soap()(
        periodic=True, sparse=True, compression={"mode": config.compression}, **given
    )
    systems = [
        Atoms(
            numbers=crystal.atomic_numbers,
            cell=crystal.lattice,
            positions=crystal.frac_coords @ crystal.lattice,
            pbc=True,
        )
        for crystal in (crystals[k] for k in range(len(crystals)))
    ]
    return soap.create(systems, n_jobs=n_workers)


def assert_same_vectors(config: SoapConfig, crystals: CrystalSet) -> float:
    """Compare a part; give the largest difference."""
    some = crystals.take(np.arange(min(200, len(crystals))))
    dense = config.build(some).batch(np.arange(len(some))).to_dense().numpy()
    theirs = build_by_dscribe(config, some, 1).todense()
    worst = float(np.abs(dense - theirs).max())
    if worst > SAME:
        raise SystemExit(f"vectors differ by up to {worst:g}")
    return worst


def compare(config: SoapConfig, crystals: CrystalSet, repetitions: int, cores: list[int]) -> dict:
    sides: dict[str, Callable[[], object]] = {
        "raymat in this process": lambda: config.build(crystals),
        "DScribe in this process": lambda: build_by_dscribe(config, crystals, 1),
    }
    for n in cores:
        sides[f"raymat, {n} processes"] = lambda n=n: build_in_processes(config, crystals, n)
        sides[f"DScribe, {n} processes"] = lambda n=n: build_by_dscribe(config, crystals, n)
    times = median_times(repetitions, **sides)
    per_crystal = {name: 1e3 * seconds / len(crystals) for name, seconds in times.items()}
    ratio = times["DScribe in this process"] / times["raymat in this process"]
    return {"seconds": times, "ms_per_crystal": per_crystal, "ratio_in_this_process": ratio}


def measure_storage(config: SoapConfig, crystals: CrystalSet) -> dict[str, float]:
    """Count what is stored, what DScribe's output holds, and what was foretold."""
    told = forecast(config, crystals)
    table = config.build(crystals)
    theirs = build_by_dscribe(config, crystals, 1)
    return {
        "n_features": told.n_features,
        "values": len(table.values),
        "values_dscribe": int(theirs.nnz),
        "values_dscribe_above_noise": int((np.abs(theirs.data) >= NOISE).sum()),
        "values_forecast": told.n_values,
        "megabytes": table.nbytes / 1e6,
        "megabytes_dscribe": theirs.nbytes / 1e6,
        "megabytes_dense": told.dense_row_bytes * len(crystals) / 1e6,
        "working_megabytes_forecast": told.working_bytes / 1e6,
    }


def report(results: dict) -> None:
    storage, times = results["storage"], results["speed"]["seconds"]
    print(f"{results['n_crystals']} crystals, {results['source']}, {results['descriptor']}")
    for name, seconds in times.items():
        each = results["speed"]["ms_per_crystal"][name]
        print(f"{name:28}{seconds:8.2f} s {each:8.3f} ms/crystal")
    print(
        f"{storage['n_features']:,} features: {storage['values']:,} values stored, "
        f"{storage['megabytes']:.3g} MB (DScribe's {storage['values_dscribe']:,} in "
        f"{storage['megabytes_dscribe']:.3g} MB; dense {storage['megabytes_dense']:,.0f} MB; "
        f"forecast at most {storage['values_forecast']:,})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time SOAP vectors against DScribe's own.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--n", type=int, help="crystals (default: all of the file, or 1000 made)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="processes")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()

    machine = machine_facts()
    crystals = in_cell(read_data(args.data, args.n, args.seed))
    species = tuple(int(z) for z in np.unique(crystals.atomic_numbers))
    config = SoapConfig(species=species)
    results = {
        "source": args.data.name if args.data else f"made crystals, seed {args.seed}",
        "n_crystals": len(crystals),
        "n_atoms": len(crystals.atomic_numbers),
        "descriptor": f"SOAP of {len(species)} elements at the thesis parameters",
        "machine": machine,
        "repetitions": args.repetitions,
        "largest_difference": assert_same_vectors(config, crystals),
        "speed": compare(config, crystals, args.repetitions, args.workers),
        "storage": measure_storage(config, crystals),
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
