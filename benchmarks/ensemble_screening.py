"""What many members cost: predicting with them, the coordination of Li, training them.

    python benchmarks/ensemble_screening.py --data crystals.parquet --target log10_G_VRH

Predicting: all members on shared batches, against every member by itself, and against a plain loop
over members and batches of 4,096 sites. Features are built before the clock runs; networks are
untrained, which does not change the time. Coordination: from a crystal, against pymatgen's
VoronoiNN from the structure, site by site. Training: an ensemble through Ray, members one after
another and then as many at a time as there are cores, against the same fits in this process.

One thread throughout. Sides whose numbers differ by more than 1e-6 stop the script.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ensemble_training import Work, assert_same, compare_training, report_training
from platform_overhead import MADE_TARGET, make_usable_crystals
from results_file import machine_facts, write_results

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.scaling import TargetScaling
from raymat.errors import DataError
from raymat.features.lithium_coordination import CUTOFF, LITHIUM, lithium_site_coordination
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.training.members import predict_members
from raymat.training.model_files import TrainedModel
from raymat.training.predict import to_unit

LARGE_BATCH = 4096  # sites
LITHIUM_SHARE = 0.2  # of the sites of made crystals, beside the first
WANTED = 60_000  # member-atoms a second, on two cores


def read_data(path: Path | None, target: str, n: int | None, seed: int) -> CrystalSet:
    """Give crystals that CGCNN can read, of a file or made ones."""
    found = (
        make_lithium_crystals(n or 1000, seed)
        if path is None
        else load_crystals(str(path), target=target).crystals
    )
    view = load_spec("cgcnn").reads(load_spec("cgcnn").config())
    unusable = view.unusable(found, view.table_config.build(found))
    rows = np.setdiff1d(np.arange(len(found)), list(unusable))
    rows = np.random.default_rng(seed).permutation(rows)[: n or len(rows)]
    return found.take(np.sort(rows))


def make_lithium_crystals(n: int, seed: int) -> CrystalSet:
    """Make crystals that all hold Li; the property is their mean atomic number."""
    made = make_usable_crystals(n, seed)
    numbers = made.atomic_numbers.copy()
    numbers[np.random.default_rng(seed).random(len(numbers)) < LITHIUM_SHARE] = LITHIUM
    numbers[made.offsets[:-1]] = LITHIUM
    means = np.add.reduceat(numbers.astype(np.float64), made.offsets[:-1]) / made.n_sites
    return replace(
        made, atomic_numbers=numbers, properties=made.properties.assign(**{MADE_TARGET: means})
    )


def median_costs(
    repetitions: int, sides: dict[str, Callable[[], object]]
) -> dict[str, dict[str, float]]:
    """Run the sides in turns; give the median wall seconds and CPU seconds of this process."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {"wall_s": median(w for w, _ in pairs), "cpu_s": median(c for _, c in pairs)}
        for name, pairs in taken.items()
    }


# --- predicting ----------------------------------------------------------------------------------


def make_members(n: int, seed: int) -> list[TrainedModel]:
    """Make untrained CGCNNs of the default size."""
    spec = load_spec("cgcnn")
    members = []
    for number in range(n):
        torch.manual_seed(seed + number)
        network = spec.build(spec.config(), "regression").eval()
        scaling = TargetScaling(mean=1.5, std=0.4)
        members.append(
            TrainedModel(
                name="cgcnn",
                config=spec.config(),
                network=network,
                target=MADE_TARGET,
                unit="",
                task="regression",
                scaling=scaling,
                threshold=None,
                elements=(),
                training={},
            )
        )
    return members


def predict_one_by_one(members: list[TrainedModel], table: FeatureTable) -> np.ndarray:
    return np.stack([member.predict(table) for member in members])


def predict_in_large_batches(members: list[TrainedModel], table: FeatureTable) -> np.ndarray:
    """Do what a plain script does: for every member, for every batch, one forward pass."""
    cuts = np.flatnonzero(np.diff(np.cumsum(table.n_sites) // LARGE_BATCH)) + 1
    batches = np.split(np.arange(len(table)), cuts)
    rows = []
    for member in members:
        with torch.inference_mode():
            outputs = [member.network(member.view.batch(table, some)) for some in batches]
        joined = torch.cat(outputs).double().numpy()
        rows.append(to_unit(joined, member.scaling, member.task))
    return np.stack(rows)


def compare_predicting(crystals: CrystalSet, n_members: int, repetitions: int, seed: int) -> dict:
    members = make_members(n_members, seed)
    table = members[0].view.table_config.build(crystals.without_properties())
    sides: dict[str, Callable[[], object]] = {
        "raymat": lambda: predict_members(members, table),
        "members one at a time": lambda: predict_one_by_one(members, table),
        f"plain loop, {LARGE_BATCH} sites": lambda: predict_in_large_batches(members, table),
    }
    ours = predict_members(members, table)[0]  # warms up, too
    differences = [
        assert_same(ours, theirs, "predictions")
        for theirs in (
            predict_one_by_one(members, table),
            predict_in_large_batches(members, table),
        )
    ]
    costs = median_costs(repetitions, sides)
    n = n_members * len(crystals.atomic_numbers)
    return {
        "n_members": n_members,
        "n_crystals": len(crystals),
        "n_atoms": len(crystals.atomic_numbers),
        "largest_difference": dict(zip(list(sides)[1:], differences, strict=True)),
        "costs": costs,
        "member_atoms_per_s": {name: n / cost["wall_s"] for name, cost in costs.items()},
        "ratio": _over_raymat(costs, "wall_s"),
        "ratio_cpu": _over_raymat(costs, "cpu_s"),
    }


def _over_raymat(costs: dict[str, dict[str, float]], key: str) -> dict[str, float]:
    return {name: cost[key] / costs["raymat"][key] for name, cost in costs.items()}


# --- coordination of Li --------------------------------------------------------------------------


def coordination_by_pymatgen(structures: list) -> np.ndarray:
    from pymatgen.analysis.local_env import VoronoiNN

    search = VoronoiNN(tol=0, cutoff=CUTOFF, allow_pathological=True, weight="solid_angle")
    return np.array(
        [
            search.get_cn(structure, site, use_weights=True)
            for structure in structures
            for site in range(len(structure))
            if structure[site].specie.Z == LITHIUM
        ]
    )


def coordination_by_raymat(crystals: list) -> np.ndarray:
    return np.concatenate([lithium_site_coordination(crystal) for crystal in crystals])


def with_closed_cells(crystals: CrystalSet, n: int) -> tuple[list, int]:
    """Give up to `n` crystals with Li, and how many were passed over for their Voronoi cells."""
    closed, n_open = [], 0
    for row in np.flatnonzero(
        np.add.reduceat(crystals.atomic_numbers == LITHIUM, crystals.offsets[:-1])
    ):
        try:
            lithium_site_coordination(crystals[int(row)])
        except DataError:
            n_open += 1
            continue
        closed.append(crystals[int(row)])
        if len(closed) == n:
            break
    return closed, n_open


def compare_coordination(crystals: CrystalSet, n: int, repetitions: int) -> dict:
    closed, n_open = with_closed_cells(crystals, n)
    if not closed:
        raise SystemExit("no crystal holds Li; give other --data, or leave it out")
    structures = [crystal.to_structure() for crystal in closed]
    ours, theirs = coordination_by_raymat(closed), coordination_by_pymatgen(structures)
    difference = assert_same(ours, theirs, "coordination numbers")
    sides: dict[str, Callable[[], object]] = {
        "raymat": lambda: coordination_by_raymat(closed),
        "pymatgen": lambda: coordination_by_pymatgen(structures),
    }
    costs = median_costs(repetitions, sides)
    return {
        "n_crystals": len(closed),
        "n_sites": len(ours),
        "n_open_cells": n_open,
        "largest_difference": difference,
        "costs": costs,
        "ms_per_site": {name: 1e3 * cost["wall_s"] / len(ours) for name, cost in costs.items()},
        "ratio": costs["pymatgen"]["wall_s"] / costs["raymat"]["wall_s"],
        "ratio_cpu": costs["pymatgen"]["cpu_s"] / costs["raymat"]["cpu_s"],
    }


# --- telling -------------------------------------------------------------------------------------


def report(results: dict) -> None:
    print(f"{results['source']}; " + ", ".join(f"{k} {v}" for k, v in results["machine"].items()))
    report_predicting(results["predicting"])
    report_coordination(results["coordination"])
    if results["training"]:
        report_training(results["training"])


def report_predicting(found: dict) -> None:
    print(
        f"\npredicting: {found['n_members']} members, {found['n_crystals']} crystals,"
        f" {found['n_atoms']} atoms; wanted are {WANTED:,} member-atoms/s on two cores"
    )
    heads = f"{'member-atoms/s':>15}{'wall, s':>9}{'CPU, s':>8}{'ratio':>7}{'of CPU':>8}"
    print(f"{'':26}{heads}{'difference':>12}")
    for name, cost in found["costs"].items():
        difference = found["largest_difference"].get(name)
        print(
            f"{name:26}{found['member_atoms_per_s'][name]:15,.0f}{cost['wall_s']:9.2f}"
            f"{cost['cpu_s']:8.2f}{found['ratio'][name]:7.2f}{found['ratio_cpu'][name]:8.2f}"
            f"{'' if difference is None else format(difference, '.1e'):>12}"
        )


def report_coordination(found: dict) -> None:
    print(
        f"\ncoordination of Li: {found['n_sites']} sites in {found['n_crystals']} crystals"
        f" ({found['n_open_cells']} left out, open cells), largest difference"
        f" {found['largest_difference']:.1e}"
    )
    print(f"{'':26}{'ms/site':>15}{'wall, s':>9}{'CPU, s':>8}")
    for name, cost in found["costs"].items():
        each = found["ms_per_site"][name]
        print(f"{name:26}{each:15.3f}{cost['wall_s']:9.2f}{cost['cpu_s']:8.2f}")
    print(f"{'ratio':26}{found['ratio']:15.1f} ({found['ratio_cpu']:.1f} of CPU time)")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ensembles and the screening with them.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--target", default="log10_G_VRH", help="column to learn, with --data")
    parser.add_argument("--n", type=int, help="crystals (default: all of the file, or 1000 made)")
    parser.add_argument("--members", type=int, default=20, help="that predict")
    parser.add_argument("--n-lithium", type=int, default=100, help="crystals with Li")
    parser.add_argument("--trained", type=int, default=6, help="members to train; 0 for none")
    parser.add_argument("--n-training", type=int, default=1000, help="crystals to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--cores", type=int, default=2, help="members trained at a time")
    parser.add_argument("--repetitions", type=int, default=5, help="of all but training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    if args.trained and args.trained <= args.cores:
        parser.error(f"--trained {args.trained}: train more than --cores {args.cores}, or 0")
    return args


def main() -> None:
    args = read_arguments()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="pymatgen")
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")
    machine = machine_facts()
    target = args.target if args.data else MADE_TARGET
    work = Work(
        target=target,
        n_crystals=args.n_training,
        n_members=args.trained,
        epochs=args.epochs,
        cores=args.cores,
        seed=args.seed,
    )
    crystals = read_data(args.data, target, args.n, args.seed)
    results = {
        "source": args.data.name if args.data else f"made crystals, seed {args.seed}",
        "machine": machine,
        "repetitions": args.repetitions,
        "predicting": compare_predicting(crystals, args.members, args.repetitions, args.seed),
        "coordination": compare_coordination(crystals, args.n_lithium, args.repetitions),
        "training": compare_training(crystals, work) if work.n_members else None,
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
