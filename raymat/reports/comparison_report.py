"""The report of a comparison, finished or not: tables and figures from its run directory alone."""

from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.writers import atomic_file
from raymat.errors import RunError
from raymat.reports.comparison_figures import save_bar_figure, save_learning_curves
from raymat.reports.comparison_log import read_data_facts
from raymat.reports.comparison_notes import plan_facts
from raymat.reports.comparison_pairs import BASELINE, BASELINES, kinds_of, paired_differences
from raymat.reports.comparison_statistics import learning_curve_fit
from raymat.reports.comparison_tables import markdown_report
from raymat.tuning.comparison_cells import ComparisonPlan, slug

REPORT = "comparison.md"
_BASELINES = "baselines-*.parquet"  # in the folder of a cell
_ENDINGS = (".png", ".svg")
_CELL = ("property", "repetition", "model", "setting", "n_train", "training_size")


def write_report(plan: ComparisonPlan, rows: pd.DataFrame, run: Path, *, command: str) -> list[str]:
    """Write `comparison.md`, `differences.csv`, `slopes.csv` and the figures; give their names.

    Of an unfinished comparison they hold what there is, and `comparison.md` says how many cells
    are missing; without any row there is nothing but `comparison.md`.

    Args:
        plan: of the comparison.
        rows: the content of `comparison.csv`, or as much of it as there is.
        run: its run directory.
        command: that makes the comparison again.

    Raises:
        RunError: a cell's predictions are missing, or a row is of no cell of the plan.
        DataError: a file cannot be written.
    """
    missing = missing_cells(plan, rows)
    facts = plan_facts(plan, data=read_data_facts(plan, run), command=command, missing=missing)
    if rows.empty:
        _write(run / REPORT, _text(plan, markdown_report(rows, rows, rows, facts)))
        return [REPORT]
    errors = read_errors(rows, run, plan)
    differences = paired_differences(rows, errors, kinds=kinds_of(plan))
    slopes = learning_curve_fit(rows)
    _write(run / REPORT, _text(plan, markdown_report(rows, differences, slopes, facts)))
    _write(run / "differences.csv", differences.to_csv(index=False))
    _write(run / "slopes.csv", slopes.to_csv(index=False))
    return [REPORT, "differences.csv", "slopes.csv", *_draw(rows, slopes, run)]


def missing_cells(plan: ComparisonPlan, rows: pd.DataFrame) -> tuple[str, ...]:
    """Give the names of the cells that have no row, in the order of the plan."""
    found = {_key(row) for row in rows.to_dict("records")}
    return tuple(name for key, name in _names(plan).items() if key not in found)


def read_errors(rows: pd.DataFrame, run: Path, plan: ComparisonPlan) -> pd.DataFrame:
    """Give the absolute error of every test row of every cell, as `paired_differences` wants it.

    Those of the baselines stand there as models of the setting `BASELINE`.

    Raises:
        RunError: a cell's predictions are missing, or a row is of no cell of the plan.
    """
    names = _names(plan)
    parts: list[pd.DataFrame] = []
    done = set[tuple[Any, ...]]()  # groups of cells whose baselines are read
    for row in rows.to_dict("records"):
        if _key(row) not in names:
            raise RunError(
                f"{run}: the row {_key(row)} belongs to no cell of {plan.path}; remove it"
            )
        cell = run / "cells" / names[_key(row)]
        parts.append(_errors_of(row, cell))
        group = (row["property"], row["repetition"], row["training_size"])
        if group not in done:
            parts += _errors_of_baselines(row, cell)
            done |= {group} if list(cell.glob(_BASELINES)) else set()
    return pd.concat(parts, ignore_index=True)


def _names(plan: ComparisonPlan) -> dict[tuple[Any, ...], str]:
    return {_key(vars(cell) | {"training_size": cell.n_train}): cell.name for cell in plan.cells()}


def _key(cell: Any) -> tuple[Any, ...]:
    size = cell["training_size"]
    size = "all" if size is None else str(size)
    return cell["property"], int(cell["repetition"]), size, cell["model"], cell["setting"]


def _errors_of(row: Any, cell: Path) -> pd.DataFrame:
    path = cell / "predictions.parquet"
    if not path.exists():
        raise RunError(f"{path}: missing, so its errors cannot be compared; run the cell again")
    table = pd.read_parquet(path)
    test = table[table["part"] == "test"]
    errors = pd.DataFrame(
        {
            "material_id": test["material_id"].to_numpy(),
            "absolute_error": (test["prediction"] - test["target"]).abs().to_numpy(),
        }
    )
    return errors.assign(**{name: row[name] for name in _CELL})


def _errors_of_baselines(row: Any, cell: Path) -> list[pd.DataFrame]:
    """Give the errors of both baselines; nothing in runs of earlier versions."""
    found = [pd.read_parquet(path) for path in cell.glob(_BASELINES)][:1]
    facts = {name: row[name] for name in _CELL} | {"setting": BASELINE}
    return [
        pd.DataFrame(
            {
                "material_id": table["material_id"],
                "absolute_error": (table[name] - table["target"]).abs(),
                **facts,
                "model": name,
            }
        )
        for table in found
        for name in BASELINES
    ]


def _draw(rows: pd.DataFrame, slopes: pd.DataFrame, run: Path) -> list[str]:
    written = []
    curved = set(slopes.loc[slopes["n_sizes"] > 1, "property"])
    for name in dict.fromkeys(rows["property"]):
        stem = f"comparison-{slug(name)}"
        for ending in _ENDINGS:
            save_bar_figure(rows, name, run / f"{stem}{ending}")
            written.append(f"{stem}{ending}")
            if name in curved:
                save_learning_curves(rows, name, run / f"{stem}-learning{ending}")
                written.append(f"{stem}-learning{ending}")
    return written


def _text(plan: ComparisonPlan, tables: str) -> str:
    return f"# Comparison {plan.path}\n\n{tables}"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: a reader never meets half a report."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
