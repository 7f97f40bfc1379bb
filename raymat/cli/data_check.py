"""``raymat data check``: what is wrong with the rows of a source."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Source, Target, new_table, say_counts, show
from raymat.cli.outputs import make_folder
from raymat.data.limits import MAX_REJECTED

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_SHOWN_ROWS = 20


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
        typer.echo(f"{source}: {say_counts(loaded)}")
    except TooManyRejectedError as error:
        problem, rejected = error, error.rejected
    if out is not None:
        make_folder(out)
        write_rejected(rejected, out / "rejected.csv")
    if len(rejected):
        show(_reason_table(rejected), _row_table(rejected))
    if problem is not None:
        raise problem


def _reason_table(rejected: "pd.DataFrame") -> "Table":
    from raymat.data.readers import reason_counts

    table = new_table("Why rows cannot be used", "rows", "Reason")
    for kind, n in reason_counts(rejected).items():
        table.add_row(f"{n:,}", kind)
    return table


def _row_table(rejected: "pd.DataFrame") -> "Table":
    from rich.markup import escape

    n = len(rejected)
    title = "All of them" if n <= _SHOWN_ROWS else f"The first {_SHOWN_ROWS} of {n:,}"
    table = new_table(title, "Crystal", "Reason")
    for row in rejected.head(_SHOWN_ROWS).itertuples():
        table.add_row(escape(str(row.material_id)), escape(str(row.reason)))
    return table
