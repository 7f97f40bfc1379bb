"""SOAP-SVR at the thesis' setting: time, size and error of a fit, and how good its forecast is.

    python benchmarks/svr_fit.py --data crystals.parquet --target log10_G_VRH --target log10_K_VRH

Random 80/10/10 splits, the training rows fitted, the test rows scored; one thread. Targets are
unscaled, as in the thesis (`training.target_scaling: none`; the default is `standard`). The
forecast is measured on 500, 1,000 and 2,000 of the training rows. Timed: the fit, predicting all
test rows, the forecast. Not timed: the descriptors, whose time is given beside. Predictions must be
scikit-learn's own.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from graph_building import make_crystals
from results_file import machine_facts, write_results
from scipy.sparse import csr_matrix
from sklearn.svm import SVR

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig, make_split
from raymat.features.descriptor_table import DescriptorBatch, DescriptorTable
from raymat.models._svr_forecast import forecast_fit_s
from raymat.models.soap_svr import SOAPSVR, SPEC, SOAPSVRConfig

ALLOWED_FIT_S = 15.0
SAME = 1e-9  # relative, of predictions in float64


def read_data(path: Path | None, target: str, n: int | None) -> tuple[CrystalSet, np.ndarray]:
    """Give crystals and targets of a file, or of made crystals: their mean atomic number."""
    if path is None:
        crystals = make_crystals(n or 2048, 0)
        sums = np.add.reduceat(crystals.atomic_numbers.astype(np.float64), crystals.offsets[:-1])
        return crystals, sums / crystals.n_sites / 40.0
    crystals = load_crystals(str(path), target=target).crystals
    if n is not None and n < len(crystals):
        crystals = crystals.take(np.sort(np.random.default_rng(0).permutation(len(crystals))[:n]))
    return crystals, crystals.target(target)


def to_matrix(batch: DescriptorBatch) -> csr_matrix:
    parts = (batch.values.numpy(), batch.columns.int().numpy(), batch.offsets.int().numpy())
    return csr_matrix(parts, shape=(batch.n_crystals, batch.n_features))


def fit_once(table: DescriptorTable, crystals: CrystalSet, targets: np.ndarray, seed: int) -> dict:
    """Forecast, fit and score one split."""
    split = make_split(crystals, SplitConfig(seed=seed))
    config = SOAPSVRConfig(**SPEC.from_data(crystals))
    train, test = (table.batch(split.rows(part)) for part in ("train", "test"))
    learned = torch.from_numpy(targets[split.rows("train")])
    forecast_s = forecast_fit_s(SOAPSVR, config, train, learned)
    model = SOAPSVR(config, "regression").eval()
    start = time.perf_counter()
    model.solve(train, learned, seed=seed)
    fit_s = time.perf_counter() - start
    with torch.inference_mode():
        predicted = model(test)[:, 0].numpy()
    predict_s = time.perf_counter() - start - fit_s
    wanted = targets[split.rows("test")]
    return {
        "seed": seed,
        "n_train": train.n_crystals,
        "n_test": test.n_crystals,
        "forecast_s": forecast_s,
        "fit_s": fit_s,
        "predict_s": predict_s,
        "test_mae": float(np.abs(predicted - wanted).mean()),
        "mae_of_the_mean": float(np.abs(learned.mean().item() - wanted).mean()),
        "n_support": len(model.coefficients),
        "n_parameters": model.n_parameters,
        "state_bytes": sum(b.numel() * b.element_size() for b in model.buffers()),
    }


def compare_with_sklearn(table: DescriptorTable, targets: np.ndarray, n: int = 2000) -> float:
    """Give the largest relative difference of predictions from scikit-learn's, on `n` rows."""
    rows = np.random.default_rng(0).permutation(len(table))[:n]
    half = len(rows) // 2
    train, test, learned = table.batch(rows[:half]), table.batch(rows[half:]), targets[rows[:half]]
    model = SOAPSVR(SOAPSVRConfig(species=table.config.species), "regression")
    model.solve(train, torch.from_numpy(learned), seed=0)
    theirs = SVR().fit(to_matrix(train), learned).predict(to_matrix(test))
    worst = float(np.abs(model(test)[:, 0].numpy() / theirs - 1.0).max())
    if worst > SAME:
        raise SystemExit(f"predictions differ from scikit-learn's by {worst:g}, relative")
    return worst


def measure(path: Path | None, target: str, *, n: int | None, splits: int) -> dict:
    crystals, targets = read_data(path, target, n)
    start = time.perf_counter()
    table = SOAPSVRConfig(**SPEC.from_data(crystals)).soap.build(crystals)
    build_s = time.perf_counter() - start
    difference = compare_with_sklearn(table, targets)
    runs = [fit_once(table, crystals, targets, seed) for seed in range(splits)]
    return {
        "target": target if path else "mean atomic number / 40",
        "n_crystals": len(crystals),
        "n_features": table.n_features,
        "descriptors_s": build_s,
        "descriptors_mb": table.nbytes / 1e6,
        "difference_from_sklearn": difference,
        "target_std": float(targets.std()),
        "runs": runs,
        "test_mae_mean": float(np.mean([run["test_mae"] for run in runs])),
        "fit_s_median": median(run["fit_s"] for run in runs),
    }


def report(results: dict) -> None:
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    for found in results["targets"]:
        print(
            f"\n{found['target']}: {found['n_crystals']} crystals, {found['n_features']} features,"
            f" std {found['target_std']:.4f}; descriptors {found['descriptors_s']:.1f} s,"
            f" {found['descriptors_mb']:.2f} MB; largest relative difference from scikit-learn"
            f" {found['difference_from_sklearn']:.1e}"
        )
        print(
            f"{'seed':>4}{'test MAE':>10}{'support':>9}{'fit, s':>8}{'forecast':>10}{'predict':>9}"
        )
        for run in found["runs"]:
            print(
                f"{run['seed']:4}{run['test_mae']:10.4f}{run['n_support']:9}{run['fit_s']:8.2f}"
                f"{run['forecast_s']:10.2f}{run['predict_s']:9.2f}"
            )
        slow = " (too slow)" if found["fit_s_median"] > ALLOWED_FIT_S else ""
        print(
            f"mean MAE {found['test_mae_mean']:.4f}, median fit {found['fit_s_median']:.2f} s{slow}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit SOAP-SVR at the thesis' setting.")
    parser.add_argument("--data", type=Path, help="Parquet file; without it crystals are made")
    parser.add_argument("--target", action="append", help="column to learn; may be given again")
    parser.add_argument("--n", type=int, help="crystals (default: all of the file, or 2048 made)")
    parser.add_argument("--splits", type=int, default=5, help="random splits")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    machine = machine_facts()
    wanted = (args.target or ["log10_G_VRH"]) if args.data else ["made"]
    results = {
        "source": args.data.name if args.data else "made crystals, seed 0",
        "machine": machine,
        "targets": [measure(args.data, t, n=args.n, splits=args.splits) for t in wanted],
    }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
