"""Comparisons as tests of their page write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymat.reports.comparison_pairs import paired_differences
from raymat.tracking.run_directory import RunDirectory

ONE_ROW: dict[str, Any] = {
    "model": "cgcnn", "property": "log10_K_VRH", "unit": "log10(GPa)", "setting": "default",
    "repetition": 0, "n_train": 800, "n_test": 100, "mae": 0.1, "rmse": 0.2, "r2": 0.8,
    "train_time_s": 12.0, "featurize_time_s": 3.0, "n_parameters": 80833, "model_bytes": 326_000,
    "device": "cpu", "task": "regression",
}  # fmt: skip
MAES = {("cgcnn", "default"): 0.1, ("soap_svr", "default"): 0.3, ("cgcnn", "tuned"): 0.08}


def table(*changes: dict[str, Any]) -> pd.DataFrame:
    """Give a row for each change to a usual one."""
    return pd.DataFrame([{**ONE_ROW, **change} for change in changes])


ROWS = table(
    *(
        {"model": model, "setting": setting, "repetition": r, "mae": mae + 0.01 * r}
        for (model, setting), mae in MAES.items()
        for r in (0, 1)
    )
)


def differences() -> pd.DataFrame:
    """Give `differences.csv` of `ROWS`: every test row of a model has the same error."""
    kept = ["property", "repetition", "model", "setting", "n_train"]
    errors = pd.concat(
        [
            pd.DataFrame({name: [row[name]] * 50 for name in kept}).assign(
                material_id=[f"mp-{k}" for k in range(50)],
                absolute_error=np.full(50, MAES[row["model"], row["setting"]]),
            )
            for row in ROWS.to_dict("records")
        ]
    )
    kinds: dict[str, Any] = {"cgcnn": "graph", "soap_svr": "descriptor"}
    return paired_differences(ROWS, errors, kinds=kinds)


def write_run(
    folder: Path,
    rows: pd.DataFrame = ROWS,
    *,
    cells: int | None = None,
    failed: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a comparison: its log, in which failures come first, and its table."""
    with RunDirectory.create(folder, {"command": "compare", "arguments": {}}) as run:
        run.emit("comparison_started", cells=cells or len(rows), done=0)
        for cell, error in failed:
            run.emit("cell_failed", cell=cell, error=error)
        for number, row in enumerate(json.loads(rows.to_json(orient="records"))):
            run.emit("cell_ended", cell=f"cell-{number}", row=row)
    rows.to_csv(folder / "comparison.csv", index=False)
    return folder
