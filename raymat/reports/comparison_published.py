"""Published numbers beside those of a comparison, each with its source and its data."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.errors import DataError
from raymat.reports.comparison_statistics import largest_size, records
from raymat.reports.number_text import spread
from raymat.tuning.comparison_cells import SETTINGS, ComparisonPlan, PropertyPlan

# Published names of what the Materials Project's tables call otherwise.
_SAME_PROPERTY = {
    "log10_bulk_modulus": "log10_K_VRH",
    "log10_shear_modulus": "log10_G_VRH",
    "fermi_energy": "efermi",
    "absolute_energy_per_atom": "energy_per_atom",
    "energy_above_hull": "e_above_hull",
}
# Scores of test rows, not of the validation rows that chose a model; class 1 of `is_metal` is the
# metal.
_SAME_METRIC = {
    "MAE": "mae",
    "MAE (low end)": "mae",
    "MAE (high end)": "mae",
    "test MAE": "mae",
    "RMSE": "rmse",
    "test RMSE": "rmse",
    "ROC AUC": "auc",
    "overall accuracy at 0.5": "accuracy",
    "semiconductor accuracy at 0.5": "accuracy_0",
    "non-metal accuracy": "accuracy_0",
    "metal accuracy at 0.5": "accuracy_1",
    "metal accuracy": "accuracy_1",
}
# Column of the published table, words in it, and why such a number stands apart from ours.
_APART = (
    ("model", "DFT vs experiment", "compares calculation with experiment; no model was tested"),
    ("dataset", "whole data set", "over the whole data set, not over test rows alone"),
    ("dataset", "later", "tested on crystals added to the database later, not on a random split"),
    ("source", "hard labels", "the list scores hard labels in most entries, ours probabilities"),
)
# A restriction in the name of a data set, such as "gap > 0", and the column that it means.
_RESTRICTION = re.compile(r"\b(\w+) > (\d+(?:\.\d+)?)")
_RESTRICTED_COLUMN = {"gap": "band_gap"}
_COLUMNS = (
    *("property", "unit", "metric", "published_model", "published", "published_n_train"),
    *("published_dataset", "source", "apart", "model", "n_train", "n_repetitions"),
    *(f"{setting}_{what}" for setting in SETTINGS for what in ("mean", "std")),
    "data_difference",
)
_METRIC_NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "auc": "ROC AUC",
    "accuracy": "accuracy",
    "accuracy_0": "accuracy of class 0",
    "accuracy_1": "accuracy of class 1",
}
_HOW_TO_READ = (
    "The published numbers come from default settings or from those that the authors chose, on"
    " other data, splits and test rows than ours: the column `the data` says which. A difference"
    " between a published number and ours is therefore no measure of a model."
)
_NO_SOAP = (
    "No published number stands beside a SOAP model: the four-model comparison with default"
    " settings in Abenza's thesis (its tables 4 and 6) is missing from our sources."
)


def published_beside(
    summary: pd.DataFrame, published: pd.DataFrame, plan: ComparisonPlan
) -> pd.DataFrame:
    """Set published scores beside ours, default and tuned, on different data and test rows.

    Ours is the model whose name the published model's begins with or holds (``CGCNN 2019``:
    cgcnn), at its largest training size. A published model that we do not have keeps its line,
    with nothing beside it; so does a number that was not measured on test rows of a model.

    Args:
        summary: as `summarise` gives it.
        published: columns ``model, dataset, property, unit, n_train, metric, value, source``.
        plan: of the comparison, for the rows that we learned from.

    Returns:
        One row per published score of a property and metric that we have: `property, unit,
        metric, published_model, published, published_n_train` (nan if not stated),
        `published_dataset, source, apart` (why it cannot be set beside ours; empty if it can),
        `model, n_train, n_repetitions, default_mean, default_std, tuned_mean, tuned_std,
        data_difference`.

    Raises:
        DataError: a published value has another unit than ours.
    """
    found = []
    for name, ours in summary.groupby("property", sort=False):
        prop = plan.property_plan(str(name))
        for _, line in published.iterrows():
            metric = _SAME_METRIC.get(line["metric"])
            names = (line["property"], _SAME_PROPERTY.get(line["property"]))
            if name not in names or metric is None or not _has(ours, metric):
                continue
            _check_unit(line, ours.iloc[0])
            found.append(_one_line(line, ours, metric, prop))
    return pd.DataFrame(found, columns=list(_COLUMNS))


def published_text(beside: pd.DataFrame) -> str:
    """Give what `published_beside` found in Markdown: what compares, what does not, what lacks."""
    is_apart = beside["apart"] != ""
    parts = ["# Published numbers beside ours", "", _HOW_TO_READ, ""]
    parts += _compared_table(records(beside[~is_apart]))
    if is_apart.any():
        parts += ["", "## Published, but not to be set beside ours", ""]
        parts += _apart_table(records(beside[is_apart]))
    if not beside["published_model"].astype(str).str.contains("soap", case=False).any():
        parts += ["", _NO_SOAP]
    return "\n".join(parts) + "\n"


def _compared_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    titles = ("property", "metric", "published", "by", "our default", "ours, tuned", "by")
    yield from _head(*titles, "the data", "source")
    for row in rows:
        scores = (spread(row[f"{name}_mean"], row[f"{name}_std"]) for name in SETTINGS)
        by = row["model"] if isinstance(row["model"], str) else "-"
        beside = (*scores, by, row["data_difference"], row["source"])
        yield _row(*_published_cells(row), *beside)


def _apart_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from _head("property", "metric", "published", "by", "why", "the data", "source")
    for row in rows:
        data = f"{row['published_dataset']}, {_rows(row['published_n_train'])}"
        yield _row(*_published_cells(row), row["apart"], data, row["source"])


def _published_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    unit = f" ({row['unit']})" if row["unit"] and row["metric"] in ("mae", "rmse") else ""
    metric = f"{_METRIC_NAMES[row['metric']]}{unit}"
    return row["property"], metric, f"{row['published']:g}", row["published_model"]


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield _row(*["---"] * len(titles))


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _has(ours: pd.DataFrame, metric: str) -> bool:
    return f"{metric}_mean" in ours and bool(ours[f"{metric}_mean"].notna().any())


def _check_unit(line: "pd.Series[Any]", ours: "pd.Series[Any]") -> None:
    published = "" if line["unit"] == "-" or pd.isna(line["unit"]) else line["unit"]
    if published != ours["unit"]:
        raise DataError(
            f"{ours['property']}: the published value of {line['model']} is in"
            f" '{published}', ours in '{ours['unit']}'; leave that line out"
        )


def _one_line(
    line: "pd.Series[Any]", ours: pd.DataFrame, metric: str, prop: PropertyPlan
) -> dict[str, Any]:
    theirs = f"theirs: {line['dataset']}, {_rows(line['n_train'])}"
    facts = {
        "property": prop.name,
        "unit": ours.iloc[0]["unit"],
        "metric": metric,
        "published_model": line["model"],
        "published": float(line["value"]),
        "published_n_train": line["n_train"],
        "published_dataset": line["dataset"],
        "source": line["source"],
        "apart": _why_apart(line),
        "data_difference": theirs,
    }
    own = None if facts["apart"] else _counterpart(str(line["model"]), ours)
    if own is None:
        return facts
    first = own.iloc[0]
    rows = f"{Path(prop.data).name}, {prop.describe_rows()}, {_rows(first['n_train'])}"
    scores = {
        f"{row['setting']}_{what}": row[f"{metric}_{what}"]
        for row in records(own)
        for what in ("mean", "std")
    }
    return facts | {
        "model": first["model"],
        "n_train": first["n_train"],
        "n_repetitions": own["n_repetitions"].max(),
        **scores,
        "data_difference": "; ".join([theirs, f"ours: {rows}", *_unlike(line["dataset"], prop)]),
    }


def _why_apart(line: "pd.Series[Any]") -> str:
    reasons = (why for column, words, why in _APART if words in str(line[column]))
    return next(reasons, "")


def _unlike(dataset: str, prop: PropertyPlan) -> Iterator[str]:
    """Say where theirs leaves out crystals that ours has."""
    for name, limit in _RESTRICTION.findall(dataset):
        column = _RESTRICTED_COLUMN.get(name, name)
        own = prop.where.get(column)
        if own is None or not own.lies_above(float(limit)):
            yield f"theirs has only crystals with {column} above {limit}, ours has others, too"


def _counterpart(published_model: str, ours: pd.DataFrame) -> pd.DataFrame | None:
    """Give the lines of our model, one per setting, at its most training rows."""
    words = published_model.lower().replace("-", "_").replace(" ", "_")
    names = [name for name in ours["model"].unique() if name in words]
    if not names:
        return None
    own = ours[ours["model"] == max(names, key=len)]
    at_largest: pd.DataFrame = own[own["training_size"] == largest_size(own)]
    return at_largest


def _rows(n: object) -> str:
    if pd.isna(n):  # type: ignore[call-overload]
        return "training rows not stated"
    return f"{int(float(str(n))):,} training rows"
