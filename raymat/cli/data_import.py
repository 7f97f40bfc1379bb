"""``raymat data import``: any source to the standard Parquet."""

from pathlib import Path
from typing import Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Source, Target, say_counts
from raymat.cli.outputs import check_output, rejected_beside
from raymat.data.limits import MAX_REJECTED


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
    typer.echo(f"{out}: {say_counts(loaded)}")
