"""The result of a run on the terminal: scores, what was changed, what comes next."""

import shlex
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from raymat.cli.terminal import Terminal
from raymat.tracking.events import read_events

Metrics = dict[str, Any]
_SHOWN_FILES = ("metrics.json", "trials.parquet", "predictions.parquet", "study.png")
_COLUMNS = {
    "regression": {"mae": "MAE", "rmse": "RMSE", "r2": "R²"},
    "classification": {
        "auc": "AUC",
        "accuracy": "accuracy",
        "accuracy_0": "accuracy of class 0",
        "accuracy_1": "accuracy of class 1",
    },
}


def show_tune_result(metrics: Metrics, run: Path, *, next_steps: list[str]) -> None:
    """Print what a search found; `next_steps` are lines that end the text."""
    winner, default = metrics["winner"], metrics.get("default")
    is_default = winner["trial"] == 0
    name = "winner, the default" if is_default else "winner"
    rows = {f"{name} (trial {winner['trial']}, epoch {winner['epoch']})": metrics["test"]}
    if default is not None and not is_default:
        rows[f"default (trial {default['trial']}, epoch {default['epoch']})"] = default
    console = console_for_results()
    console.print(score_table(metrics, rows))
    if "difference" in metrics and not is_default:
        console.print(say_difference(metrics))
    if default is None:
        console.print("The default configuration (trial 0) failed and has no score.")
    print_leakage(console, metrics)
    if is_default:
        console.print("\nNo trial was better than the default on the validation rows.")
    else:
        console.print(change_table(run, winner["trial"]))
    _print_files(console, run, next_steps)


def show_train_result(metrics: Metrics, run: Path) -> None:
    """Print what one training reached."""
    console = console_for_results()
    console.print(
        score_table(metrics, {f"model (epoch {metrics['winner']['epoch']})": metrics["test"]})
    )
    print_leakage(console, metrics)
    _print_files(console, run, [say_predict(run)])


def score_table(metrics: Metrics, rows: dict[str, Metrics]) -> Table:
    """Give the scores of models and baselines on the same test rows."""
    unit = f" ({metrics['unit']})" if metrics["unit"] else ""
    columns = _COLUMNS[metrics["task"]]
    leading = next(iter(columns))
    threshold = metrics.get("threshold")
    target = metrics["target"] + ("" if threshold is None else f" above {threshold:.6g}")
    title = f"{target}: {metrics['test']['n']:,} test rows, scored once"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("")
    for key, name in columns.items():
        table.add_column(name + (unit if key in ("mae", "rmse") else ""), justify="right")
        if key == leading:
            table.add_column("95 % interval", justify="right")
    baselines = metrics.get("baselines", {})
    names = {"composition": "baseline: composition only", "mean": "baseline: training mean"}
    shown = {**rows, **{names[key]: baselines[key] for key in names if key in baselines}}
    for name, scores in shown.items():
        cells = [number(scores[key]) for key in columns]
        table.add_row(name, cells[0], interval(scores[f"{leading}_ci95"]), *cells[1:])
    return table


def say_difference(metrics: Metrics) -> str:
    """Give one sentence on winner against default, and whether chance could explain it."""
    difference, unit = metrics["difference"], metrics["unit"]
    low, high = difference["mae_ci95"]
    text = f"MAE of winner minus default: {difference['mae']:+.3g} {unit}".rstrip()
    text += f", 95 % interval {interval([low, high])}: "
    if high < 0:
        return text + "the winner is better."
    if low > 0:
        return text + "the default is better on these rows."
    return text + "the test rows do not tell them apart."


def change_table(run: Path, winner: int) -> Table:
    """Give the keys in which the winner differs from the default, trial 0."""
    configs = {
        event["trial"]: event["config"]
        for event in read_events(run / "events.jsonl")
        if event["event"] == "trial_started" and event["trial"] in (0, winner)
    }
    default, best = configs.get(0, {}), configs.get(winner, {})
    title = "What the winner changes"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for name in ("", "default", "winner"):
        table.add_column(name, justify="right" if name else "left")
    for key, value in best.items():
        if value != default.get(key):
            table.add_row(key, number(default.get(key)), number(value))
    return table


def say_report(run: Path) -> str:
    """Give the command that makes a page of a run."""
    return f"look at it:       raymat report {shlex.quote(str(run))}"


def say_train(run: Path) -> str:
    """Give the command that trains the winner again."""
    return f"train it again:   raymat train --config {shlex.quote(str(run / 'best.yaml'))}"


def say_predict(run: Path) -> str:
    """Give the command that predicts with a run's model."""
    return f"predict with it:  raymat predict --model {shlex.quote(str(run / 'best'))} CRYSTALS"


def number(value: Any) -> str:
    """Give a number in four digits, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}"


def interval(ends: list[float]) -> str:
    """Give both ends of an interval."""
    return f"{ends[0]:.3g} to {ends[1]:.3g}"


def console_for_results() -> Console:
    """Give standard output; a table in a file keeps its shape."""
    # Piped into a file, tables keep their shape instead of wrapping at 80 columns.
    console = Terminal(soft_wrap=True)
    return console if console.is_terminal else Terminal(width=140)


def print_leakage(console: Console, metrics: Metrics) -> None:
    """Print how many test rows have near relatives among the training rows."""
    leakage = metrics["leakage"]
    console.print(
        f"leakage: {leakage['n_formula']} of {leakage['n_test']} test rows share a reduced formula"
        f" with training rows, {leakage['n_formula_spacegroup']} also the space group"
    )


def _print_files(console: Console, run: Path, next_steps: list[str]) -> None:
    found = [name for name in _SHOWN_FILES if (run / name).exists()]
    console.print(f"\nfiles:            {run}/ ({', '.join(found)})")
    for line in next_steps:
        console.print(line, soft_wrap=True)
