"""``raymat compare``: several models and properties on the same splits, default against tuned."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import WandbOption, projecting, wanted
from raymat.errors import RaymatError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from raymat.tuning.comparison_cells import ComparisonPlan

app = typer.Typer(add_completion=False)

CellsAtATime = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        min=1,
        metavar="N",
        help="Cells at a time; as many as keep the machine busy unless given.",
        rich_help_panel="Machine",
        show_default=False,
    ),
]
_METRIC = {"regression": ("mae", "MAE"), "classification": ("auc", "AUC")}


@app.command()
def compare(
    plan: Annotated[
        Path,
        typer.Option(
            "--plan", metavar="FILE", help="What to compare: a YAML file.", show_default=False
        ),
    ],
    max_rejected: options.MaxRejected = None,
    trials: options.Trials = None,
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    concurrency: CellsAtATime = None,
    gpus: options.Gpus = None,
    address: options.Address = None,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Compare models on several properties and splits, with default and with tuned settings.

    The plan names data, properties, models, settings, repetitions and the budget of a search. All
    models of a repetition see the same rows. A tuned model spends N trials, the default as many
    seeds, so the best of N stands against the best of N. Ctrl-C leaves a run that `raymat resume`
    continues.

    Example: raymat compare --plan comparisons/quick.yaml
    """
    from raymat.cli.compare_progress import CompareProgress
    from raymat.cli.runs import running
    from raymat.tuning.comparison_plan import read_plan

    changes = {"trials": trials, "epochs": epochs, "seed": seed}
    found = with_absolute_sources(read_plan(plan, **changes))
    folder = out or options.default_run_directory("compare", plan.stem)
    progress = CompareProgress(quiet=quiet)
    given = {
        "max_rejected": max_rejected,
        "concurrency": concurrency,
        "gpus": gpus,
        "address": address,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    for remark in [] if quiet else found.remarks():
        sys.stderr.write(f"{remark}\n")
    with projecting(folder, wanted(wandb, found.wandb)) as listeners:
        try:
            with running(folder, progress):
                from raymat.cluster.compare import CompareRequest
                from raymat.cluster.compare import compare as run_compare

                request = CompareRequest(plan=found, **asked)
                run_compare(request, folder, listeners=(progress, *listeners))
        finally:  # what there is, also if it was interrupted, or cells failed
            show_comparison(found, folder, command=say_command(sys.argv[1:]))


def with_absolute_sources(plan: "ComparisonPlan") -> "ComparisonPlan":
    """Give a plan that means the same data in every working directory."""
    changed = [
        prop.model_copy(update={"data": options.absolute_source(prop.data)})
        for prop in plan.properties
    ]
    return plan.model_copy(update={"properties": tuple(changed)})


def show_comparison(plan: "ComparisonPlan", run: Path, *, command: str) -> None:
    """Write tables and figures of the cells that are done, and say what they found."""
    from raymat.reports.comparison_log import read_rows
    from raymat.reports.comparison_report import write_report

    if not (run / "run.json").exists():
        return  # it never began
    try:
        table = read_rows(plan, run)
        if not len(table):
            return
        written = write_report(plan, table, run, command=command)
    except (RaymatError, OSError) as error:
        sys.stderr.write(f"warning: no report ({' '.join(str(error).split())})\n")
        return
    _print_scores(table, run)
    typer.echo(f"written: {', '.join(['comparison.csv', *written])} in {run}")


def _print_scores(table: "pd.DataFrame", run: Path) -> None:
    import pandas as pd
    from rich.console import Console

    from raymat.reports.comparison_pairs import say_verdicts

    console = Console(highlight=False)
    for scores in score_tables(table):
        console.print(scores)
    for name, lines in say_verdicts(pd.read_csv(run / "differences.csv")).items():
        for line in lines:
            console.print(f"{name}: {line}", soft_wrap=True, markup=False)


def score_tables(rows: "pd.DataFrame") -> "list[Table]":
    """Give one table per property and training size: models against settings."""
    from rich import box
    from rich.table import Table

    from raymat.reports.comparison_statistics import summarise

    tables = []
    for (name, _), own in summarise(rows).groupby(["property", "training_size"], sort=False):
        first = own.iloc[0]
        metric, title = _METRIC[first["task"]]
        unit = f" ({first['unit']})" if first["unit"] and metric == "mae" else ""
        shown = Table(
            box=box.SIMPLE,
            title=f"{name}, {first['n_train']:,} training and {first['n_test']:,} test rows",
            title_justify="left",
        )
        for column in ("model", "setting", f"test {title}{unit}", "trials", "training time"):
            shown.add_column(column, justify="left" if column in ("model", "setting") else "right")
        for row in own.to_dict("records"):
            shown.add_row(*_cells(row, metric))
        tables.append(shown)
    return tables


def _cells(row: Mapping[Any, Any], metric: str) -> list[str]:
    from raymat.cli.progress_text import say_duration
    from raymat.cli.results import NOT_ESTIMATED

    mean, std = row[f"{metric}_mean"], row[f"{metric}_std"]
    spread = f" ± {std:.4f}" if std == std else ""  # nan for one repetition
    trials, time_s = row["n_trials_mean"], row["train_time_s_mean"]
    return [
        row["model"],
        row["setting"],
        f"{mean:.4f}{spread}" if mean == mean else NOT_ESTIMATED,
        f"{trials:g}",
        say_duration(time_s),
    ]


def say_command(argv: Sequence[str]) -> str:
    """Give the command of a run without where it was written to."""
    words = list(argv)
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    return f"raymat {shlex.join(words)}"
