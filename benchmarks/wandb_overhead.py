"""What `--wandb` costs a search: the same search with W&B offline and without, in turns.

    python benchmarks/wandb_overhead.py --out wandb_overhead.json

16 trials of 20 epochs on 300 crystals, two at a time, through raymat's own `tune`. Compared are
the wall times from the first trial's start to the last one's end, as medians over the turns. The
target: at most 2 % more. Measured apart: what an event costs the driver, by calling the listener
alone, and how long a made search of 1,000 trials takes to be written, and how large its files are.
The latter gives the time that W&B needs for an epoch, whatever is trained, so the shortest epoch of
which it is 2 %, and its share of an epoch here, which a busy machine disturbs less than wall times.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from platform_overhead import MADE_TARGET, Clock, sample_crystals
from results_file import machine_facts, write_results

from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals
from raymat.tracking.run_directory import RunDirectory
from raymat.tracking.wandb_projection import LiveProjection, project

ALLOWED = 0.02
CALLS = 20_000
MANY_EPOCHS = 50


def run_search(source: Path, folder: Path, args: argparse.Namespace, *, wandb: bool) -> dict:
    """Run one search and give its times."""
    from raymat.cluster.tune import tune
    from raymat.tuning.request import TuneRequest

    space = {
        "model": "cgcnn",
        "space": {"training.lr": {"log_uniform": [1e-3, 3e-2]}},
        "budget": {"trials": args.trials, "epochs": args.epochs},
        "scheduler": {"name": "none"},
        "search": {"name": "random"},
    }
    request = TuneRequest(
        space=space,
        space_path="wandb_overhead",
        data=str(source),
        target=MADE_TARGET,
        split=SplitConfig(seed=args.seed),
        seed=args.seed,
        concurrency=args.cores,
    )
    clock = Clock()
    live = LiveProjection(folder, mode="offline")
    tune(request, folder, listeners=(clock, live) if wandb else (clock,))
    begun = time.perf_counter()
    if wandb:
        live.finish()
    return {
        "search_s": clock.last["trial_ended"] - clock.first["trial_started"],
        "training_s": clock.training_s,
        "finish_s": time.perf_counter() - begun,
    }


def measure_turns(args: argparse.Namespace, folder: Path) -> dict[str, list[dict]]:
    os.environ["RAYMAT_CACHE"] = str(folder / "cache")
    source = folder / "crystals.parquet"
    write_crystals(sample_crystals(None, MADE_TARGET, args.n, args.seed), source)
    run_search(source, folder / "warm", args, wandb=False)
    found: dict[str, list[dict]] = {"without": [], "with": []}
    for turn in range(args.turns):
        order = ("without", "with") if turn % 2 == 0 else ("with", "without")
        for which in order:
            run = folder / f"{which}-{turn}"
            found[which].append(run_search(source, run, args, wandb=which == "with"))
    return found


def measure_listener(folder: Path) -> float:
    """Give the seconds that one event costs the driver."""
    live = LiveProjection(folder, mode="offline")
    with RunDirectory.create(folder, {"command": "tune"}) as run:
        run.emit("trial_started", trial=0, seed=0, values={}, config={})
        live({"event": "trial_started"})
        begun = time.perf_counter()
        for _ in range(CALLS):
            live({"event": "epoch"})
        spent = time.perf_counter() - begun
        run.emit("trial_ended", trial=0, status="failed", error="nothing was trained")
    live.finish()
    return spent / CALLS


def measure_many(folder: Path, n_trials: int, n_epochs: int) -> dict[str, float]:
    """Bring a made search to W&B offline and give seconds and bytes for each trial."""
    with RunDirectory.create(folder, {"command": "tune"}) as run:
        for trial in range(n_trials):
            run.emit("trial_started", trial=trial, seed=trial, values={}, config={"a.b": trial})
            for epoch in range(1, n_epochs + 1):
                scores = {"train_loss": 1.0 / epoch, "val_score": 1.0 / epoch, "time_s": 0.5}
                run.emit("epoch", trial=trial, epoch=epoch, **scores, facts={})
            run.emit("trial_ended", trial=trial, status="complete", error=None)
    begun = time.perf_counter()
    project(folder, mode="offline")
    spent = time.perf_counter() - begun
    n_bytes = sum(f.stat().st_size for f in folder.glob("wandb/offline-run-*/*.wandb"))
    return {
        "s": spent,
        "s_per_trial": spent / n_trials,
        "s_per_epoch": spent / n_trials / n_epochs,
        "bytes_per_trial": n_bytes / n_trials,
    }


def summarise(turns: dict[str, list[dict]], n_epochs: int) -> dict[str, Any]:
    pairs = zip(turns["with"], turns["without"], strict=True)
    ratios = [a["search_s"] / b["search_s"] for a, b in pairs]
    medians = {k: statistics.median(t["search_s"] for t in own) for k, own in turns.items()}
    return {
        "search_s": medians,
        "ratio": medians["with"] / medians["without"],
        "ratio_by_turn": ratios,
        "finish_s": statistics.median(t["finish_s"] for t in turns["with"]),
        "epoch_s": statistics.median(t["training_s"] for t in turns["without"]) / n_epochs,
    }


def report(results: dict[str, Any]) -> None:
    search, many = results["search"], results["many"]
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    for which in ("without", "with"):
        print(f"search {which:8}{search['search_s'][which]:8.2f} s")
    low, high = min(search["ratio_by_turn"]), max(search["ratio_by_turn"])
    print(f"ratio          {search['ratio']:8.3f}   turn by turn {low:.3f} to {high:.3f}")
    print(f"at the end     {search['finish_s']:8.2f} s for the rest, tables and model")
    print(f"one event      {results['listener_s'] * 1e6:8.1f} µs in the driver")
    print(
        f"{results['many_trials']:,} trials: {many['s']:.1f} s, {many['s_per_trial'] * 1e3:.0f} ms"
        f" and {many['bytes_per_trial'] / 1e3:.1f} kB each"
    )
    cost, epoch, share = many["s_per_epoch"], search["epoch_s"], search["share"]
    print(
        f"an epoch       {cost * 1e3:8.2f} ms of W&B's process, {share:.1%} of one here"
        f" ({epoch * 1e3:.0f} ms); {ALLOWED:.0%} of one of {cost / ALLOWED * 1e3:.0f} ms"
    )
    print(f"target (a share of at most {ALLOWED:.0%}): {'kept' if share <= ALLOWED else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a search with W&B and without.")
    parser.add_argument("--n", type=int, default=300, help="crystals")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--cores", type=int, default=2, help="trials at a time")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--many", type=int, default=1000, help="trials brought to W&B at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="raymat-wandb-") as name:
        folder = Path(name)
        results = {
            "machine": machine,
            "turns": args.turns,
            "many_trials": args.many,
            "listener_s": measure_listener(folder / "listener"),
            "many": measure_many(folder / "many", args.many, MANY_EPOCHS),
            "search": summarise(measure_turns(args, folder), args.trials * args.epochs),
        }
    results["search"]["share"] = results["many"]["s_per_epoch"] / results["search"]["epoch_s"]
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
