"""Training speed and graph memory of raymat's CGCNN against a straightforward one.

    python benchmarks/training_throughput.py --data crystals.parquet --target log10_G_VRH

Both sides train the same network (F 64, R 3, H 128, M 12) from the same weights on the same
batches with the same optimiser, on one thread of one process; epochs alternate, so that a slow
spell of the machine meets both. Timed: joining the crystals of a batch, forward, backward, step.
Not timed: building graphs, expanding the reference's Gaussians, validation.

Each side computes as its user would have it: raymat's processes take denormal numbers as 0 (see
`raymat/training/device.py`), a plain script computes with them. What they cost depends on the
processor, so it is measured and stated (`denormal_cost`).
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from graph_building import make_crystals, median_times
from reference_cgcnn import ReferenceCGCNN, ReferenceCrystal, collate, train_epoch
from reference_cgcnn import make_crystals as expand_crystals
from results_file import machine_facts, write_results

from raymat.data.readers import load_crystals
from raymat.features.graph_view import batch_graph
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.features.store import FeatureStore
from raymat.models import load_spec
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.gradient import GradientFit
from raymat.training.optimizers import make_optimizer

# Of network outputs of order 1 in float32, summed in another order.
SAME_OUTPUT = 2e-5
N_CHECKED = 64  # crystals whose outputs are compared
N_PROFILED = 4  # batches
TOP_OPERATIONS = 12


def read_data(path: Path | None, target: str, n: int | None, seed: int):
    """Give the features and one target per crystal, of a file or of made crystals."""
    if path is None:
        crystals = make_crystals(n or 2048, seed)
        targets = np.random.default_rng(seed).normal(size=len(crystals))
    else:
        crystals = load_crystals(str(path), target=target).crystals
        if n is not None and n < len(crystals):
            rows = np.random.default_rng(seed).permutation(len(crystals))[:n]
            crystals = crystals.take(np.sort(rows))
        targets = crystals.target(target)
    table = build_neighbor_table(crystals, NeighborConfig())
    return FeatureStore(crystals.without_properties(), (table,)), targets


class Sides:
    """raymat's fit and the reference, with equal weights and equal batches."""

    def __init__(self, features: FeatureStore, targets: np.ndarray, config: FitConfig, seed: int):
        spec = load_spec("cgcnn")
        rows = np.arange(len(targets))
        data = FitData(features, targets, train=rows, validation=rows[:1], task="regression")
        self.fit = GradientFit(spec, spec.config(), config, data=data, seed=seed)
        self.crystals = expand_crystals(self.fit.table, self.fit.scaling.scale(targets))
        self.network = ReferenceCGCNN()
        self.network.take_weights_of(self.fit.model)
        self.optimizer = make_optimizer(self.network, config)

    def assert_same_outputs(self) -> float:
        """Give the largest difference over some crystals, with the reference's padding."""
        rows = np.arange(min(N_CHECKED, len(self.crystals)))
        graph = batch_graph(self.fit.table, rows, replace(self.fit.view, pad="reference"))
        self.fit.model.eval()
        self.network.eval()
        with torch.no_grad():
            ours = self.fit.model(graph)
            theirs = self.network(collate([self.crystals[k] for k in rows]))
        worst = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))
        if worst > SAME_OUTPUT:
            raise SystemExit(f"the two networks differ by {worst:g}, relative")
        return worst

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Give the rows of every batch of an epoch, the same as raymat's fit draws."""
        order = np.random.default_rng([self.fit.seed, epoch]).permutation(len(self.crystals))
        size = self.fit.config.batch_size
        cuts = [cut for cut in range(size, len(order), size) if cut < len(order) - 1]
        return np.split(order, cuts)

    def epoch_of_raymat(self, epoch: int) -> float:
        """Train; `run_epoch` less validation. Gives the mean loss."""
        torch.set_flush_denormal(True)
        self.fit.train_epoch(epoch)
        torch.set_flush_denormal(False)
        return self.fit.training_loss()

    def epoch_of_reference(self, epoch: int) -> float:
        """Train; gives the mean loss."""
        return train_epoch(self.network, self.optimizer, self.crystals, self.batches(epoch))


def time_epochs(sides: Sides, epochs: int) -> dict[str, list[float]]:
    """Give wall seconds of each epoch; one epoch of each side before them warms up."""
    times: dict[str, list[float]] = {"raymat": [], "reference": []}
    runs = {"raymat": sides.epoch_of_raymat, "reference": sides.epoch_of_reference}
    for epoch in range(1, epochs + 2):
        losses = {}
        for name, run in runs.items():
            start = time.perf_counter()
            losses[name] = run(epoch)
            times[name].append(time.perf_counter() - start)
        took = ", ".join(f"{name} {times[name][-1]:.2f} s" for name in times)
        print(f"epoch {epoch}: {took}; losses " + ", ".join(f"{v:.4f}" for v in losses.values()))
    return {name: values[1:] for name, values in times.items()}


def compare_speed(sides: Sides, epochs: int) -> dict:
    times = time_epochs(sides, epochs)
    n = len(sides.crystals)
    pairs = zip(times["reference"], times["raymat"], strict=True)
    return {
        "epoch_s": times,
        "crystals_per_s": {name: n / median(values) for name, values in times.items()},
        "ratio": median(times["reference"]) / median(times["raymat"]),
        "ratio_by_epoch": [theirs / ours for theirs, ours in pairs],
    }


def compare_memory(table: NeighborTable, crystals: list[ReferenceCrystal]) -> dict:
    theirs = sum(crystal.nbytes for crystal in crystals)
    ratio = theirs / table.nbytes
    return {"raymat_bytes": table.nbytes, "reference_bytes": theirs, "ratio": ratio}


def profile_raymat(sides: Sides) -> list[dict]:
    """Give the operations that take most of raymat's training steps."""
    torch.set_flush_denormal(True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for rows in sides.batches(1)[:N_PROFILED]:
            sides.fit._step(rows)
    torch.set_flush_denormal(False)
    found = sorted(profiler.key_averages(), key=lambda op: -op.self_cpu_time_total)
    total = sum(op.self_cpu_time_total for op in found)
    return [
        {"operation": op.key, "share": op.self_cpu_time_total / total, "calls": op.count}
        for op in found[:TOP_OPERATIONS]
    ]


def measure_denormal_cost() -> float:
    """Give the time of a matrix product that is denormal, over that of a normal one."""
    right = torch.full((4096, 128), 1e-3)
    left = {scale: torch.full((41, 4096), scale) for scale in (1.0, 1e-38)}
    times = median_times(20, normal=lambda: left[1.0] @ right, denormal=lambda: left[1e-38] @ right)
    return times["denormal"] / times["normal"]


def report(results: dict) -> None:
    machine, speed, memory = results["machine"], results["speed"], results["memory"]
    print(f"\n{results['n_crystals']} crystals, {results['n_atoms']} atoms, {results['source']}")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"a product of denormal numbers takes {results['denormal_cost']:.2f} times a normal one")
    print(f"largest relative difference of outputs: {results['output_difference']:.1e}\n")
    print(f"{'':14}{'crystals/s':>12}{'s/epoch':>10}{'graphs, MB':>12}")
    for name in ("raymat", "reference"):
        rate, seconds = speed["crystals_per_s"][name], median(speed["epoch_s"][name])
        print(f"{name:14}{rate:12.0f}{seconds:10.2f}{memory[f'{name}_bytes'] / 1e6:12.1f}")
    print(f"{'ratio':14}{speed['ratio']:12.2f}{'':10}{memory['ratio']:12.1f}")
    low, high = min(speed["ratio_by_epoch"]), max(speed["ratio_by_epoch"])
    print(f"ratio of speeds epoch by epoch: {low:.2f} to {high:.2f}")
    print("\nwhere raymat's steps spend their time:")
    for row in results["profile"]:
        print(f"  {100 * row['share']:5.1f} %  {row['operation'][:60]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare CGCNN training with a plain one.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--target", default="log10_G_VRH", help="column to learn, with --data")
    parser.add_argument("--n", type=int, help="crystals (default: all of the file, or 2048 made)")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs of each side")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)

    machine = machine_facts()
    features, targets = read_data(args.data, args.target, args.n, args.seed)
    sides = Sides(features, targets, FitConfig(batch_size=args.batch_size), args.seed)
    table = sides.fit.table
    results = {
        "source": args.data.name if args.data else f"made crystals, seed {args.seed}",
        "n_crystals": len(table),
        "n_atoms": len(table.atomic_numbers),
        "batch_size": args.batch_size,
        "atoms_with_few_neighbors": int(np.isinf(table.distances).any(axis=1).sum()),
        "machine": machine,
        "denormals": {"raymat": "taken as 0", "reference": "computed"},
        "denormal_cost": measure_denormal_cost(),
        "output_difference": sides.assert_same_outputs(),
        "speed": compare_speed(sides, args.epochs),
        "memory": compare_memory(table, sides.crystals),
        "profile": profile_raymat(sides),
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
