"""The result of a screening on the terminal: the best candidates, who was left out, files."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.table import Table

from raymat.cli.results import console_for_results
from raymat.ensembles import SHARED_ERRORS
from raymat.errors import RaymatError, one_line
from raymat.reports.screening_results import all_are_tied, say_ranking

Metrics = dict[str, Any]
_SHOWN_ROWS, _SHOWN_REASONS = 15, 6
_FILES = ("screening.parquet", "screening.csv", "excluded.csv", "rejected.csv", "metrics.json")
_N_OTHERS = 8  # columns of a criterion that are shown
_LEFT = ("material_id", "formula", "source")
# How columns of the lithium criterion are called where there is little room.
_SHORT = {
    "lambda_crit_nm": "λ crit (nm)",
    "p_s_low": "P_s, low k",
    "p_s_high": "P_s, high k",
    "chi_low": "χ, low k",
    "chi_high": "χ, high k",
    "bulk_gpa": "K (GPa)",
    "shear_gpa": "G (GPa)",
    "molar_volume_ratio": "v",
}
_LITHIUM = ("lambda_crit_nm", "p_s_high", "chi_high", "bulk_gpa", "shear_gpa")


def draw_screening(run: Path) -> None:
    """Draw a screening's figures into its run; a failure is only a warning."""
    from raymat.reports.screening_figures import save_screening_figures

    try:
        save_screening_figures(run)
    except (RaymatError, OSError) as error:
        problem = one_line(error)
        sys.stderr.write(f"warning: no pictures of the screening ({problem})\n")


def show_screening(metrics: Metrics, run: Path) -> None:
    """Print the best candidates of a screening."""
    from raymat.screening.criterion import parse_criterion
    from raymat.screening.ranking import first_listed
    from raymat.tracking.run_directory import read_header

    console = console_for_results()
    asked = read_header(run)["arguments"]
    criterion = parse_criterion(asked["criterion"], path=asked["criterion_path"])
    if all_are_tied(metrics) or not metrics["listed"]:
        console.print(f"\n{say_title(metrics)}\n", style="bold", markup=False)
    else:
        first = first_listed(run / "screening.parquet", criterion, _SHOWN_ROWS)
        console.print(candidate_table(first, say_title(metrics), n_listed=metrics["listed"]))
    if not metrics["listed"]:
        rule = criterion.content.get("list_if")
        console.print(f"No candidate is listed (list_if: {rule}); all ranked are in screening.csv.")
    for line in (*say_ranking(metrics), *say_counts(metrics)):
        console.print(line, markup=False)
    console.print(SHARED_ERRORS)
    found = ", ".join(name for name in _FILES if (run / name).exists())
    console.print(f"\nfiles:            {run}/ ({found})")


def say_title(metrics: Metrics) -> str:
    """Give the heading of the table."""
    counts = f"{metrics['listed']:,} listed of {metrics['ranked']:,} ranked candidates"
    return f"{metrics['criterion']}: {counts}, {metrics['n_members']} members"


def say_counts(metrics: Metrics) -> list[str]:
    """Give lines on who was left out, and whom no member speaks for."""
    lines = [f"{metrics['excluded']:,} of {metrics['candidates']:,} candidates excluded:"]
    reasons = list(metrics["reasons"].items())
    lines += [f"  {count:,}  {reason}" for reason, count in reasons[:_SHOWN_REASONS]]
    if len(reasons) > _SHOWN_REASONS:
        lines.append(f"  and {len(reasons) - _SHOWN_REASONS} other reasons in excluded.csv")
    if not metrics["excluded"]:
        lines = ["no candidate was excluded"]
    if metrics["rejected"]:
        lines.append(f"{metrics['rejected']:,} of them are no usable crystals (rejected.csv)")
    lines += _say_unknown(metrics)
    lines.append(
        f"{metrics['known']:,} ranked by known values, {metrics['outside_domain']:,} outside the"
        " domain of the training crystals (in_domain)"
    )
    return lines


def _say_unknown(metrics: Metrics) -> list[str]:
    """Tell which filters could not be applied to how many of the ranked."""
    unknown = {name: n for name, n in metrics.get("filter_unknown", {}).items() if n}
    lines = [f"  {n:,}  {reason}" for reason, n in unknown.items()]
    if lines:
        lines.insert(
            0, "ranked candidates for which a filter could not be evaluated (missing value):"
        )
    if metrics.get("in_training"):
        lines.append(
            f"{metrics['in_training']:,} that members speak for are crystals that they learned from"
            " (in_training), so that their spread is too small"
        )
    if metrics.get("training_unknown"):
        lines.append(
            f"{metrics['training_unknown']:,} may be crystals that members learned from: their ids"
            " are row numbers, or an ensemble holds neither crystals nor ids (in_training is empty)"
        )
    return lines


def candidate_table(listed: pd.DataFrame, title: str, *, n_listed: int) -> Table:
    """Give the first rows of `n_listed`: each quantity with its spread or its interval."""
    columns = ["rank", "material_id", "formula", *_own_columns(listed), "source"]
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in _LEFT else "right"
        shown.add_column(_SHORT.get(name, name), justify=justify, no_wrap=True)
    for row in listed.head(_SHOWN_ROWS).to_dict("records"):
        shown.add_row(*(_cell(row, name) for name in columns))
    hidden = n_listed - _SHOWN_ROWS
    if hidden > 0:
        shown.caption = f"and {hidden:,} more rows in screening.csv"
    return shown


def _own_columns(listed: pd.DataFrame) -> list[str]:
    if "lambda_crit_nm" in listed:
        return [name for name in _LITHIUM if name in listed]
    names = [str(name) for name in listed]
    told = [name for name in names if {f"{name}_std", f"{name}_lo"} & set(names)]
    return told[:_N_OTHERS]


def _cell(row: Mapping[Any, Any], name: str) -> str:
    """Give a value with what belongs to it: ``1.34 ± 0.2``, or ``0.83 (0.74 to 0.89)``."""
    value = row[name]
    if not isinstance(value, float):
        return str(value)
    std, low, high = (row.get(f"{name}_{ending}", math.nan) for ending in ("std", "lo", "hi"))
    if not math.isnan(low):
        return f"{value:.2g} ({low:.2g} to {high:.2g})"
    text = "∞" if math.isinf(value) else f"{value:.3g}"
    text = text if math.isnan(std) else f"{text} ± {std:.2g}"
    n_left_out = row.get("n_unbounded", 0) if name == "lambda_crit_nm" else 0
    return f"{text} ({n_left_out} ∞)" if n_left_out and not math.isinf(value) else text
