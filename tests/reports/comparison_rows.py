"""Rows and errors of comparisons as tests make them up."""

from typing import Any

import numpy as np
import pandas as pd

from raymat.reports.comparison_pairs import Kind

KINDS: dict[str, Kind] = {"cgcnn": "graph", "megnet": "graph", "soap_svr": "descriptor"}
ONE_ROW: dict[str, Any] = {
    "property": "log10_K_VRH", "unit": "log10(GPa)", "task": "regression", "repetition": 0,
    "n_train": 800, "n_test": 100, "model": "cgcnn", "setting": "default", "mae": 0.1,
    "rmse": 0.2, "r2": 0.8, "train_time_s": 12.0, "featurize_time_s": 3.0, "n_parameters": 80833,
    "model_bytes": 326_000, "device": "cpu", "first_mae": None, "n_trials": 4,
    "n_trials_complete": 4,
}  # fmt: skip


def table(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{**ONE_ROW, **change} for change in changes])


def errors_of(rows: pd.DataFrame, values: dict[tuple[str, str], Any]) -> pd.DataFrame:
    """Give `values` of (model, setting), one per crystal, as the errors of every repetition."""
    parts = []
    for row in rows.to_dict("records"):
        errors = np.asarray(values[(row["model"], row["setting"])], dtype=float)
        facts = {key: row[key] for key in ("property", "repetition", "model", "setting", "n_train")}
        ids = [f"mp-{k}" for k in range(len(errors))]
        parts.append(pd.DataFrame({"material_id": ids, "absolute_error": errors, **facts}))
    return pd.concat(parts, ignore_index=True)
