"""The result of an explanation run on the terminal."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from raymat.cli.results import console_for_results
from raymat.data.writers import read_own_csv
from raymat.errors import RaymatError, one_line
from raymat.explain.explanations import class_word
from raymat.explain.generate import SURE

Metrics = dict[str, Any]
_FILES = ("explanations.jsonl", "summary.csv", "trends.csv", "predictions.parquet", "metrics.json")
_SHOWN_LABELS = 4


def draw_explanations(run: Path) -> None:
    """Draw the figures of a run into it; a failure is only a warning."""
    from raymat.reports.explanation_figures import save_explanation_figures

    try:
        save_explanation_figures(run)
    except (RaymatError, OSError) as error:
        problem = one_line(error)
        sys.stderr.write(f"warning: no pictures of the explanations ({problem})\n")


def show_explanations(metrics: Metrics, run: Path) -> None:
    """Print how good the classifiers are, how many explanations there are, and what they favour."""
    console = console_for_results()
    console.print(_say_classes(metrics), style="bold")
    console.print(_classifier_table(metrics))
    console.print(_explanation_table(metrics))
    console.print(_label_table(metrics, read_own_csv(run / "summary.csv")))
    for line in say_empty(metrics):
        console.print(line)
    for line in say_agreement(metrics):
        console.print(line)
    if (run / "trends.csv").exists():
        _print_trends(console, read_own_csv(run / "trends.csv"))
    found = ", ".join(name for name in _FILES if (run / name).exists())
    console.print(f"\nfiles:            {run}/ ({found}, *.png)")


def _say_classes(metrics: Metrics) -> str:
    threshold = metrics["threshold"]
    split = "" if threshold is None else f", high above {threshold:.4g}"
    n_test = next(iter(metrics["classifiers"].values()))["n"]
    return f"{metrics['target']}{split}: {n_test:,} test rows, scored once"


def _classifier_table(metrics: Metrics) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("classifier")
    for name in ("accuracy", "AUC", "agrees with full"):
        table.add_column(name, justify="right")
    for name, scores in metrics["classifiers"].items():
        same = scores.get("agreement")
        cells = (_cell(scores["accuracy"], 3), _cell(scores["auc"], 3))
        table.add_row(name, *cells, "" if same is None else f"{same:.3f}")
    return table


def _explanation_table(metrics: Metrics) -> Table:
    table = Table(title="explanations", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("of")
    for name in ("found", "policies", "p", "p by full model", "full agrees", "asked"):
        table.add_column(name, justify="right")
    for own in metrics["explanations"]:
        table.add_row(
            _say_task(own, metrics),
            f"{own['found']}",
            f"{own['attempts']}",
            _cell(own["mean_probability"]),
            _cell(own["mean_probability_full"]),
            _percent(own["full_agrees"]),
            f"{own['full_asked']}" if own["full_asked"] else "",
        )
    return table


def _label_table(metrics: Metrics, summary: pd.DataFrame) -> Table:
    """Give the most frequent labels of each class, those of all classifiers together."""
    table = Table(box=box.SIMPLE)
    table.add_column("of")
    table.add_column("most frequent labels (share among nodes : among atoms of its crystals, in %)")
    classes = dict.fromkeys((o["labels"], o["target_class"]) for o in metrics["explanations"])
    for labels, target_class in classes:
        word = class_word(target_class, metrics["threshold"])
        table.add_row(f"{labels}s, {word}", _say_labels(summary, labels, target_class))
    return table


def _say_task(own: Metrics, metrics: Metrics) -> str:
    """Give what explanations are of, such as ``groups, high`` or ``groups, high, classifier 2``."""
    several = any(other["member"] for other in metrics["explanations"])
    which = f", classifier {own['member']}" if several else ""
    return f"{own['labels']}s, {class_word(own['target_class'], metrics['threshold'])}{which}"


def _cell(value: float | None, decimals: int = 2) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _say_labels(summary: pd.DataFrame, labels: str, target_class: int) -> str:
    """Give the most frequent labels, such as ``17 (38 : 11), 1 (9 : 15)``."""
    is_own = (summary["labels"] == labels) & (summary["target_class"] == target_class)
    nodes = summary[is_own & (summary["kind"] == "node") & (summary["count"] > 0)]
    first = nodes.sort_values("count", ascending=False, kind="stable").head(_SHOWN_LABELS)
    shares, known = 100 * first["share"], 100 * first["training_share"]
    return ", ".join(
        f"{label} ({own:.0f} : {there:.0f})"
        for label, own, there in zip(first["a"], shares, known, strict=True)
    )


def say_empty(metrics: Metrics) -> list[str]:
    """Give a line for each class that yields fewer explanations than were asked for."""
    lines = []
    for own in metrics["explanations"]:
        if own["found"] == metrics["per_class"]:
            continue
        best = own["best_rejected"]
        tried = "" if best is None else f"; the surest graph of the others has p = {best:.3f}"
        if best == 0:
            tried = "; all others never left their first node"
        few = "no explanation" if own["found"] == 0 else f"{own['found']} explanations only"
        lines.append(
            f"{_say_task(own, metrics)}: {few} of {metrics['per_class']} after"
            f" {own['attempts']} policies{tried} (wanted: above {SURE:g}); raise --max-attempts or"
            " --episodes, or the classifier may be unreliable"
        )
    return lines


def say_agreement(metrics: Metrics) -> list[str]:
    """Give a line for each labelling and class on how much its classifiers agree."""
    pairs = pd.DataFrame(metrics["agreement_of_members"])
    if pairs.empty:
        return []
    lines = []
    for _, own in pairs.groupby(["labels", "target_class"]):
        nodes, edges = own["nodes"].astype(float).mean(), own["edges"].astype(float).mean()
        labels, target_class = own.iloc[0][["labels", "target_class"]]
        word = class_word(target_class, metrics["threshold"])
        lines.append(
            f"{labels}s, {word}: rank correlation between classifiers"
            f" {nodes:.2f} (labels), {edges:.2f} (edges), mean of {len(own)} pairs"
        )
    return lines


def _print_trends(console: Console, trends: pd.DataFrame) -> None:
    table = Table(
        title="published trends", title_justify="left", title_style="bold", box=box.SIMPLE
    )
    table.add_column("trend")
    table.add_column("")
    for name in ("here", "other class", "ratio", "ratio in crystals"):
        table.add_column(name, justify="right")
    for row in trends.itertuples():
        table.add_row(
            str(row.trend),
            str(row.verdict),
            f"{row.count} of {row.total}",
            f"{row.other_count} of {row.other_total}",
            f"{row.ratio:.2f}",
            f"{row.training_ratio:.2f}",
        )
    console.print(table)
