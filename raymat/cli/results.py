"""The result of a run on the terminal: scores, what was changed, what comes next."""

import shlex
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from raymat.cli.terminal import Terminal
from raymat.errors import RunError, one_line
from raymat.reading import read_json
from raymat.tracking.events import read_events

Metrics = dict[str, Any]
NOT_ESTIMATED = "not estimated"
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


def read_metrics(run: Path, name: str = "metrics.json") -> Metrics:
    """Return what a file of a complete run's results holds.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return read_json(run / name)
    except (OSError, ValueError) as cause:
        raise RunError(f"{run / name}: cannot be read ({one_line(cause)})") from cause


def show_tune_result(metrics: Metrics, run: Path, *, next_steps: list[str]) -> None:
    """Print what a search found; `next_steps` are lines that end the text."""
    winner, default = metrics["winner"], metrics.get("default")
    is_default = winner["trial"] == 0
    if is_default and "verdict" in metrics:  # it is its own default
        verdict = {key: own for key, own in metrics["verdict"].items() if key != "default"}
        metrics = {**metrics, "verdict": verdict}
    name = "winner, the default" if is_default else "winner"
    rows = {f"{name} (trial {winner['trial']}, epoch {winner['epoch']})": metrics["test"]}
    if default is not None and not is_default:
        rows[f"default (trial {default['trial']}, epoch {default['epoch']})"] = default
    console = console_for_results()
    console.print(score_table(metrics, rows))
    print_verdict(console, metrics, model="The winner")
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
    print_verdict(console, metrics)
    print_leakage(console, metrics)
    _print_files(console, run, [say_predict(run)])


def score_table(metrics: Metrics, rows: dict[str, Metrics]) -> Table:
    """Give the scores of models and baselines on the same test rows."""
    unit = f" ({metrics['unit']})" if metrics["unit"] else ""
    columns = _COLUMNS[metrics["task"]]
    leading = next(iter(columns))
    threshold = metrics.get("threshold")
    target = metrics["target"] + ("" if threshold is None else f" above {threshold:.6g}")
    if metrics.get("class_names"):
        target += f" (class 1: {metrics['class_names'][1]})"
    title = f"{target}: {metrics['test']['n']:,} test rows, scored once"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=say_few_rows(metrics["test"]),
        caption_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("")
    for key, name in columns.items():
        table.add_column(name + (unit if key in ("mae", "rmse") else ""), justify="right")
        if key == leading:
            table.add_column("95 % interval", justify="right")
    baselines = metrics.get("baselines", {})
    names = {"composition": "baseline: composition only", "mean": "baseline: training mean"}
    shown = {**rows, **{names[key]: baselines[key] for key in names if key in baselines}}
    for name, scores in shown.items():
        cells = [number(scores.get(key)) for key in columns]
        table.add_row(name, cells[0], interval(scores[f"{leading}_ci95"]), *cells[1:])
    return table


def say_few_rows(scores: Metrics) -> str | None:
    """Return what so few test rows cannot tell, or how far to trust their interval."""
    from raymat.training.metrics import FEW_ROWS, FEWEST_ROWS

    name = "auc_ci95" if "auc" in scores else "mae_ci95"
    rows = f"{scores['n']:,} test row" + ("" if scores["n"] == 1 else "s")
    if name in scores and scores[name] is None:
        each = " of each class" if name == "auc_ci95" else ""
        return f"interval not estimated: {rows}; it needs at least {FEWEST_ROWS}{each}"
    return f"interval of few rows: {rows}" if scores["n"] < FEW_ROWS else None


def print_verdict(console: Console, metrics: Metrics, *, model: str = "The model") -> None:
    """Print whether a model beats the baselines and its default; runs of before have no verdict."""
    from raymat.training.verdict import verdict_lines

    if "verdict" in metrics:
        for line in verdict_lines(metrics["verdict"], model=model):
            console.print(line, soft_wrap=True, markup=False)


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
            table.add_row(key, *(_setting(own) for own in (default.get(key), value)))
    return table


def _setting(value: Any) -> str:
    return str(value) if value is None else number(value)


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
    """Give a number in four digits, anything else as it is; None is a score without estimate."""
    if value is None:
        return NOT_ESTIMATED
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}"


def interval(ends: list[float] | None) -> str:
    """Give both ends of an interval."""
    return NOT_ESTIMATED if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"


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
