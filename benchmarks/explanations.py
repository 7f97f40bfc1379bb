"""How fast explanations are grown and graphs scored, with one worker and with two.

    python benchmarks/explanations.py --data mp.parquet --target band_gap --out explanations.json

Two runs of `raymat explain`'s own function that differ in the number of tasks at a time; timed is
from the first task to the end of the last, so neither the classifiers nor the start of Ray count.
Both must find the same explanations. Then random grown graphs are scored by the run's classifier,
many in a batch, against one after another.
"""

import argparse
import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graph_building import make_crystals, median_times
from results_file import machine_facts, write_results

from raymat.cluster.explain import ExplainRequest, explain
from raymat.data.splits import SplitConfig
from raymat.data.writers import write_crystals
from raymat.explain.coarse_training import TRAINING, load_coarse
from raymat.explain.generate import GrowConfig
from raymat.explain.growing_graphs import GrowingGraphs
from raymat.explain.scoring import score_graphs
from raymat.features.coarse_graphs import N_LABELS
from raymat.tracking.events import read_events
from raymat.training.device import prepare_process

WORKERS = (1, 2)
BATCH = 800  # graphs, about what a step of 75 policies asks for
N_ALONE = 300  # graphs that are scored one after another
MADE_TARGET = "mean_number"


def make_data(path: Path, n: int, seed: int) -> None:
    """Write made crystals whose target, the mean atomic number, groups and periods can tell."""
    crystals = make_crystals(n, seed)
    sums = np.add.reduceat(crystals.atomic_numbers.astype(float), crystals.offsets[:-1])
    crystals.properties[MADE_TARGET] = sums / crystals.n_sites
    write_crystals(crystals, path)


# --- explanations --------------------------------------------------------------------------------


def grow(request: ExplainRequest, out: Path) -> dict[str, Any]:
    """Run and give what its log says of the explanations."""
    begun = time.perf_counter()
    metrics = explain(request, out)
    wall = time.perf_counter() - begun
    events = read_events(out / "events.jsonl")
    times = {event["event"]: datetime.fromisoformat(event["time"]) for event in events}
    (start,) = (e["time"] for e in events if e["event"] == "explaining_started")
    grown_s = (times["explanations_grown"] - datetime.fromisoformat(start)).total_seconds()
    results = [e["result"] for e in events if e["event"] == "explanations_grown"]
    return {
        "wall_s": wall,
        "grown_s": grown_s,
        "found": sum(own["found"] for own in metrics["explanations"]),
        "policies": sum(own["attempts"] for own in metrics["explanations"]),
        "graphs_asked": sum(r["graphs_asked"] for r in results),
        "graphs_scored": sum(r["graphs_scored"] for r in results),
    }


def compare_workers(request: ExplainRequest, folder: Path) -> dict[str, Any]:
    found, texts = {}, []
    for n in WORKERS:
        out = folder / f"workers-{n}"
        found[n] = grow(request.model_copy(update={"concurrency": n}), out)
        texts.append((out / "explanations.jsonl").read_bytes())
    if texts[0] != texts[1]:
        raise SystemExit("the number of workers changes the explanations")
    return {str(n): own for n, own in found.items()}


# --- scoring -------------------------------------------------------------------------------------


def random_graphs(n: int, n_labels: int, seed: int) -> GrowingGraphs:
    """Give graphs of up to six nodes that random steps grew."""
    rng = np.random.default_rng(seed)
    graphs = GrowingGraphs.start(torch.from_numpy(rng.integers(n_labels, size=n)), 6)
    for _ in range(9):
        starts = torch.from_numpy(rng.integers(graphs.n_nodes.numpy()))
        ends = torch.from_numpy(6 + rng.integers(n_labels, size=n))
        graphs, _ = graphs.grow(starts, ends)
    return graphs


def compare_scoring(folder: Path, labels: str, repeats: int, seed: int) -> dict[str, float]:
    prepare_process(1)
    classifier = load_coarse(folder / "workers-1" / "classifiers" / f"{labels}-0")
    graphs = random_graphs(8 * BATCH, N_LABELS[classifier.config.labels], seed)
    parts = torch.arange(len(graphs)).split(BATCH)
    few = [graphs.take(torch.tensor([row])) for row in range(N_ALONE)]
    times = median_times(
        repeats,
        batched=lambda: [score_graphs(classifier, graphs.take(rows)) for rows in parts],
        alone=lambda: [score_graphs(classifier, graph) for graph in few],
    )
    rates = {"batched": len(graphs) / times["batched"], "alone": N_ALONE / times["alone"]}
    return {**rates, "ratio": rates["batched"] / rates["alone"]}


# --- telling -------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> None:
    print(f"{results['source']}; " + ", ".join(f"{k} {v}" for k, v in results["machine"].items()))
    print(f"\n{'tasks at a time':18}{'grown in s':>12}{'found':>8}{'policies':>10}{'s/policy':>10}")
    for n, own in results["workers"].items():
        per_policy = int(n) * own["grown_s"] / own["policies"]
        print(f"{n:18}{own['grown_s']:12.1f}{own['found']:8}{own['policies']:10}{per_policy:10.2f}")
    print(f"parallel efficiency from one to two: {results['efficiency']:.2f}")
    scoring = results["scoring"]
    print(
        f"\ngraphs scored per second and core: {scoring['batched']:,.0f} in batches of {BATCH},"
        f" {scoring['alone']:,.0f} one at a time, ratio {scoring['ratio']:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how explanations are grown.")
    parser.add_argument("--data", type=Path, help="Parquet file; made crystals without")
    parser.add_argument("--target", default=MADE_TARGET)
    parser.add_argument("--n", type=int, default=3000, help="made crystals")
    parser.add_argument("--per-class", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=GrowConfig().episodes)
    parser.add_argument("--epochs", type=int, default=10, help="of the classifiers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    machine = machine_facts()
    folder = Path(tempfile.mkdtemp(prefix="raymat-explanations-"))
    try:
        data = args.data
        if data is None:
            data = folder / "made.parquet"
            make_data(data, args.n, args.seed)
        request = ExplainRequest(
            data=str(data),
            target=args.target,
            split=SplitConfig(),
            per_class=args.per_class,
            full=False,
            max_rejected=1.0,  # some made crystals have atoms too close
            training=TRAINING.model_copy(update={"epochs": args.epochs}),
            grow=GrowConfig(episodes=args.episodes),
            max_attempts=1,  # a fixed amount of work, whatever is found
            seed=args.seed,
        )
        workers = compare_workers(request, folder)
        first, second = (workers[str(n)]["grown_s"] for n in WORKERS)
        results = {
            "source": data.name if args.data else f"made crystals, seed {args.seed}",
            "machine": machine,
            "per_class": args.per_class,
            "episodes": args.episodes,
            "workers": workers,
            "efficiency": first / (2 * second),
            "scoring": compare_scoring(folder, "group", args.repeats, args.seed),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
