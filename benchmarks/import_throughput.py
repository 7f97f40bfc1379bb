"""Importing CIF files: by one process, by two, and by a plain script that calls pymatgen.

    python benchmarks/import_throughput.py --data elastic.parquet --n 45000

The files are written first: the crystals of a Parquet file, or made ones, as often as it takes,
each time at a slightly larger volume. Every side is a fresh process, timed from its start to the
end of its output, and the sides take turns. `raymat data import` checks every row, and hashes and
joins what it wrote; the plain script does neither. Memory is the proportional set size (memory
shared by processes counted once) of a side's processes together. The imports must give the same
file, and the plain script the same number of crystals. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
from platform_overhead import make_usable_crystals
from results_file import machine_facts, write_results
from screening_memory import family_of, memory_of

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.readers import load_crystals

EVERY_S = 2.0  # to look takes a core for some 40 ms, which the workers would miss
N_MADE = 500
GROWTH = 0.001  # of the lattice vectors from one round of the crystals to the next
PLAIN = """
import sys, warnings
from pathlib import Path
import pandas as pd
from pymatgen.io.cif import CifParser

warnings.simplefilter("ignore")
rows = []
for path in sorted(Path(sys.argv[1]).glob("*.cif")):
    structure = CifParser(path).parse_structures(primitive=False)[0]
    rows.append({
        "material_id": path.stem,
        "lattice": structure.lattice.matrix.ravel(),
        "atomic_numbers": [site.specie.Z for site in structure],
        "frac_coords": structure.frac_coords.ravel(),
    })
pd.DataFrame(rows).to_parquet(sys.argv[2])
"""


def read_data(path: Path | None, seed: int) -> CrystalSet:
    """Give the crystals of a file, or made ones."""
    if path is None:
        return make_usable_crystals(N_MADE, seed)
    return load_crystals(str(path)).crystals


def write_cifs(crystals: CrystalSet, folder: Path, n: int) -> float:
    """Write `n` files in P1, as pymatgen does; give their size in MB."""
    folder.mkdir()
    n_bytes = 0
    for number in range(n):
        turn, row = divmod(number, len(crystals))
        one = crystals[row]
        scaled = Crystal(
            one.material_id, one.lattice * (1 + GROWTH * turn), one.atomic_numbers, one.frac_coords
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = str(scaled.to_structure().to(fmt="cif"))
        n_bytes += (folder / f"c{number:06}.cif").write_text(text, encoding="utf-8")
    return n_bytes / 1e6


def run_measured(command: list[str]) -> tuple[float, float]:
    """Run a command; give its seconds and the memory of its processes at the highest, in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    highest = 0.0
    while process.poll() is None:
        highest = max(highest, sum(memory_of(pid)[1] for pid in family_of(process.pid)))
        time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed")
    return time.perf_counter() - begun, highest


def import_command(folder: Path, out: Path, workers: int) -> list[str]:
    raymat = str(Path(sys.executable).with_name("raymat"))
    options = ["-o", str(out), "--workers", str(workers), "--quiet"]
    return [raymat, "data", "import", str(folder), *options]


def compare(folder: Path, repetitions: int, scratch: Path) -> dict[str, dict[str, float]]:
    """Run the sides in turns; give medians."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for turn in range(repetitions):
        outs = [scratch / f"{turn}-{side}.parquet" for side in (1, 2, "plain")]
        commands = {
            "raymat, 1 worker": import_command(folder, outs[0], 1),
            "raymat, 2 workers": import_command(folder, outs[1], 2),
            "pymatgen, plain script": [sys.executable, "-c", PLAIN, str(folder), str(outs[2])],
        }
        for side, command in commands.items():
            taken.setdefault(side, []).append(run_measured(command))
        assert_same(*outs)
    return {
        side: {"wall_s": median(s for s, _ in costs), "peak_mb": median(m for _, m in costs)}
        for side, costs in taken.items()
    }


def assert_same(one: Path, two: Path, plain: Path) -> None:
    if one.read_bytes() != two.read_bytes():
        raise SystemExit("one worker and two did not write the same file")
    found = load_crystals(str(one)).crystals
    wanted = load_crystals(str(plain)).crystals
    if not np.array_equal(found.atomic_numbers, wanted.atomic_numbers):
        raise SystemExit("the plain script read other crystals")


def report(results: dict) -> None:
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(f"{results['n']:,} CIF files, {results['size_mb']:.1f} MB, of {results['source']}\n")
    print(f"{'':26}{'wall, s':>9}{'ms a file':>11}{'peak, MB':>10}")
    for side, cost in results["sides"].items():
        per_file = 1000 * cost["wall_s"] / results["n"]
        print(f"{side:26}{cost['wall_s']:9.1f}{per_file:11.2f}{cost['peak_mb']:10,.0f}")
    print(f"two workers against one: {results['ratio_of_workers']:.2f} times as fast")
    print(f"two workers against the plain script: {results['ratio_of_plain']:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the import of CIF files.")
    parser.add_argument("--data", type=Path, help="Parquet file whose crystals are written")
    parser.add_argument("--n", type=int, default=2000, help="files")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="raymat-import-") as name:
        folder = Path(name) / "cifs"
        size = write_cifs(read_data(args.data, args.seed), folder, args.n)
        sides = compare(folder, args.repetitions, Path(name))
    one, two, plain = (side["wall_s"] for side in sides.values())
    results = {
        "source": args.data.name if args.data else f"made crystals, seed {args.seed}",
        "machine": machine,
        "n": args.n,
        "size_mb": size,
        "repetitions": args.repetitions,
        "sides": sides,
        "ratio_of_workers": one / two,
        "ratio_of_plain": plain / two,
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
