"""A search's run directory of any size, written from its event log without training anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymat.tracking.run_directory import RunDirectory
from raymat.tuning.run_files import write_study_tables
from raymat.tuning.study import Study

TARGET, UNIT = "log10_K_VRH", "log10(GPa)"
OPTIMIZERS = ("adam", "sgd")


def write_search_run(
    path: Path,
    *,
    trials: int = 12,
    epochs: int = 8,
    n_test: int = 60,
    is_complete: bool = True,
    formula: str = "NaCl",
    error: str = "training diverged in epoch 1: loss nan",
) -> Path:
    """Write a run whose trial 1 failed and whose later trials were stopped after half their epochs.

    The run of a search that is not complete ends in the middle, without tables.
    """
    rng = np.random.default_rng(0)
    header = {"command": "tune", "arguments": {"space": {}}, "seed": 0}
    with RunDirectory.create(path, header) as run:
        data = {"name": formula, "sha256": "0" * 64, "n_used": 5 * n_test, "n_rejected": 1}
        split = {
            "kind": "random",
            "rows": {"train": 3 * n_test, "validation": n_test, "test": n_test},
        }
        run.update_header(target=TARGET, unit=UNIT, task="regression", data=data, split=split)
        run.emit("data", leakage_line="leakage: 0 of the test rows", target=TARGET, unit=UNIT)
        run.emit("search_started", trials=trials)
        for number in range(trials):
            _log_trial(run, number, epochs, rng, error)
        (path / "rejected.csv").write_text(f'material_id,reason\n"{formula}-x",no cell\n')
        if is_complete:
            _finish(run, rng, n_test, formula)
    return path


def _log_trial(
    run: RunDirectory, number: int, epochs: int, rng: np.random.Generator, error: str
) -> None:
    values = {
        "training.lr": float(10 ** rng.uniform(-4, -2)),
        "model.n_conv": int(rng.integers(1, 5)),
        "training.optimizer": OPTIMIZERS[number % 2],
    }
    config = {**values, "training.epochs": epochs, "training.batch_size": 64}
    run.emit("trial_started", trial=number, seed=number, values=values, config=config)
    failed = number == 1
    n = 0 if failed else epochs if number % 3 == 0 else epochs // 2
    level = 0.1 + 0.05 * abs(np.log10(values["training.lr"]) + 3) + 0.02 * rng.random()
    facts = {"n_parameters": 1000 * values["model.n_conv"], "host": f"host-{number % 2}",
             "device": "cuda", "gpu_memory_gb": 2.0 + number / 100}  # fmt: skip
    for epoch in range(1, n + 1):
        score = float(level + 0.3 / epoch + 0.01 * rng.random())
        run.emit("epoch", trial=number, epoch=epoch, train_loss=score, val_score=score, time_s=0.5,
                 train_time_s=0.4, facts=facts)  # fmt: skip
    status = "failed" if failed else "complete" if n == epochs else "stopped"
    run.emit("trial_ended", trial=number, status=status, error=error if failed else None)


def _finish(run: RunDirectory, rng: np.random.Generator, n_test: int, formula: str) -> None:
    write_study_tables(Study.from_events(run.events(), "regression"), run)
    target = rng.normal(1.8, 0.3, 2 * n_test)
    predictions = pd.DataFrame(
        {
            "material_id": [f"{formula}-{n}" for n in range(2 * n_test)],
            "part": ["validation"] * n_test + ["test"] * n_test,
            "target": target,
            "prediction": target + rng.normal(0.0, 0.1, 2 * n_test),
        }
    )
    predictions.to_parquet(run.path / "predictions.parquet", index=False)
    places = rng.normal(size=(2, 2 * n_test)).astype(np.float32)
    latents = predictions[["material_id", "part"]].assign(x=places[0], y=places[1])
    latents.to_parquet(run.path / "latent_map.parquet", index=False)
    run.write_json("metrics.json", _metrics(predictions))
    run.emit("search_ended")


def _metrics(predictions: pd.DataFrame) -> dict[str, Any]:
    test = predictions[predictions["part"] == "test"]
    mae = float((test["prediction"] - test["target"]).abs().mean())

    def scored(factor: float) -> dict[str, Any]:
        ends = [factor * mae * 0.9, factor * mae * 1.1]
        return {"mae": factor * mae, "rmse": factor * mae * 1.3, "r2": 0.8, "n": len(test),
                "mae_ci95": ends}  # fmt: skip

    return {
        "target": TARGET, "unit": UNIT, "task": "regression", "test": scored(1.0),
        "default": {"trial": 0, **scored(1.5)},
        "difference": {"mae": -0.5 * mae, "mae_ci95": [-0.6 * mae, -0.4 * mae]},
        "baselines": {"mean": scored(3.0), "composition": scored(1.8)},
    }  # fmt: skip


def cut(path: Path, share: float = 0.5) -> None:
    """Cut a file off, as a full disk or a lost host would."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def read_rows(page: str) -> dict[str, Any]:
    """Give id -> content of the numbers in a page."""
    start = page.index('id="data">') + len('id="data">')
    return dict(json.loads(page[start : page.index("</script>", start)]))
