"""``raymat contributions``: what every site of some crystals contributes to a prediction."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.outputs import check_new_folder, make_folder, source_stem
from raymat.cli.predict import find_model, load_usable

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from raymat.explain.site_contributions import SiteContributions
    from raymat.training.model_files import TrainedModel

app = typer.Typer(add_completion=False)

_SHOWN_ENDS = 5  # elements with the lowest, and with the highest mean


@app.command()
def contributions(
    crystals: Annotated[
        str,
        typer.Argument(
            metavar="CRYSTALS",
            help="Parquet, CSV, JSON or JSON.GZ file, folder of CIF files with id_prop.csv, or the"
            " name of a built-in set. No target is needed.",
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
            help="A new folder to write; CRYSTALS-contributions unless given.",
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
    by element and by pair of nearest neighbors, with figures.

    Example: raymat contributions --model runs/train-cgcnn-20250301-101500 crystals.parquet
    """
    out = out or Path(f"{source_stem(crystals)}-contributions")
    check_new_folder(out, crystals)
    from raymat.explain.site_contributions import explain_sites
    from raymat.training.device import choose_device, prepare_process

    prepare_process(threads)
    device = choose_device(gpus)
    trained = _load_linear(model)
    usable, features, rejected = load_usable(trained, crystals, max_rejected)
    found = explain_sites(trained, usable, features, device=device)
    files = _write(found, rejected, out)
    if not quiet:
        _show_elements(found)
    typer.echo(_say_result(found, len(usable), len(rejected)))
    typer.echo(f"files: {out}/ ({_say_names(files)})")


def _load_linear(folder: Path) -> "TrainedModel":
    """Read a model that has site contributions.

    Raises:
        ModelFileError: the folder holds no model, or one without them.
    """
    from raymat.explain.full_model import load_full_model
    from raymat.explain.site_contributions import linear_network

    found = find_model(folder)
    trained = load_full_model(found)
    linear_network(trained, where=str(found))
    return trained


def _write(found: "SiteContributions", rejected: "pd.DataFrame", folder: Path) -> list[Path]:
    """Write tables and figures, and give their paths."""
    from raymat.data.writers import write_rejected
    from raymat.explain.site_contributions import write_contributions
    from raymat.reports.site_figures import save_site_figures

    make_folder(folder)
    rows = folder / "rejected.csv"
    write_rejected(rejected, rows)
    return [*write_contributions(found, folder), rows, *save_site_figures(found, folder)]


def _show_elements(found: "SiteContributions") -> None:
    from rich.console import Console

    Console(highlight=False).print(_element_table(found))


def _element_table(found: "SiteContributions") -> "Table":
    from rich import box
    from rich.table import Table

    from raymat.reports.drawing import with_unit
    from raymat.reports.number_text import n_decimals

    title = with_unit(f"contributions to {found.target}", found.unit)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("element")
    for name in ("sites", "mean", "std", "from", "to"):
        table.add_column(name, justify="right")
    ordered = found.elements.sort_values("mean", kind="stable").reset_index(drop=True)
    decimals = n_decimals(ordered["mean"])
    n_hidden = max(0, len(ordered) - 2 * _SHOWN_ENDS)
    for number, row in enumerate(ordered.to_dict("records")):
        if not _SHOWN_ENDS <= number < _SHOWN_ENDS + n_hidden:
            cells = (f"{row[name]:.{decimals}f}" for name in ("mean", "std", "min", "max"))
            table.add_row(row["element"], f"{row['n_sites']:,}", *cells)
        elif number == _SHOWN_ENDS:
            table.add_row("…", f"({n_hidden} more)")
    return table


def _say_result(found: "SiteContributions", n_crystals: int, n_rejected: int) -> str:
    values = found.sites["contribution"]
    rejected = f", {n_rejected:,} rejected" if n_rejected else ""
    unit = f" {found.unit}" if found.unit else ""
    return (
        f"{len(found.sites):,} sites of {n_crystals:,} crystals{rejected}: from {values.min():.4g}"
        f" to {values.max():.4g}{unit}"
    )


def _say_names(files: list[Path]) -> str:
    """Give the names of files, those of a picture in two formats once."""
    named = {path.stem: [p.suffix[1:] for p in files if p.stem == path.stem] for path in files}
    return ", ".join(f"{stem}.{'/'.join(endings)}" for stem, endings in named.items())
