"""``raymat data import``: any source to the standard Parquet."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Target, new_table, say_counts, show
from raymat.cli.outputs import check_output, refuse_existing, rejected_beside
from raymat.data.limits import MAX_REJECTED

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.sources.files.importing import Imported

_INTERRUPTED = 130
_SOURCES = (
    "Folder, zip or tar archive of CIF, POSCAR, XYZ or pymatgen JSON files, or such a file;"
    " ASE database; Parquet, CSV or JSON table; folder with id_prop.csv; built-in name."
)

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCES)]
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
        metavar="N",
        help="Processes that parse; as many as there are cores unless given.",
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
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Read any source, check every row, write the standard Parquet and OUT-rejected.csv beside it.

    Parsed parts stay in OUT.parquet.partial: after Ctrl-C or a crash the same command goes on.

    Example: raymat data import my_cifs/ -o my_crystals.parquet
    """
    check_output(out, source, endings=(".parquet",))
    refuse_existing(out)
    from raymat.cli.import_progress import ImportProgress
    from raymat.sources.files.importing import ImportRequest, import_crystals
    from raymat.sources.files.pool import count_cores
    from raymat.sources.files.units import parse_unit_options

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
    with _interruptible(out), ImportProgress(quiet=quiet) as progress:
        imported = import_crystals(request, listeners=(progress,))
    _say(imported, out)


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM say that the same command goes on, and exit 130."""
    from raymat.sources.partial_folder import partial_folder

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
        parts = partial_folder(out)
        kept = f"; {parts} keeps what is parsed: the same command goes on" if parts.exists() else ""
        sys.stderr.write(f"interrupted{kept}\n")
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(imported: "Imported", out: Path) -> None:
    typer.echo(f"{out}: {say_counts(imported)}")
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
