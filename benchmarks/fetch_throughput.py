"""Time and memory of `raymat data fetch`, against a plain loop that keeps everything in memory.

    python benchmarks/fetch_throughput.py --out fetch_throughput.json

10,000 made structures on the reference OPTIMADE server on loopback, which takes one of the cores.
Both sides fetch all of them with three properties in pages of the same size, each as a process of
its own, in turns: raymat's command, and the loop that a script would have (`requests`, one pymatgen
`Structure` for each entry, then one JSON file). raymat's side also checks every entry, hashes every
page and can be killed. Peak memory is the largest resident set of the process. What is left of the
server's own time is told by a loop that throws the pages away.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results_file import machine_facts, write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "sources"))
from optimade_database import Database, served, structure

ALLOWED_S, ALLOWED_MB = 60.0, 1000.0
FIELDS = "_oqmd_delta_e,_oqmd_stability,_oqmd_band_gap"
NAMES = "formation_energy_per_atom,e_above_hull,band_gap"

LOOP = """
import json, sys
import requests

base, fields, size, keep, out = sys.argv[1:]
sites = "lattice_vectors,cartesian_site_positions,species_at_sites,species"
url = f"{base}/v1/structures?response_fields={sites},{fields}&page_limit={size}"
entries = []
while url:
    page = requests.get(url, timeout=600).json()
    entries += page["data"] if keep == "1" else []
    url = page["links"].get("next")
if keep == "1":
    from pymatgen.core import Lattice, Structure
    found = []
    for entry in entries:
        a = entry["attributes"]
        crystal = Structure(Lattice(a["lattice_vectors"]), a["species_at_sites"],
                            a["cartesian_site_positions"], coords_are_cartesian=True)
        row = {"id": entry["id"], "structure": crystal.as_dict()}
        found.append(row | {name: a[name] for name in fields.split(",")})
    with open(out, "w") as file:
        json.dump(found, file)
"""


# A small process between this one and the measured one: a child's peak memory begins with what
# its parent had when it started it.
WATCH = """
import json, resource, subprocess, sys

code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))
"""


def run(command: list[str]) -> dict[str, float]:
    """Run a process; give its wall time (s), its CPU time (s) and its peak memory (MB)."""
    begun = time.perf_counter()
    watched = [sys.executable, "-c", WATCH, *command]
    told = subprocess.run(watched, capture_output=True, text=True, check=True).stdout
    wall = time.perf_counter() - begun
    code, cpu, peak = json.loads(told)
    assert code == 0, command
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak}


def measure_turn(database: Database, folder: Path, args: argparse.Namespace) -> dict[str, dict]:
    size = str(args.page_size)
    parquet = folder / "made.parquet"
    code = "from raymat.cli.main import main; main()"
    command = [sys.executable, "-c", code, "data", "fetch", database.base_url, "--quiet"]
    asked = ["--properties", NAMES, "--page-size", size, "-o", str(parquet)]
    rate = ["--requests-per-second", str(args.requests_per_second)]
    raymat = run([*command, *asked, *rate])
    loop = [sys.executable, "-c", LOOP, database.base_url, FIELDS, size]
    plain = run([*loop, "1", str(folder / "made.json")])
    server = run([*loop, "0", ""])
    raymat["file_mb"] = parquet.stat().st_size / 1e6
    plain["file_mb"] = (folder / "made.json").stat().st_size / 1e6
    parquet.unlink()
    return {"raymat": raymat, "plain loop": plain, "server alone": server}


def summarise(turns: list[dict[str, dict]]) -> dict[str, dict[str, float]]:
    return {
        side: {key: statistics.median(turn[side][key] for turn in turns) for key in turns[0][side]}
        for side in turns[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="entries")
    parser.add_argument("--page-size", type=int, default=500)
    parser.add_argument("--requests-per-second", type=float, default=2.0, help="raymat's default")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    facts = machine_facts()
    made = [structure(i) for i in range(args.n)]
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "db", made) as database:
        turns = [measure_turn(database, Path(name), args) for _ in range(args.turns)]
    medians = summarise(turns)
    for side, numbers in medians.items():
        print(side, ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))
    ours, plain = medians["raymat"], medians["plain loop"]
    ratios = {key: plain[key] / ours[key] for key in ours}
    print("plain loop / raymat", ", ".join(f"{key} {value:.2f}" for key, value in ratios.items()))
    kept = ours["wall_s"] < ALLOWED_S and ours["peak_mb"] < ALLOWED_MB
    print(f"allowed: {ALLOWED_S:g} s, {ALLOWED_MB:g} MB: {'kept' if kept else 'MISSED'}")
    if args.out:
        asked = {"n": args.n, "page_size": args.page_size, "rate": args.requests_per_second}
        result = {"machine": facts, "asked": asked, "medians": medians, "ratios": ratios}
        write_results(args.out, result | {"turns": turns})


if __name__ == "__main__":
    main()
