"""Time and memory of checking a large set and building its graphs, against the number of crystals.

    python benchmarks/large_sets.py --n 25000 --n 50000 --n 100000

Made crystals of 8 atoms, at the densities usual in databases, are written to Parquet. Then come
`raymat data check` and `raymat data cache build --model cgcnn`, each as a process of its own, with
an empty cache. Measured are wall seconds and the memory of the process and all its descendants,
Ray's among them, at the highest: the proportional set size (memory shared by processes counted
once), looked at twice a second. A side is linear if a further crystal takes as long in the largest
set as in the smallest, and flat if the memory is the same; building holds the crystals themselves.
Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results_file import machine_facts, write_results
from screening_memory import EVERY_S, family_of, memory_of

N_ATOMS = 8
AT_ONCE = 25_000  # crystals written at a time
SIZES = (25_000, 50_000, 100_000)


def write_made(path: Path, n: int, seed: int) -> None:
    """Write `n` triclinic crystals of 8 atoms; no two atoms come closer than 1 Å."""
    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, n, AT_ONCE):
        table = make_table(start, min(AT_ONCE, n - start), rng)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()


def make_table(first: int, n: int, rng: np.random.Generator) -> pa.Table:
    """Make crystals on a jittered 2 x 2 x 2 grid in cells of 10 to 25 Å3 an atom."""
    cells = np.eye(3) + rng.uniform(-0.2, 0.2, (n, 3, 3))
    volumes = N_ATOMS * rng.uniform(10.0, 25.0, n)
    cells *= np.cbrt(volumes / np.abs(np.linalg.det(cells)))[:, None, None]
    grid = np.stack(np.meshgrid([0.0, 0.5], [0.0, 0.5], [0.0, 0.5]), axis=-1).reshape(-1, 3)
    coords = (grid + rng.uniform(0.0, 0.1, (n, N_ATOMS, 3))).astype(np.float32)
    numbers = rng.integers(1, 90, (n, N_ATOMS)).astype(np.uint8)
    return pa.table(
        {
            "material_id": pa.array([f"made-{first + k}" for k in range(n)]),
            "lattice": pa.FixedSizeListArray.from_arrays(pa.array(cells.ravel()), 9),
            "atomic_numbers": lists(numbers.ravel(), N_ATOMS),
            "frac_coords": lists(coords.ravel(), 3 * N_ATOMS),
        }
    )


def lists(values: np.ndarray, size: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)


def run_measured(arguments: list[str], cache: Path) -> dict[str, float]:
    """Run `raymat data ...`; give its seconds, and the memory of its processes at the highest."""
    code = "import sys; from raymat.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "data", *arguments]
    environment = {**os.environ, "RAYMAT_CACHE": str(cache)}
    start, highest, own = time.perf_counter(), 0.0, 0.0
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        sizes = {pid: memory_of(pid)[1] for pid in family_of(process.pid)}
        highest = max(highest, sum(sizes.values()))
        own = max(own, sizes.get(process.pid, 0.0))
        time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"raymat data {' '.join(arguments)} failed")
    return {"wall_s": time.perf_counter() - start, "peak_mb": highest, "own_peak_mb": own}


def measure(n: int, seed: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="raymat-large-") as name:
        folder = Path(name)
        source = folder / "made.parquet"
        write_made(source, n, seed)
        check = run_measured(["check", str(source)], folder / "cache")
        build = run_measured(["cache", "build", str(source), "--model", "cgcnn"], folder / "cache")
        stored = sum(f.stat().st_size for f in (folder / "cache").rglob("*") if f.is_file())
        return {"n": n, "check": check, "build": build, "cache_mb": stored / 1e6}


def slopes(sides: list[dict]) -> dict[str, dict[str, float]]:
    """Give what a further crystal costs, from the smallest set to the largest."""
    small, large = sides[0], sides[-1]
    more = large["n"] - small["n"]
    return {
        step: {
            "ms_per_crystal": 1e3 * (large[step]["wall_s"] - small[step]["wall_s"]) / more,
            "kb_per_crystal": 1e3 * (large[step]["peak_mb"] - small[step]["peak_mb"]) / more,
            "own_kb_per_crystal": 1e3
            * (large[step]["own_peak_mb"] - small[step]["own_peak_mb"])
            / more,
        }
        for step in ("check", "build")
    }


def report(results: dict) -> None:
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(
        f"\n{'crystals':>10}{'step':>8}{'wall, s':>10}{'ms each':>9}{'peak, MB':>10}{'own, MB':>9}"
    )
    for side in results["sides"]:
        for step in ("check", "build"):
            cost, n = side[step], side["n"]
            each = 1e3 * cost["wall_s"] / n
            print(
                f"{n:10,}{step:>8}{cost['wall_s']:10.1f}{each:9.3f}{cost['peak_mb']:10,.0f}"
                f"{cost['own_peak_mb']:9,.0f}"
            )
    print("peak: of all processes at one time; own: of the command itself")
    for step, slope in results.get("slopes", {}).items():
        million_mb = slope["kb_per_crystal"] * 1e3
        print(
            f"{step}: a further crystal takes {slope['ms_per_crystal']:.3f} ms and"
            f" {slope['kb_per_crystal']:.2f} kB, so a further million {million_mb:,.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure large sets.")
    parser.add_argument("--n", type=int, action="append", help="crystals; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    sizes = sorted(set(args.n or SIZES))
    machine = machine_facts()
    sides = [measure(n, args.seed) for n in sizes]
    results = {"source": f"made crystals of {N_ATOMS} atoms, seed {args.seed}",
               "machine": machine, "sides": sides}  # fmt: skip
    if len(sides) > 1:
        results["slopes"] = slopes(sides)
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
