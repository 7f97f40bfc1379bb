"""Memory of a screening against the number of candidates, in shards and all at once.

    python benchmarks/screening_memory.py

Made crystals with lithium go through `raymat screen` and the criterion of lithium metal, with small
ensembles that were trained before. Three sides: few candidates and ten times as many in shards of
1,000, and the many as one shard, which is what a script does that holds every graph and every
prediction at a time. Each runs once in fresh processes. Measured is the proportional set size
(memory shared by processes counted once) of `raymat` and all its descendants, Ray's among them;
that of each kind of process is listed beside it. The sides must rank the same candidates.
Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from ensemble_screening import make_lithium_crystals
from platform_overhead import MADE_TARGET
from results_file import machine_facts, write_results

from raymat.data.crystals import CrystalSet
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals

PROC = Path("/proc")
EVERY_S = 0.5
FEWER = 10  # times fewer candidates on the first side
N_TRAINING = 120
N_MADE_AT_ONCE = 2000
LEARNED = {"bulk": "log10_K_VRH", "shear": "log10_G_VRH"}
CONFIG = {
    "model": "cgcnn",
    "config": {"model.atom_dim": 16, "model.n_conv": 1, "training.epochs": 2},
}


# --- what is screened, and with what -------------------------------------------------------------


def train_ensembles(folder: Path, members: int, seed: int) -> dict[str, Path]:
    """Train small ensembles; the numbers they give do not matter here."""
    from raymat.cluster.ensemble import EnsembleRequest, ensemble

    made = make_lithium_crystals(N_TRAINING, seed)
    small = made.properties[MADE_TARGET].to_numpy() / 100.0
    targets = pd.DataFrame({LEARNED["bulk"]: 1.0 + small, LEARNED["shear"]: 0.5 + small})
    crystals = CrystalSet.from_crystals([made[k] for k in range(len(made))], targets)
    write_crystals(crystals, folder / "training.parquet")
    for name, target in LEARNED.items():
        request = EnsembleRequest(
            configs=(CONFIG,),
            config_path="screening_memory",
            data=str(folder / "training.parquet"),
            target=target,
            split=SplitConfig(seed=seed),
            members=members,
            seed=seed,
            gpus=0.0,
        )
        ensemble(request, folder / name)
    return {name: folder / name for name in LEARNED}


def write_candidates(path: Path, n: int, seed: int) -> None:
    """Write `n` crystals that repeat a made set at slightly different volumes."""
    made = make_lithium_crystals(min(n, N_MADE_AT_ONCE), seed + 1)
    scales = 1.0 + 0.002 * np.arange(-(-n // len(made)))
    repeated = [
        CrystalSet.from_crystals(
            [
                type(crystal)(
                    f"{crystal.material_id}-{round_}",
                    scale * crystal.lattice,
                    crystal.atomic_numbers,
                    crystal.frac_coords,
                )
                for crystal in (made[k] for k in range(len(made)))
            ]
        )
        for round_, scale in enumerate(scales)
    ]
    every = [crystals[k] for crystals in repeated for k in range(len(crystals))]
    write_crystals(CrystalSet.from_crystals(every[:n]), path)


# --- measuring -----------------------------------------------------------------------------------


def family_of(pid: int) -> list[int]:
    """Give a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def memory_of(pid: int) -> tuple[str, float]:
    """Give what kind of process it is, and its proportional set size in MB; 0 once it has ended."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        command = (PROC / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return "ended", 0.0
    size = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return kind_of(command), int(size.split()[1]) / 1000


def kind_of(command: str) -> str:
    if command.startswith("ray::IDLE"):
        return "idle worker"
    if command.startswith("ray::"):
        return "worker"
    return "raymat" if "raymat" in command and " screen " in command else "Ray itself"


def screen_measured(arguments: list[str], cache: Path) -> dict:
    """Run `raymat screen`; give its seconds and the memory of its processes at the highest."""
    command = [str(Path(sys.executable).with_name("raymat")), "screen", "--quiet", *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "RAYMAT_CACHE": str(cache)}, stdout=subprocess.DEVNULL
    )
    highest: Counter[str] = Counter()
    of_kind: Counter[str] = Counter()
    while process.poll() is None:
        now: Counter[str] = Counter()
        for pid in family_of(process.pid):
            kind, size = memory_of(pid)
            now[kind] += size
        highest = max(highest, now, key=lambda sizes: sum(sizes.values()))
        of_kind |= now
        time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return {
        "wall_s": time.perf_counter() - start,
        "peak_mb": sum(highest.values()),
        "peak_of_kind_mb": dict(of_kind),
    }


def compare(n: int, shard_size: int, members: int, seed: int) -> dict[str, dict]:
    sides = {
        f"{n // FEWER:,} in shards of {shard_size:,}": (n // FEWER, shard_size),
        f"{n:,} in shards of {shard_size:,}": (n, shard_size),
        f"{n:,} in one shard": (n, n),
    }
    found, ranked = {}, []
    with tempfile.TemporaryDirectory(prefix="raymat-screening-") as name:
        folder = Path(name)
        runs = train_ensembles(folder, members, seed)
        ensembles = [word for key, run in runs.items() for word in (f"--{key}", str(run))]
        for number, (side, (size, shard)) in enumerate(sides.items()):
            candidates = folder / f"{size}.parquet"
            if not candidates.exists():
                write_candidates(candidates, size, seed)
            out = folder / f"screen-{number}"
            arguments = ["--candidates", str(candidates), "--shard-size", str(shard)]
            found[side] = screen_measured(
                [*ensembles, *arguments, "--out", str(out)], folder / f"cache-{number}"
            )
            ranked.append(pd.read_parquet(out / "screening.parquet")["material_id"].tolist())
    if ranked[1] != ranked[2]:
        raise SystemExit("in shards and at once, candidates are not ranked the same")
    return found


# --- telling -------------------------------------------------------------------------------------


def report(results: dict) -> None:
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(f"\n{'':32}{'wall, s':>9}{'peak, MB':>10}{'raymat':>9}{'workers':>9}{'Ray':>7}")
    for side, cost in results["sides"].items():
        kinds = [cost["peak_of_kind_mb"].get(k, 0) for k in ("raymat", "worker", "Ray itself")]
        cells = "".join(f"{size:{w},.0f}" for size, w in zip(kinds, (9, 9, 7), strict=True))
        print(f"{side:32}{cost['wall_s']:9.0f}{cost['peak_mb']:10,.0f}{cells}")
    print("peak: of all processes at one time; beside it the highest of each kind")
    print(
        f"{FEWER} times the candidates in shards: {results['ratio_of_many']:.2f} times the memory"
    )
    print(f"all at once against shards: {results['ratio_at_once']:.2f} times the memory")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of a screening.")
    parser.add_argument("--n", type=int, default=40_000, help="candidates")
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--members", type=int, default=4, help="of each ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    machine = machine_facts()
    sides = compare(args.n, args.shard_size, args.members, args.seed)
    few, many, at_once = (side["peak_mb"] for side in sides.values())
    results = {
        "source": f"made crystals, seed {args.seed}",
        "machine": machine,
        "members": args.members,
        "sides": sides,
        "ratio_of_many": many / few,
        "ratio_at_once": at_once / many,
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
