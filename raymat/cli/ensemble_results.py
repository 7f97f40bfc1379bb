"""The result of an ensemble on the terminal: scores, what joining brought, calibration, files."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from raymat.cli.results import (
    console_for_results,
    number,
    print_leakage,
    print_verdict,
    read_metrics,
    score_table,
)
from raymat.ensembles import SHARED_ERRORS
from raymat.errors import RaymatError, one_line

Metrics = dict[str, Any]
_FILES = ("metrics.json", "calibration.json", "members.parquet", "predictions.parquet")
_METHODS = {
    "before": "as the members spread",
    "std_scaling": "std scaling (std)",
    "isotonic": "isotonic",
    "split_conformal": "split conformal (lower_90, upper_90)",
}
_COLUMNS = {
    "nll": "NLL",
    "miscalibration_area": "miscalibration area",
    "coverage_50": "in 50 %",
    "coverage_90": "in 90 %",
    "coverage_95": "in 95 %",
    "sharpness": "sharpness",
}


def draw_ensemble(run: Path) -> None:
    """Draw an ensemble's figures into its run; a failure is only a warning."""
    from raymat.reports.ensemble_figures import save_ensemble_figures

    try:
        save_ensemble_figures(run)
    except (RaymatError, OSError) as error:
        problem = one_line(error)
        sys.stderr.write(f"warning: no pictures of the ensemble ({problem})\n")


def show_ensemble_result(metrics: Metrics, run: Path) -> None:
    """Print what an ensemble reached."""
    console = console_for_results()
    members = metrics["members"]
    console.print(score_table(metrics, {f"ensemble of {members['trained']}": metrics["test"]}))
    print_verdict(console, metrics, model="The ensemble")
    console.print(say_gain(metrics))
    for line in say_failures(members):
        console.print(line)
    print_leakage(console, metrics)
    calibration = read_metrics(run, "calibration.json")
    _print_calibration(console, calibration)
    console.print(SHARED_ERRORS)
    quoted = shlex.quote(str(run))
    found = ", ".join(name for name in _FILES if (run / name).exists())
    console.print(f"\nfiles:            {run}/ ({found}, members/)")
    console.print(f"predict with it:  raymat predict --model {quoted} CRYSTALS", soft_wrap=True)


def say_gain(metrics: Metrics) -> str:
    """Say what the mean over members brought against one of them."""
    members, test = metrics["members"], metrics["test"]
    if metrics["task"] == "classification":
        one = members["test_auc_mean"]
        if one is None or test["auc"] is None:
            return "AUC not estimated: the test rows are of one class"
        return f"AUC of one member on average {one:.4g}, of their mean {test['auc']:.4g}"
    one = members["test_mae_mean"]
    gain = 100.0 * (1.0 - test["mae"] / one)
    unit = f" {metrics['unit']}" if metrics["unit"] else ""
    std = members["test_mae_std"]
    spread = "" if std is None else f" (std {std:.2g})"
    return (
        f"MAE of one member on average {one:.4g}{unit}{spread}; that of"
        f" their mean is {gain:.1f} % lower"
    )


def say_failures(members: Metrics) -> list[str]:
    """Give lines on members that failed."""
    lines, n_failed = [], len(members["failed"])
    n_saved = members["retried"] - n_failed
    if n_saved:
        who = "1 member" if n_saved == 1 else f"{n_saved} members"
        was = "was" if n_saved == 1 else "were"
        lines.append(f"{who} failed once and {was} trained again")
    if n_failed:
        listed = ", ".join(str(member) for member in members["failed"])
        lines.append(
            f"{n_failed} of {members['planned']} members failed twice and"
            f" {'is' if n_failed == 1 else 'are'} left out: {listed} (see error in members.parquet)"
        )
    return lines


def _print_calibration(console: Console, calibration: Metrics) -> None:
    if "methods" not in calibration:
        before = calibration["before"]
        console.print(
            f"calibration of the probabilities: NLL {before['nll']:.4g}, Brier"
            f" {before['brier']:.4g}, expected calibration error {before['ece']:.4g}"
        )
        return
    unit = f" ({calibration['unit']})" if calibration["unit"] else ""
    n_fit, n_test = calibration["fitted_on"]["n"], calibration["scored_on"]["n"]
    how = f"recalibrated on {n_fit:,} validation rows"
    if not calibration["methods"]:
        how = f"not recalibrated: too few validation rows ({n_fit:,})"
    table = Table(
        title=f"Spread: {how}; scored on {n_test:,} test rows",
        title_justify="left",
        title_style="bold",
        caption=say_remarks(calibration),
        caption_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("")
    for key, name in _COLUMNS.items():
        table.add_column(name + (unit if key == "sharpness" else ""), justify="right")
    scores = {kind: found["scores"] for kind, found in calibration["methods"].items()}
    for kind, found in {"before": calibration["before"], **scores}.items():
        cells = [_cell(found[key]) for key in _COLUMNS]
        table.add_row(_METHODS.get(kind, kind), *cells)
    console.print(table)
    spearman = calibration["before"]["spearman"]
    if spearman is not None:
        console.print(f"rank correlation of error and spread: {spearman:.3f}")


def say_remarks(calibration: Metrics) -> str | None:
    """Give what else validation rows decided, and which rows have no part in the scores."""
    from raymat.training.metrics import FEW_ROWS

    parts = (("fitted_on", "validation"), ("scored_on", "test"))
    counts = [(calibration[key].get("without_spread", 0), part) for key, part in parts]
    lines = [f"{n:,} {part} rows without spread are left out" for n, part in counts if n]
    n_scored = calibration["scored_on"]["n"]
    if n_scored < FEW_ROWS:
        lines.append(f"scores of few rows, which say little of others: {n_scored:,} test rows")
    remark = calibration.get("remark")
    return "\n".join([*([remark] if remark else []), *lines]) or None


def _cell(value: float | None) -> str:
    return "-" if value is None else number(value)
