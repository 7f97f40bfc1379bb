"""``raymat report``: one HTML page of any set of runs."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from raymat.cli import options
from raymat.cli.outputs import prepare_files
from raymat.errors import ConfigError
from raymat.reading import real_path

app = typer.Typer(add_completion=False)
DEFAULT_PAGE = Path("report.html")


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The page to write."),
    ] = DEFAULT_PAGE,
    title: Annotated[
        str, typer.Option("--title", metavar="WORDS", help="Title of the page.")
    ] = "raymat report",
    wandb: Annotated[
        Literal["off", "offline", "online"],
        typer.Option(
            "--wandb",
            metavar="off|offline|online",
            help="Bring the runs to Weights & Biases, too: offline writes files for `wandb sync`.",
        ),
    ] = "off",
    overwrite: options.Overwrite = False,
    _debug: options.Debug = False,
) -> None:
    """Write one HTML page of any set of runs, which needs nothing but a browser.

    Works on runs of every command, also while they are at work: --overwrite brings a page up to
    date. Parts of a run that are damaged are reported, and the rest is shown. With --wandb the runs
    are brought to Weights & Biases as well; what is there already is left alone.

    Example: raymat report runs/tune-cgcnn-20250301-101500 -o report.html
    """
    from raymat.data.writers import atomic_file
    from raymat.reports.page.build import build_page
    from raymat.tracking.wandb_projection import check_wandb

    _check_out(out)
    prepare_files(out, overwrite=overwrite, option="--out")
    _refuse_twice(runs)
    if wandb != "off":
        check_wandb(wandb)
    page, warnings = build_page(runs, title=title)
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{out}: {len(runs):,} run{'s' if len(runs) != 1 else ''},"
               f" {len(page.encode()) / 1e6:.1f} MB")  # fmt: skip
    if wandb != "off":
        _project(runs, wandb, title)


def _refuse_twice(runs: list[Path]) -> None:
    """Refuse a run that is named twice, which W&B and the page would show as two."""
    places = [real_path(run) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{run}: the run is named twice; name each once")


def _project(runs: list[Path], mode: Literal["offline", "online"], title: str) -> None:
    """Bring runs to W&B; define a W&B report of several of them, or of a comparison."""
    from importlib.util import find_spec

    from raymat.tracking.run_directory import read_header
    from raymat.tracking.wandb_projection import project

    for run in runs:
        for line in project(run, mode=mode).lines():
            typer.echo(line)
    is_compared = len(runs) > 1 or read_header(runs[0]).get("command") == "compare"
    if is_compared and find_spec("wandb_workspaces") is not None:
        from raymat.tracking.wandb_report import define_report, write_definition

        file = write_definition(define_report(runs, title=title), runs[0] / "wandb")
        place = shlex.quote(str(file))
        typer.echo(f"W&B report:       python -m raymat.tracking.wandb_report {place} ENTITY")


def _check_out(out: Path) -> None:
    """Refuse what is no place for a page, before runs are read; only an older page is replaced.

    Raises:
        ConfigError: it is.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file, such as {out / DEFAULT_PAGE}")
    if out.exists() and not _is_page(out):
        raise ConfigError(f"--out {out}: exists and is not a page of raymat; choose another name")


def _is_page(path: Path) -> bool:
    from raymat.reports.page.render import FIRST_WORDS

    try:
        if not path.is_file():  # such as a device
            return False
        with path.open("rb") as file:
            return file.read(len(FIRST_WORDS)) == FIRST_WORDS
    except OSError:
        return False
