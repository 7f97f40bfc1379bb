"""An ensemble run's files, from members that err by known amounts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymat.ensembles.calibration import score_probabilities
from raymat.ensembles.curves import member_curves
from raymat.ensembles.predictions import MemberPredictions
from raymat.ensembles.recalibration import StdScaling, fit_recalibrations, score_recalibrations

N_ROWS = 400  # of each part


def write_ensemble_run(
    folder: Path, *, task: str = "regression", n_members: int = 30, seed: int = 0
) -> dict[str, Any]:
    """Write the files and give `calibration.json`."""
    rng = np.random.default_rng(seed)
    targets, members = (_numbers if task == "regression" else _classes)(rng, n_members)
    parts = np.repeat(["validation", "test"], N_ROWS)
    predictions = MemberPredictions.equal(members)
    test, validation = parts == "test", parts == "validation"
    of_test = predictions.take(test)
    calibration = {
        "target": "log10_G_VRH", "unit": "log10(GPa)", "split": "random", "n_members": n_members,
        "fitted_on": {"part": "validation", "n": N_ROWS},
        "scored_on": {"part": "test", "n": N_ROWS},
    }  # fmt: skip
    if task == "regression":
        fit = predictions.take(validation)
        fitted = fit_recalibrations(targets[validation], fit.mean, fit.total)
        scores = score_recalibrations(fitted, targets[test], of_test.mean, of_test.total)
        calibration |= {"before": scores["before"], "after": scores[StdScaling.kind]}
        methods = {
            kind: {"scores": scores[kind], "fitted": f.to_dict()} for kind, f in fitted.items()
        }
        calibration["methods"] = methods
    else:
        calibration["before"] = score_probabilities(targets[test], of_test.mean)
    single = [float(np.abs(targets[test] - m[test]).mean()) for m in members]
    metrics = {
        "target": "log10_G_VRH", "unit": "log10(GPa)", "task": task,
        "members": {"planned": n_members, "trained": n_members, "test_mae_mean": np.mean(single)},
        "test": {"mae": float(np.abs(targets[test] - of_test.mean).mean()), "r2": 0.9},
    }  # fmt: skip
    for name, content in (
        ("run.json", {"command": "ensemble"}),
        ("calibration.json", calibration),
        ("metrics.json", metrics),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    curve = member_curves(of_test, targets[test], task=task)  # type: ignore[arg-type]
    curve.to_csv(folder / "member_curve.csv", index=False)
    pd.DataFrame(
        {
            "material_id": [f"x-{k}" for k in range(len(parts))],
            "part": parts,
            "target": targets,
            "mean": predictions.mean,
            "std": predictions.total,
            "epistemic": predictions.epistemic,
            "aleatoric": predictions.aleatoric,
            "members": list(predictions.values.T),
        }
    ).to_parquet(folder / "predictions.parquet", index=False)
    return calibration


def _numbers(rng: np.random.Generator, n_members: int) -> tuple[Any, Any]:
    """Errors twice as large as the spread says, and larger where the spread is."""
    targets = rng.normal(1.5, 0.4, 2 * N_ROWS)
    spread = np.exp(rng.normal(-3.0, 0.5, 2 * N_ROWS))
    centers = targets + 2.0 * spread * rng.standard_t(5, 2 * N_ROWS)
    return targets, centers + spread * rng.normal(size=(n_members, 2 * N_ROWS))


def _classes(rng: np.random.Generator, n_members: int) -> tuple[Any, Any]:
    logits = rng.normal(0.0, 2.0, 2 * N_ROWS)
    targets = (rng.random(2 * N_ROWS) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    noisy = 1.6 * logits + rng.normal(0.0, 0.8, (n_members, 2 * N_ROWS))
    return targets, 1 / (1 + np.exp(-noisy))
