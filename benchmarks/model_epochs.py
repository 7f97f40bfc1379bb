"""Epoch time of every network at its default sizes, and how MEGNet's memory grows with edges.

    python benchmarks/model_epochs.py --data crystals.parquet --out model_epochs.json

All networks train on the same crystals, each with its own defaults (sizes, cutoff, optimiser,
batch size), on one thread of one process; epochs alternate, so that a slow spell of the machine
meets all of them. Timed: joining the crystals of a batch, forward, backward, step. Not timed:
building graphs and descriptors, validation.

Memory is what a forward pass keeps for the gradient: every tensor that autograd saves, each
storage once, without the weights. Temporary tensors inside a pass are not in it; seen by
PyTorch's profiler, they and the gradients add 2 to 16 % to a graph network's.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from graph_building import make_crystals, median_times
from results_file import machine_facts, write_results
from torch import Tensor, nn

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.readers import load_crystals
from raymat.features.graph import CrystalGraph
from raymat.features.segments import bond_graph
from raymat.features.store import FeatureStore
from raymat.features.table import Batch
from raymat.models import available, load_spec
from raymat.models.megnet import MAX_ATOMIC_NUMBER
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.gradient import GradientFit
from raymat.training.optimizers import make_optimizer

BASE = "cgcnn"  # ratios are to its epoch
ALLOWED = {"megnet": 2.5}  # times the epoch of BASE
LINEAR = 1.05  # a fitted exponent up to here is linear growth
LARGE = 160  # atoms
LARGE_STEPS = 20  # training steps on the large cell
SRTIO3_LATTICE = 3.905  # Å, cubic


def read_data(path: Path | None, n: int, seed: int) -> tuple[CrystalSet, CrystalSet]:
    """Give `n` crystals of a file, or made ones, and a large cell by itself."""
    if path is None:
        return make_crystals(n, seed), CrystalSet.from_crystals([strontium_titanate((4, 4, 2))])
    crystals = load_crystals(str(path)).crystals
    rows = np.random.default_rng(seed).permutation(len(crystals))[:n]
    return crystals.take(np.sort(rows)), crystals.take(np.array([find_large(crystals)]))


def find_large(crystals: CrystalSet) -> int:
    """Give the row of the largest crystal, up to LARGE atoms, whose elements all models know."""
    heaviest = np.maximum.reduceat(crystals.atomic_numbers, crystals.offsets[:-1])
    usable = (crystals.n_sites <= LARGE) & (heaviest <= MAX_ATOMIC_NUMBER)
    return int(np.argmax(np.where(usable, crystals.n_sites, 0)))


def strontium_titanate(repeats: tuple[int, int, int]) -> Crystal:
    numbers = np.array([38, 22, 8, 8, 8], dtype=np.uint8)
    sites = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    cells = np.array(list(np.ndindex(*repeats)))
    return Crystal(
        "SrTiO3 supercell",
        SRTIO3_LATTICE * np.diag(repeats).astype(np.float64),
        np.tile(numbers, len(cells)),
        (cells[:, None] + sites).reshape(-1, 3) / repeats,
    )


def make_fits(
    crystals: CrystalSet, *, batch_size: int | None, seed: int
) -> tuple[dict[str, GradientFit], np.ndarray]:
    """Prepare every network, and give the rows that all of them can read.

    They learn the mean atomic number: what is learned does not change the time.
    """
    specs = {name: load_spec(name) for name in available()}
    specs = {name: spec for name, spec in specs.items() if spec.fit == "gradient"}
    configs = {name: spec.config(**spec.from_data(crystals)) for name, spec in specs.items()}
    views = {name: spec.reads(configs[name]) for name, spec in specs.items()}
    tables = {name: view.table_config.build(crystals) for name, view in views.items()}
    # Such as a crystal without neighbors within MEGNet's cutoff, or with an element it lacks.
    unusable = {row for name in specs for row in views[name].unusable(crystals, tables[name])}
    rows = np.setdiff1d(np.arange(len(crystals)), sorted(unusable))
    sums = np.add.reduceat(crystals.atomic_numbers.astype(np.float64), crystals.offsets[:-1])
    fits = {}
    for name, spec in specs.items():
        store = FeatureStore(crystals.without_properties(), (tables[name],))
        data = FitData(store, sums / crystals.n_sites, rows, rows[:1], "regression")
        config = training_of(name, batch_size=batch_size)
        fits[name] = GradientFit(spec, configs[name], config, data=data, seed=seed)
    return fits, rows


def training_of(name: str, *, batch_size: int | None = None) -> FitConfig:
    """Give a model's default training, with another batch size if there is one."""
    changes = {} if batch_size is None else {"batch_size": batch_size}
    return FitConfig(**{**load_spec(name).training, **changes})


def time_epochs(fits: dict[str, GradientFit], epochs: int) -> dict[str, list[float]]:
    """Give wall seconds of each epoch; one epoch of each model before them warms up."""
    times: dict[str, list[float]] = {name: [] for name in fits}
    for epoch in range(1, epochs + 2):
        for name, fit in fits.items():
            start = time.perf_counter()
            fit.train_epoch(epoch)
            times[name].append(time.perf_counter() - start)
        took = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items())
        print(f"epoch {epoch}: {took}", flush=True)
    return {name: values[1:] for name, values in times.items()}


def compare_epochs(fits: dict[str, GradientFit], rows: np.ndarray, epochs: int) -> dict:
    times = time_epochs(fits, epochs)
    base = times[BASE]
    return {
        name: {
            "n_parameters": fit.n_parameters,
            "batch_size": fit.config.batch_size,
            "neighbors_per_atom": count_neighbors(fit.view.batch(fit.table, rows)),
            "epoch_s": times[name],
            "median_s": median(times[name]),
            "crystals_per_s": len(rows) / median(times[name]),
            "ratio": median(times[name]) / median(base),
            "ratio_by_epoch": [a / b for a, b in zip(times[name], base, strict=True)],
            "saved_mb_per_crystal": saved_per_crystal(fit, rows) / 1e6,
        }
        for name, fit in fits.items()
    }


def count_neighbors(batch: Batch) -> float | None:
    """Give the edges per atom; None if the model reads no graph."""
    return len(batch.distances) / batch.n_atoms if isinstance(batch, CrystalGraph) else None


def saved_per_crystal(fit: GradientFit, rows: np.ndarray) -> float:
    some = rows[: fit.config.batch_size]
    return count_saved_bytes(fit.model, fit.view.batch(fit.table, some)) / len(some)


def count_saved_bytes(model: nn.Module, batch: Batch) -> int:
    """Run forward and give the bytes that are kept for the gradient."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The graph holds the tensor until `out` is gone, so no address comes twice.
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.train()(batch)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = sum(nbytes for address, nbytes in storages.items() if address not in weights)
    del out
    return saved


def measure_growth(crystals: CrystalSet, cutoffs: list[float]) -> dict:
    """Count MEGNet's memory on one batch, with more and more neighbors."""
    spec = load_spec("megnet")
    views = {cutoff: spec.reads(spec.config(cutoff=cutoff)) for cutoff in cutoffs}
    table = views[max(cutoffs)].table_config.build(crystals)
    # None stands alone within the smallest cutoff, nor within any other.
    unusable = views[min(cutoffs)].unusable(crystals, table)
    rows = np.setdiff1d(np.arange(len(crystals)), sorted(unusable))
    rows = rows[: training_of("megnet").batch_size]
    steps = []
    for cutoff, view in views.items():
        graph = view.batch(table, rows)
        model = spec.build(spec.config(cutoff=cutoff), "regression")
        steps.append(
            {
                "cutoff": cutoff,
                "edges": len(graph.distances),
                "distinct_bonds": len(bond_graph(graph).senders),
                "saved_bytes": count_saved_bytes(model, graph),
            }
        )
    found = {"n_crystals": len(rows), "steps": steps}
    for counted in ("edges", "distinct_bonds"):
        sizes, saved = ([step[key] for step in steps] for key in (counted, "saved_bytes"))
        found[f"exponent_{counted}"] = float(np.polyfit(np.log(sizes), np.log(saved), 1)[0])
    return found


@dataclass(frozen=True)
class LargeCell:
    """One network and one crystal to learn from."""

    model: nn.Module
    batch: Batch
    optimizer: torch.optim.Optimizer

    def pass_through(self) -> float:
        """Run forward and backward; give the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = (self.model(self.batch) - 1.0).square().mean()
        loss.backward()
        return float(loss.detach())

    def step(self) -> float:
        """Run forward and backward, and change the weights; give the loss before."""
        loss = self.pass_through()
        self.optimizer.step()
        return loss


def train_on_large(large: CrystalSet, names: list[str], repetitions: int, seed: int) -> dict:
    """Train every network on one large cell; its loss must fall."""
    cells = {name: make_large_cell(name, large, seed) for name in names}
    passes: dict[str, Callable[[], object]] = {n: cell.pass_through for n, cell in cells.items()}
    times = median_times(repetitions, **passes)
    found = {}
    for name, cell in cells.items():
        losses = [cell.step() for _ in range(LARGE_STEPS)]
        if not losses[-1] < losses[0]:
            raise SystemExit(f"{name} does not learn: loss {losses[0]:g}, then {losses[-1]:g}")
        found[name] = {
            "edges": len(cell.batch.distances) if isinstance(cell.batch, CrystalGraph) else None,
            "pass_s": times[name],
            "saved_bytes": count_saved_bytes(cell.model, cell.batch),
            "first_loss": losses[0],
            "last_loss": losses[-1],
        }
    return {"n_atoms": int(large.n_sites[0]), "crystal": large.material_ids[0], "models": found}


def make_large_cell(name: str, large: CrystalSet, seed: int) -> LargeCell:
    spec = load_spec(name)
    config = spec.config(**spec.from_data(large))
    view = spec.reads(config)
    batch = view.batch(view.table_config.build(large), np.array([0]))
    torch.manual_seed(seed)
    model = spec.build(config, "regression").train()
    return LargeCell(model, batch, make_optimizer(model, training_of(name)))


def report(results: dict) -> None:
    left_out = f" ({results['n_left_out']} left out)" if results["n_left_out"] else ""
    print(
        f"\n{results['n_crystals']} crystals{left_out}, {results['n_atoms']} atoms,"
        f" {results['source']}"
    )
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(
        f"\n{'':10}{'parameters':>11}{'batch':>7}{'nbrs/atom':>11}{'MB/crystal':>12}"
        f"{'s/epoch':>9}{'ratio':>7}  by epoch"
    )
    for name, row in results["models"].items():
        low, high = min(row["ratio_by_epoch"]), max(row["ratio_by_epoch"])
        slow = " (too slow)" if row["ratio"] > ALLOWED.get(name, np.inf) else ""
        print(
            f"{name:10}{row['n_parameters']:11,}{row['batch_size']:7}"
            f"{_number(row['neighbors_per_atom'], '.1f'):>11}{row['saved_mb_per_crystal']:12.3f}"
            f"{row['median_s']:9.2f}{row['ratio']:7.2f}  {low:.2f} to {high:.2f}{slow}"
        )
    report_memory(results["memory"])
    report_large(results["large_cell"])


def report_memory(memory: dict) -> None:
    print(f"\nMEGNet's memory, {memory['n_crystals']} crystals in a batch")
    print(f"{'cutoff, Å':>9}{'edges':>11}{'distinct':>11}{'MB':>9}{'bytes/edge':>12}")
    for step in memory["steps"]:
        print(
            f"{step['cutoff']:9g}{step['edges']:11,}{step['distinct_bonds']:11,}"
            f"{step['saved_bytes'] / 1e6:9.1f}{step['saved_bytes'] / step['edges']:12.0f}"
        )
    exponent = memory["exponent_edges"]
    print(
        f"grows with edges to the power {exponent:.2f}, with distinct bonds to the power"
        f" {memory['exponent_distinct_bonds']:.2f}{' (not linear)' if exponent > LINEAR else ''}"
    )


def report_large(large: dict) -> None:
    print(f"\na cell of {large['n_atoms']} atoms ({large['crystal']}), {LARGE_STEPS} steps")
    print(f"{'':10}{'edges':>9}{'MB':>9}{'forward+backward, s':>21}{'loss':>20}")
    for name, row in large["models"].items():
        losses = f"{row['first_loss']:.3g} to {row['last_loss']:.3g}"
        print(
            f"{name:10}{_number(row['edges'], ','):>9}{row['saved_bytes'] / 1e6:9.1f}"
            f"{row['pass_s']:21.4f}{losses:>20}"
        )


def _number(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the epochs of all networks.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--n", type=int, default=2048, help="crystals")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs of each model")
    parser.add_argument("--batch-size", type=int, help="for all (default: each model's own)")
    parser.add_argument(
        "--cutoffs", type=float, nargs="+", default=[4.0, 5.0, 6.0, 7.0], help="of MEGNet, Å"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as raymat's own processes do

    machine = machine_facts()
    crystals, large = read_data(args.data, args.n, args.seed)
    fits, rows = make_fits(crystals, batch_size=args.batch_size, seed=args.seed)
    results = {
        "source": args.data.name if args.data else f"made crystals, seed {args.seed}",
        "n_crystals": len(rows),
        "n_atoms": int(crystals.n_sites[rows].sum()),
        "n_left_out": len(crystals) - len(rows),
        "machine": machine,
        "models": compare_epochs(fits, rows, args.epochs),
        "memory": measure_growth(crystals, args.cutoffs),
        "large_cell": train_on_large(large, list(fits), args.epochs, args.seed),
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
