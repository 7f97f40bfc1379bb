"""``raymat data import``: any source to the standard Parquet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Target, new_table, say_source, show
from raymat.cli.interrupting import interruptible
from raymat.cli.outputs import check_output, prepare_files, rejected_beside
from raymat.data.limits import MAX_REJECTED
from raymat.errors import DataError, UnwritableError

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.sources.files.importing import Imported, ImportRequest


Source = Annotated[str, typer.Argument(metavar="SOURCE", help=f"{options.SOURCES}.")]
Out = Annotated[
    Path, typer.Option("-o", "--out", metavar="OUT.parquet", help="Parquet file to write.")
]
Properties = Annotated[
    Path | None,
    typer.Option(
        "--properties",
        metavar="TABLE.csv",
        help="Properties of the crystals, found by its column material_id.",
        show_default=False,
    ),
]
Ids = Annotated[
    str,
    typer.Option(
        "--ids",
        metavar="auto|path|KEY",
        help="Where ids come from: auto takes what a crystal brings along, or else its file's name;"
        " path its file's path; anything else is the key or column that holds them.",
    ),
]
Unit = Annotated[
    list[str] | None,
    typer.Option(
        "--unit",
        metavar="NAME=UNIT",
        help="Unit that a property is given in, such as K_VRH=kbar; it is converted. Repeatable.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=1024,
        metavar="N",
        help="Processes that parse (default: one per core).",
        show_default=False,
    ),
]


def import_(
    source: Source,
    out: Out,
    target: Target = None,
    properties: Properties = None,
    ids: Ids = "auto",
    unit: Unit = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    workers: Workers = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Read any source, check every row, write the standard Parquet and OUT-rejected.csv beside it.

    Parsed parts stay in OUT.parquet.partial: after Ctrl-C or a crash the same command goes on.

    Example: raymat data import my_cifs/ -o my_crystals.parquet
    """
    check_output(out, source, endings=(".parquet",))
    prepare_files(out, overwrite=overwrite)
    from raymat.data.files.units import parse_unit_options
    from raymat.sources.files.importing import ImportRequest
    from raymat.sources.files.pool import count_cores

    request = ImportRequest(
        source=source,
        out=out,
        rejected_out=rejected_beside(out),
        target=target,
        max_rejected=max_rejected,
        properties=properties,
        ids=ids,
        units=parse_unit_options(unit or []),
        workers=workers or count_cores(),
    )
    _say(_import(request, out, quiet=quiet), out)


def _import(request: "ImportRequest", out: Path, *, quiet: bool) -> "Imported":
    from raymat.cli.import_progress import ImportProgress
    from raymat.sources.files.importing import import_crystals
    from raymat.sources.partial_folder import partial_folder

    parts = partial_folder(out)

    def farewell() -> str:
        kept = f"; {parts} keeps what is parsed: the same command goes on" if parts.exists() else ""
        return f"interrupted{kept}"

    try:
        with interruptible(farewell), ImportProgress(quiet=quiet) as progress:
            return import_crystals(request, listeners=(progress,))
    except UnwritableError as error:
        kept = f"; {parts} keeps what is parsed" if parts.exists() else ""
        raise DataError(f"{error}{kept}") from error


def _say(imported: "Imported", out: Path) -> None:
    typer.echo(f"{out}: {say_source(imported.source, of='source ')}")
    for note in imported.notes:
        typer.echo(f"note: {note}")
    if len(imported.rejected):
        show(_reason_table(imported, rejected_beside(out)))


def _reason_table(imported: "Imported", listed: Path) -> "Table":
    from raymat.data.readers import reason_counts

    table = new_table(f"Why rows cannot be used ({listed})", "rows", "Reason")
    for kind, n in reason_counts(imported.rejected).items():
        table.add_row(f"{n:,}", kind)
    return table
