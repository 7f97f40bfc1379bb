"""``raymat contributions``: what every site of some crystals contributes to a prediction."""

from pathlib import Path
from typing import Annotated

import typer

from raymat.cli import options
from raymat.cli.outputs import check_new_folder, source_stem
from raymat.reading import user_path

app = typer.Typer(add_completion=False)


@app.command()
def contributions(
    crystals: Annotated[
        str,
        typer.Argument(
            metavar="CRYSTALS",
            help=f"{options.SOURCES}. No target is needed.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            metavar="DIR",
            help="A model folder, such as RUN/best, or a run directory, of a cgcnn that was trained"
            " with model.readout: linear.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Run directory (default: runs/contributions-CRYSTALS-TIME).",
            show_default=False,
        ),
    ] = None,
    max_rejected: options.MaxRejected = None,
    gpus: options.OneGpu = None,
    threads: options.Threads = 1,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Tell what each site contributes to the predicted value, which is the mean over its crystal.

    Only a cgcnn with model.readout: linear has such contributions. They are written site by site,
    by element and by pair of nearest neighbors, with figures, into a run for `raymat report`.

    Example: raymat contributions --model runs/train-cgcnn-20250301-101500 crystals.parquet
    """
    if out is not None:
        check_new_folder(out, crystals)
    folder = out or options.default_run_directory("contributions", source_stem(crystals))
    from raymat.cli.contributions_results import ContributionsProgress, show_contributions
    from raymat.cli.runs import running

    progress = ContributionsProgress(quiet=quiet)
    with running(folder, progress):
        from raymat.config import build_config
        from raymat.explain.contributions_run import ContributionsRequest, contribute
        from raymat.reports.site_figures import save_site_figures
        from raymat.training.model_files import find_model

        given = {
            "crystals": options.absolute_source(crystals),
            "model": str(find_model(user_path(model)).absolute()),
            "max_rejected": max_rejected,
            "gpus": gpus,
            "threads": threads,
        }
        request = build_config(ContributionsRequest, given, where="options")
        metrics = contribute(request, folder, save_site_figures, listeners=(progress,))
    show_contributions(metrics, folder, quiet=quiet)
