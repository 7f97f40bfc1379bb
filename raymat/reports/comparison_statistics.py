"""What the rows of a comparison say: means over repetitions, slopes of learning curves.

Everywhere a column `training_size`, where the rows have it, tells which rows of different
repetitions belong together (such as ``all``, when splits differ in size by a few rows); without
it `n_train` does.
"""

from typing import Any

import numpy as np
import pandas as pd

from raymat.errors import RunError

METRICS = (
    *("mae", "rmse", "r2", "auc", "accuracy", "accuracy_0", "accuracy_1", "val_score"),
    *("first_mae", "train_time_s", "featurize_time_s", "search_time_s", "n_parameters"),
    *("model_bytes", "n_trials", "n_trials_complete"),
)
_CELL = ["property", "training_size", "model", "setting"]
LEVEL = 0.95  # of every interval


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Give mean and sample standard deviation (n - 1) over the repetitions.

    Args:
        rows: one row per property, repetition, training size, model and setting.

    Returns:
        One row per property, training size, model and setting: `unit`, `task`, `n_repetitions`,
        `n_train` and `n_test` (mean, rounded), `device` (all that were met), and ``<metric>_mean``
        and ``<metric>_std`` of every metric that there is. The deviation of one repetition is nan.

    Raises:
        RunError: a cell stands there twice.
    """
    rows = checked_rows(rows)
    groups = rows.groupby(_CELL, sort=False)
    facts = groups.agg(
        unit=("unit", "first"),
        task=("task", "first"),
        n_repetitions=("repetition", "nunique"),
        n_train=("n_train", _rounded_mean),
        n_test=("n_test", _rounded_mean),
        device=("device", lambda found: ", ".join(sorted(set(found)))),
    )
    metrics = [name for name in METRICS if name in rows]
    mean = groups[metrics].mean().add_suffix("_mean")
    std = groups[metrics].std(ddof=1).add_suffix("_std")
    return pd.concat([facts, mean, std], axis=1).reset_index()


def checked_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the rows with every column that may be left out, and metrics as numbers.

    Raises:
        RunError: a cell stands there twice.
    """
    rows = with_size(rows)
    rows["unit"] = rows["unit"].astype(object).where(rows["unit"].notna(), "")  # nan in a CSV file
    rows["task"] = rows.get("task", "regression")
    for name in METRICS:
        if name in rows:
            rows[name] = pd.to_numeric(rows[name]).astype(np.float64)
    repeated = rows[rows.duplicated([*_CELL, "repetition"])]
    if len(repeated):
        cell = repeated.iloc[0]
        raise RunError(
            f"{cell['property']}, repetition {cell['repetition']}, {cell['model']},"
            f" {cell['setting']}, {cell['n_train']} training rows: stands in the results twice;"
            " remove one"
        )
    return rows


def learning_curve_fit(rows: pd.DataFrame) -> pd.DataFrame:
    """Fit log10(mean test MAE) = intercept + slope log10(n_train) by least squares.

    Args:
        rows: as for `summarise`; rows with classes are left out.

    Returns:
        One row per property, model and setting: `unit, n_sizes, smallest, largest` (training
        rows), `slope, slope_se, slope_low, slope_high` (95 %, Student's t with n_sizes - 2 degrees
        of freedom), `intercept`; nan below three sizes. The interval takes the sizes for
        independent, but they are nested subsets scored on the same test rows, and it says
        nothing of larger sets.
    """
    summary = summarise(rows)
    summary = summary[summary["task"] == "regression"]
    curve = ["property", "model", "setting"]
    found = [
        {**dict(zip(curve, names, strict=True)), **_fit_power_law(part)}
        for names, part in summary.groupby(curve, sort=False)
    ]
    return pd.DataFrame(found, columns=[*curve, *_FIT_COLUMNS])


_FIT_COLUMNS = (
    *("unit", "n_sizes", "smallest", "largest", "slope", "slope_se", "slope_low", "slope_high"),
    "intercept",
)


def with_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Give a copy that has `training_size`; an empty one means all rows."""
    if "training_size" not in rows:
        return rows.assign(training_size=rows["n_train"])
    found = rows["training_size"].astype(object)
    return rows.assign(training_size=found.where(found.notna(), "all"))


def largest_size(summary: pd.DataFrame) -> Any:
    """Give the training size of one property that has the most rows."""
    return summary["training_size"].iloc[int(summary["n_train"].to_numpy().argmax())]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Give every row as a mapping from column to value."""
    return [{str(k): value for k, value in row.items()} for row in table.to_dict("records")]


def _rounded_mean(values: "pd.Series[float]") -> int:
    return round(float(values.mean()))


def _fit_power_law(part: pd.DataFrame) -> dict[str, Any]:
    from scipy.stats import linregress, t

    known = part[part["mae_mean"] > 0]
    sizes = known["n_train"].to_numpy(dtype=np.float64)
    facts = {
        "unit": part.iloc[0]["unit"],
        "n_sizes": len(np.unique(sizes)),
        "smallest": int(part["n_train"].min()),
        "largest": int(part["n_train"].max()),
    }
    if facts["n_sizes"] < 3:
        return facts
    fit = linregress(np.log10(sizes), np.log10(known["mae_mean"].to_numpy(dtype=np.float64)))
    half = float(t.ppf((1 + LEVEL) / 2, len(sizes) - 2)) * fit.stderr
    return facts | {
        "slope": float(fit.slope),
        "slope_se": float(fit.stderr),
        "slope_low": float(fit.slope - half),
        "slope_high": float(fit.slope + half),
        "intercept": float(fit.intercept),
    }
