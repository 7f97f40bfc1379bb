"""``raymat data``: bring crystals in, look at them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.outputs import check_output, make_folder, rejected_beside
from raymat.data.limits import MAX_REJECTED

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from raymat.data.describe import Description, TargetSummary
    from raymat.data.readers import LoadedData

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Bring crystals in, check them, look at them.",
)

_SHOWN_ROWS = 20
_FORMATS = (
    "Parquet, CSV, JSON or JSON.GZ file, folder of CIF files with id_prop.csv, or built-in name."
)

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_FORMATS)]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="COLUMN", help="Property column to check as well."),
]
MaxRejected = Annotated[
    float,
    typer.Option("--max-rejected", min=0.0, max=1.0, help="Largest share of unusable rows."),
]


@app.command("import")
def import_(
    source: Source,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT.parquet", help="Parquet file to write.")
    ],
    target: Target = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    _debug: options.Debug = False,
) -> None:
    """Read any source, check every row, write the standard Parquet and OUT-rejected.csv beside it.

    Example: raymat data import my_cifs/ -o my_crystals.parquet
    """
    check_output(out, source, endings=(".parquet",))
    from raymat.data.readers import load_crystals
    from raymat.data.writers import write_crystals, write_rejected

    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    write_crystals(loaded.crystals, out)
    write_rejected(loaded.rejected, rejected_beside(out))
    typer.echo(f"{out}: {_counts(loaded)}")


@app.command()
def check(
    source: Source,
    target: Target = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for rejected.csv.")
    ] = None,
    _debug: options.Debug = False,
) -> None:
    """Say what is wrong with the rows of a source; exit 2 if too many cannot be used.

    Example: raymat data check elastic.parquet --target log10_G_VRH
    """
    from raymat.data.readers import TooManyRejectedError, load_crystals
    from raymat.data.writers import write_rejected

    problem = None
    try:
        loaded = load_crystals(source, target=target, max_rejected=max_rejected)
        rejected = loaded.rejected
        typer.echo(f"{source}: {_counts(loaded)}")
    except TooManyRejectedError as error:
        problem, rejected = error, error.rejected
    if out is not None:
        make_folder(out)
        write_rejected(rejected, out / "rejected.csv")
    if len(rejected):
        _show(_reason_table(rejected), _row_table(rejected))
    if problem is not None:
        raise problem


@app.command()
def describe(
    source: Source,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="Property column to describe as well."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the picture.")
    ] = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    _debug: options.Debug = False,
) -> None:
    """Show counts, elements, target distribution and leakage; with --out also as a picture.

    Example: raymat data describe delta --target log10_bulk_modulus --out reports/delta
    """
    from raymat.data.describe import describe as describe_data
    from raymat.data.readers import load_crystals

    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    description = describe_data(loaded, target)
    typer.echo(f"{source}: {_counts(loaded)}")
    for kind, n in description.reasons.items():
        typer.echo(f"  rejected: {n:,} × {kind}")
    _show(_number_table(description), _element_table(description))
    _print_leakage(description)
    if out is None:
        typer.echo("picture: --out DIR draws this")
    else:
        _save_picture(description, out)


def _counts(loaded: "LoadedData") -> str:
    source = loaded.source
    counts = f"{source.n_used:,} of {source.n_rows:,} rows usable, {source.n_rejected:,} rejected"
    return f"{counts} (sha256 {source.sha256[:12]})"


def _show(*tables: "Table") -> None:
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)


def _new_table(title: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column.istitle() else "right")
    return table


def _reason_table(rejected: "pd.DataFrame") -> "Table":
    from raymat.data.readers import reason_counts

    table = _new_table("Why rows cannot be used", "rows", "Reason")
    for kind, n in reason_counts(rejected).items():
        table.add_row(f"{n:,}", kind)
    return table


def _row_table(rejected: "pd.DataFrame") -> "Table":
    from rich.markup import escape

    n = len(rejected)
    title = "All of them" if n <= _SHOWN_ROWS else f"The first {_SHOWN_ROWS} of {n:,}"
    table = _new_table(title, "Crystal", "Reason")
    for row in rejected.head(_SHOWN_ROWS).itertuples():
        table.add_row(escape(str(row.material_id)), escape(str(row.reason)))
    return table


def _number_table(description: "Description") -> "Table":
    from raymat.data.describe import QUANTILES

    names = ["min", *[f"{q * 100:g} %" for q in QUANTILES[1:-1]], "max", "mean", "std"]
    sites = description.n_sites
    spread = sites.std(ddof=1) if len(sites) > 1 else 0.0
    columns = {"atoms per cell": [*description.n_sites_quantiles, sites.mean(), spread]}
    if (target := description.target) is not None:
        columns[_target_name(target)] = [*target.quantiles, target.mean, target.std]
    table = _new_table("Distributions", "", *columns)
    for i, name in enumerate(names):
        table.add_row(name, *[f"{values[i]:.4g}" for values in columns.values()])
    return table


def _target_name(target: "TargetSummary") -> str:
    unit = f" ({target.property.unit})" if target.property.unit else ""
    return f"{target.property.name}{unit}"


def _element_table(description: "Description") -> "Table":
    elements = description.elements
    table = _new_table(f"{len(elements)} elements, with the crystals that hold them", "Elements")
    common = sorted(elements.items(), key=lambda item: (-item[1], item[0]))
    table.add_row("  ".join(f"{symbol} {n:,}" for symbol, n in common))
    return table


def _print_leakage(description: "Description") -> None:
    if description.target is not None:
        typer.echo(f"zeros in the target: {description.target.share_of_zeros:.1%}")
    shared, n = description.n_shared_formula, description.n_formulas
    typer.echo(f"formulas: {n:,} different; {shared:,} crystals share theirs with another")
    for kind, leakage in description.leakage.items():
        text = "too few crystals for it" if leakage is None else leakage.line()
        typer.echo(f"{kind} split: {text}")


def _save_picture(description: "Description", folder: Path) -> None:
    from raymat.reports.data_figures import save_description_figure

    make_folder(folder)
    path = folder / f"{description.source.name}.png"
    save_description_figure(description, path)
    typer.echo(f"picture: {path}")
