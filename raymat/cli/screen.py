"""``raymat screen``: rank candidates by how probably they pass a criterion."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import Wandb, WandbOption, projecting
from raymat.ensembles import SHARED_ERRORS
from raymat.errors import ConfigError, did_you_mean
from raymat.reading import user_path

if TYPE_CHECKING:
    from raymat.cluster.screen import ScreenRequest

app = typer.Typer(add_completion=False)

DEFAULT_CRITERION = "lithium_metal"

Candidates = Annotated[
    str,
    typer.Option(
        "--candidates",
        metavar="CRYSTALS",
        help=f"{options.SOURCES}.",
        show_default=False,
    ),
]
Bulk = Annotated[
    Path | None,
    typer.Option(
        "--bulk",
        metavar="ENSEMBLE",
        help="Run directory of the bulk modulus ensemble; short for --ensemble bulk=DIR.",
        show_default=False,
    ),
]
Shear = Annotated[
    Path | None,
    typer.Option(
        "--shear",
        metavar="ENSEMBLE",
        help="Run directory of the shear modulus ensemble; short for --ensemble shear=DIR.",
        show_default=False,
    ),
]
CriterionName = Annotated[
    str,
    typer.Option(
        "--criterion",
        metavar="NAME_OR_FILE",
        help="A shipped criterion, such as lithium_metal or wide_gap_soft, or a YAML file.",
    ),
]
Ensembles = Annotated[
    list[str] | None,
    typer.Option(
        "--ensemble",
        metavar="NAME=DIR",
        help="The ensemble that makes a prediction of the criterion; once for each.",
        show_default=False,
    ),
]


IgnoreKnown = Annotated[
    bool,
    typer.Option(
        "--ignore-known",
        help="Let members speak for every candidate, also where DFT values are known.",
    ),
]


ShardSize = Annotated[
    int,
    typer.Option(
        "--shard-size",
        min=1,
        max=10_000_000,
        metavar="N",
        help="Candidates per task. Results are bitwise identical for multiples of 100.",
    ),
]


@app.command(epilog=SHARED_ERRORS)
def screen(
    candidates: Candidates,
    bulk: Bulk = None,
    shear: Shear = None,
    criterion: CriterionName = DEFAULT_CRITERION,
    ensemble: Ensembles = None,
    ignore_known: IgnoreKnown = False,
    shard_size: ShardSize = 1000,
    max_rejected: options.MaxRejected = None,
    concurrency: options.Concurrency = None,
    gpus: options.Gpus = None,
    address: options.Address = None,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Push every member's predictions through a criterion; rank candidates by the outcome.

    P_s is the share of members by which a candidate passes. Candidates that are left out are
    listed with their reasons in excluded.csv. Ctrl-C leaves a run that `raymat resume` continues.

    Example: raymat screen --bulk runs/K --shear runs/G --candidates li.parquet
    """
    folders = collect_ensembles(ensemble or [], bulk=bulk, shear=shear)
    given = {
        "ensembles": folders,
        "candidates": options.absolute_source(candidates),
        "shard_size": shard_size,
        "max_rejected": max_rejected,
        "gpus": gpus,
        "address": address,
        "concurrency": concurrency,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    request = _request(criterion, asked, ignore_known=ignore_known)
    name = str(request.criterion["name"])
    folder = out or options.default_run_directory("screen", name)
    _run(request, folder, wandb=wandb, quiet=quiet)


def collect_ensembles(named: list[str], *, bulk: Path | None, shear: Path | None) -> dict[str, str]:
    """Give prediction -> absolute folder, from all three options.

    Raises:
        ConfigError: an entry is no NAME=DIR, or a name is given twice.
    """
    found: dict[str, str] = {}
    pairs = [("bulk", str(bulk)) if bulk else None, ("shear", str(shear)) if shear else None]
    for text in named:
        name, mark, folder = text.partition("=")
        if not (name and mark and folder):
            raise ConfigError(f"--ensemble {text}: expected NAME=DIR, such as bulk=runs/K")
        pairs.append((name, folder))
    for pair in pairs:
        if pair is None:
            continue
        name, folder = pair
        if name in found:
            raise ConfigError(f"the ensemble for '{name}' is given twice")
        found[name] = str(user_path(folder).absolute())
    return found


def _request(criterion: str, given: dict[str, Any], *, ignore_known: bool) -> "ScreenRequest":
    from raymat.cluster.screen import ScreenRequest
    from raymat.config import build_config
    from raymat.screening.criterion import read_criterion

    found = read_criterion(criterion)
    _check_names(given["ensembles"], found.predictions)
    content = dict(found.content)
    if ignore_known:
        content.pop("known", None)
    values = {**given, "criterion": content, "criterion_path": found.path}
    return build_config(ScreenRequest, values, where="options")


def _check_names(given: dict[str, str], needed: Any) -> None:
    for name, target in needed.items():
        if name not in given:
            short = f"--{name}" if name in ("bulk", "shear") else f"--ensemble {name}="
            raise ConfigError(f"{short} is needed: an ensemble that learned {target}")
    for name in given:
        if name not in needed:
            raise ConfigError(
                f"the criterion has no prediction '{name}'{did_you_mean(name, needed)}"
            )


def _run(request: "ScreenRequest", out: Path, *, wandb: Wandb | None, quiet: bool) -> None:
    from raymat.cli.runs import running
    from raymat.cli.screen_progress import ScreenProgress

    progress = ScreenProgress(quiet=quiet)
    with projecting(out, wandb) as listeners:
        with running(out, progress):
            from raymat.cluster.screen import screen as run_screen

            metrics = run_screen(request, out, listeners=(progress, *listeners))
        show_result(metrics, out)


def show_result(metrics: dict[str, Any], run: Path) -> None:
    """Draw a screening's figures and print its best candidates."""
    from raymat.cli.screen_results import draw_screening, show_screening

    draw_screening(run)
    show_screening(metrics, run)
