"""``raymat ensemble``: many members of one model, and how far their spread can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import Wandb, WandbOption, projecting
from raymat.ensembles import SHARED_ERRORS

if TYPE_CHECKING:
    from raymat.cluster.ensemble import EnsembleRequest

app = typer.Typer(add_completion=False)

_ENSEMBLE = "Ensemble"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A configuration, such as the best.yaml of a run.",
        show_default=False,
    ),
]
FromSearch = Annotated[
    Path | None,
    typer.Option(
        "--from-search",
        metavar="RUN",
        help="A tune run: its best trials are the members' configurations.",
        rich_help_panel=_ENSEMBLE,
        show_default=False,
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top",
        min=1,
        max=10_000,
        metavar="K",
        help="How many of the best trials of --from-search (default: 10).",
        rich_help_panel=_ENSEMBLE,
        show_default=False,
    ),
]
Members = Annotated[
    int | None,
    typer.Option(
        "--members",
        min=2,
        max=10_000,
        metavar="N",
        help="Number of members (default: 100, or one per trial of --from-search).",
        rich_help_panel=_ENSEMBLE,
        show_default=False,
    ),
]
Fraction = Annotated[
    float | None,
    typer.Option(
        "--fraction",
        metavar="SHARE",
        help="Fraction of the training rows drawn for each member (default: 0.6 for --config, all"
        " for --from-search).",
        rich_help_panel=_ENSEMBLE,
        show_default=False,
    ),
]
Greedy = Annotated[
    bool | None,
    typer.Option(
        "--greedy/--equal",
        help="Weigh members by greedy selection on the validation rows, or equally (default:"
        " greedy for --from-search, equal otherwise).",
        rich_help_panel=_ENSEMBLE,
        show_default=False,
    ),
]


@app.command(epilog=SHARED_ERRORS)
def ensemble(
    config: Config = None,
    search: FromSearch = None,
    top: Top = None,
    members: Members = None,
    fraction: Fraction = None,
    greedy: Greedy = None,
    data: options.Data = None,
    target: options.Target = None,
    classes: options.Classes = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = None,
    seed: options.Seed = None,
    epochs: options.Epochs = None,
    concurrency: options.Concurrency = None,
    gpus: options.Gpus = None,
    address: options.Address = None,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Train members on random shares of the training rows; score and calibrate their spread.

    All members share the validation rows, by which each chooses its epoch and by which the spread
    is recalibrated; no member sees a test row. Data, target and split stand in the file; options
    take their place. Ctrl-C leaves a run that `raymat resume` continues.

    Example: raymat ensemble --config best.yaml --members 100 --fraction 0.6
    """
    from raymat.cli.ensemble_request import choose_request

    given = {
        "members": members,
        "fraction": fraction,
        "weights": None if greedy is None else ("greedy" if greedy else "equal"),
        "data": data,
        "target": target,
        "classes": options.parse_classes(classes),
        "max_rejected": max_rejected,
        "seed": seed,
        "concurrency": concurrency,
        "gpus": gpus,
        "address": address,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    request = choose_request(config, search, top=top, epochs=epochs, split=split, asked=asked)
    name = str(request.configs[0]["model"])
    folder = out or options.default_run_directory("ensemble", name)
    _run(request, folder, wandb=wandb, quiet=quiet)


def _run(request: "EnsembleRequest", out: Path, *, wandb: Wandb | None, quiet: bool) -> None:
    from raymat.cli.ensemble_progress import EnsembleProgress
    from raymat.cli.runs import running

    progress = EnsembleProgress(quiet=quiet)
    with projecting(out, wandb) as listeners:
        with running(out, progress):
            from raymat.cluster.ensemble import ensemble as run_ensemble

            metrics = run_ensemble(request, out, listeners=(progress, *listeners))
        show_result(metrics, out)


def show_result(metrics: dict[str, Any], run: Path) -> None:
    """Draw an ensemble's figures and print what it reached."""
    from raymat.cli.ensemble_results import draw_ensemble, show_ensemble_result

    draw_ensemble(run)
    show_ensemble_result(metrics, run)
