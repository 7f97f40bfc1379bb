"""``raymat tune``: search a space of configurations."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import Wandb, WandbOption, projecting, wanted
from raymat.errors import ConfigError, RaymatError, one_line

if TYPE_CHECKING:
    from raymat.data.splits import SplitConfig
    from raymat.tuning.request import TuneRequest
    from raymat.tuning.search_space import SearchSpace

app = typer.Typer(add_completion=False)

_BUILTIN = "delta"


@app.command()
def tune(
    space: options.Space,
    data: options.Data = None,
    target: options.Target = None,
    classes: options.Classes = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = None,
    seed: options.Seed = None,
    epochs: options.Epochs = None,
    trials: options.Trials = None,
    time_budget: options.TimeBudget = None,
    concurrency: options.Concurrency = None,
    gpus: options.Gpus = None,
    address: options.Address = None,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Search a space: Ray Tune, Optuna, ASHA; then refit the winner and score it once.

    What is left out stands in the space's file. Ctrl-C leaves a run that `raymat resume` continues.

    Example: raymat tune --space cgcnn --data elastic.parquet --target log10_G_VRH --trials 32
    """
    from raymat.tuning.space import read_space

    given = {
        "time_budget_s": options.parse_time_budget(time_budget) if time_budget else None,
        "classes": options.parse_classes(classes),
        "max_rejected": max_rejected,
        "seed": seed,
        "concurrency": concurrency,
        "gpus": gpus,
        "address": address,
    }
    found = read_space(space).with_budget(trials=trials, epochs=epochs)
    source, column = choose_data(found, data, target)
    given |= {"data": options.absolute_source(source), "target": column}
    request = _request(found, given, options.choose_split(found.split, split, seed))
    name = Path(space).stem
    folder = out or options.default_run_directory("tune", name)
    _run(request, name, folder, wandb=wanted(wandb, found.wandb), quiet=quiet)


def _request(space: "SearchSpace", given: dict[str, Any], split: "SplitConfig") -> "TuneRequest":
    from raymat.config import build_config
    from raymat.tuning.request import TuneRequest

    values = {key: value for key, value in given.items() if value is not None}
    values |= {"space": dict(space.content), "space_path": space.path, "split": split}
    return build_config(TuneRequest, values, where="options")


def choose_data(space: "SearchSpace", data: str | None, target: str | None) -> tuple[str, str]:
    """Give source and target: those of the options, else those of the space.

    Raises:
        ConfigError: one of them stands nowhere, or the data are new and the target is not named.
    """
    source = data or space.data
    if source is None:
        raise ConfigError(f"--data is needed: {space.path} names no data")
    if target is None and source != space.data:
        raise ConfigError(
            f"--target is needed with --data {source}: the property column to learn,"
            " such as --target log10_G_VRH"
        )
    column = target or space.target
    if column is None:
        raise ConfigError(f"--target is needed: {space.path} names none")
    return source, column


def _run(request: "TuneRequest", name: str, out: Path, *, wandb: Wandb | None, quiet: bool) -> None:
    from raymat.cli.progress import RunProgress
    from raymat.cli.results import show_tune_result
    from raymat.cli.runs import running

    progress = RunProgress(f"tune {name}", quiet=quiet)
    with projecting(out, wandb) as listeners:
        with running(out, progress):
            from raymat.cluster.tune import tune as run_tune

            metrics = run_tune(request, out, listeners=(progress, *listeners))
        draw_study(out)
        show_tune_result(metrics, out, next_steps=next_steps(out, name, request.data))


def draw_study(run: Path) -> None:
    """Draw a finished search into ``study.png`` of its run; a failure is only a warning."""
    from raymat.reports.study_figures import save_study_figure

    try:
        save_study_figure(run, run / "study.png")
    except (RaymatError, OSError) as error:
        problem = one_line(error)
        sys.stderr.write(f"warning: no picture of the search ({problem})\n")


def next_steps(run: Path, space: str, data: str) -> list[str]:
    """Give the commands to go on with; after the built-in data also one for real data."""
    from raymat.cli.results import say_predict, say_report, say_train

    steps = [say_report(run), say_train(run), say_predict(run)]
    if data == _BUILTIN:
        steps.append("with your data:   raymat data describe your.parquet --target COLUMN")
        steps.append(
            f"                  raymat tune --space {space} --data your.parquet --target COLUMN"
        )
    return steps
