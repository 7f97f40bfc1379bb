"""What the platform costs: the wall time of a search against the training done in it.

    python benchmarks/platform_overhead.py --data crystals.parquet --target log10_G_VRH

16 trials of 5 epochs on 300 crystals, two at a time, through raymat's own `tune`: a local Ray is
started, the graphs are built (with an empty cache), every epoch is logged and checkpointed. The
target: until the last trial has ended at most 1.3 times the training time over the cores, plus
15 s for starting up. What follows the search (training the winner again, scoring, baselines) is
reported apart.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from graph_building import make_crystals
from results_file import machine_facts, write_results

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals

ALLOWED_FACTOR = 1.3
ALLOWED_START_S = 15.0
MADE_TARGET = "made_property"
CLOSEST = 0.6  # Å; made crystals with closer atoms would be rejected, as they should


def sample_crystals(path: Path | None, target: str, n: int, seed: int) -> CrystalSet:
    """Take `n` random crystals of a file, or make them."""
    if path is None:
        return make_usable_crystals(n, seed)
    crystals = load_crystals(str(path), target=target).crystals
    rows = np.random.default_rng(seed).permutation(len(crystals))[:n]
    return crystals.take(np.sort(rows))


def make_usable_crystals(n: int, seed: int) -> CrystalSet:
    """Make crystals without overlapping atoms; the property is their mean atomic number."""
    from raymat.features.neighbor_table import NeighborConfig
    from raymat.features.neighbors import build_neighbor_table

    made = make_crystals(2 * n, seed)
    table = build_neighbor_table(made, NeighborConfig(cutoff=CLOSEST, max_neighbors=1))
    is_close = np.add.reduceat(np.isfinite(table.distances[:, 0]), made.offsets[:-1]) > 0
    kept = made.take(np.flatnonzero(~is_close)[:n])
    sums = np.add.reduceat(kept.atomic_numbers.astype(np.float64), kept.offsets[:-1])
    chosen = [kept[k] for k in range(len(kept))]
    return CrystalSet.from_crystals(chosen, pd.DataFrame({MADE_TARGET: sums / kept.n_sites}))


class Clock:
    """Listens to a run and notes when what happened, in seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.training_s = 0.0
        self.epochs = 0

    def __call__(self, event: dict) -> None:
        """Take one event."""
        kind = event["event"]
        self.first.setdefault(kind, self.now())
        self.last[kind] = self.now()
        if kind == "epoch":
            self.training_s += event["time_s"]
            self.epochs += 1

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start


def run_search(crystals: CrystalSet, target: str, args: argparse.Namespace, folder: Path) -> dict:
    """Run one search in a fresh folder and give its times."""
    source = folder / "crystals.parquet"
    write_crystals(crystals, source)
    os.environ["RAYMAT_CACHE"] = str(folder / "cache")
    space = {
        "model": "cgcnn",
        "space": {"training.lr": {"log_uniform": [1e-3, 3e-2]}},
        "budget": {"trials": args.trials, "epochs": args.epochs},
        "scheduler": {"name": "none"},
        "search": {"name": "random"},
    }
    clock = Clock()
    # Imported when the clock runs: a user waits for it, too.
    from raymat.cluster.tune import tune
    from raymat.tuning.request import TuneRequest

    request = TuneRequest(
        space=space,
        space_path="platform_overhead",
        data=str(source),
        target=target,
        split=SplitConfig(seed=args.seed),
        seed=args.seed,
        concurrency=args.cores,
    )
    tune(request, folder / "run", listeners=(clock,))
    return times_of(clock, args.cores)


def times_of(clock: Clock, cores: int) -> dict:
    wall = clock.last["trial_ended"]
    return {
        "wall_s": wall,
        "start_s": clock.first["trial_started"],
        "first_epoch_ended_s": clock.first["epoch"],
        "search_s": wall - clock.first["trial_started"],
        "training_s": clock.training_s,
        "epochs": clock.epochs,
        "ideal_s": clock.training_s / cores,
        "ratio": wall / (clock.training_s / cores),
        "allowed_s": ALLOWED_FACTOR * clock.training_s / cores + ALLOWED_START_S,
        "after_the_search_s": clock.now() - wall,
    }


def report(results: dict) -> None:
    times, machine = results["times"], results["machine"]
    print(f"{results['trials']} trials, {times['epochs']} epochs in all, {results['source']}")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rows = (
        ("wall, to the end of the last trial", "wall_s"),
        ("  of it until the first trial starts", "start_s"),
        ("  of it from there on", "search_s"),
        ("until the first epoch has ended", "first_epoch_ended_s"),
        ("training, all trials together", "training_s"),
        (f"  over {results['cores']} cores", "ideal_s"),
        ("allowed wall", "allowed_s"),
        ("after the search: refit, baselines", "after_the_search_s"),
    )
    for label, key in rows:
        print(f"{label:40}{times[key]:8.1f} s")
    print(f"{'wall / (training / cores)':40}{times['ratio']:8.2f}")
    verdict = "kept" if results["kept"] else "missed"
    print(f"target (1.3 x training / cores + 15 s): {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a search's wall time with its training.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--target", default="log10_G_VRH", help="column to learn, with --data")
    parser.add_argument("--n", type=int, default=300, help="crystals")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()

    target = args.target if args.data else MADE_TARGET
    crystals = sample_crystals(args.data, target, args.n, args.seed)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="raymat-overhead-") as folder:
        times = run_search(crystals, target, args, Path(folder))

    results = {
        "source": f"{len(crystals)} {'of ' + args.data.name if args.data else 'made'} crystals",
        "trials": args.trials,
        "cores": args.cores,
        "machine": machine_facts() | {"load_before": load_before},
        "times": times,
        "kept": times["wall_s"] <= times["allowed_s"],
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
