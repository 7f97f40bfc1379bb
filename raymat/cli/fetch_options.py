"""The options of ``raymat data fetch``."""

from pathlib import Path
from typing import Annotated

import typer

_QUERY, _MANNERS = "Query", "Manners"

WhichProvider = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER",
        help="mp, oqmd, nomad, alexandria, jarvis, cod, ... or an OPTIMADE server's base URL.",
        show_default=False,
    ),
]
OutFile = Annotated[
    Path,
    typer.Option(
        "-o", "--out", metavar="FILE.parquet", help="Parquet file to write.", show_default=False
    ),
]
Filter = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="FILTER",
        help="In OPTIMADE's language (default: everything).",
        rich_help_panel=_QUERY,
        show_default=False,
    ),
]
Properties = Annotated[
    str | None,
    typer.Option(
        "--properties",
        metavar="NAMES",
        help="Standard properties (`raymat data properties` lists them) and the provider's own"
        " fields _..., separated by commas.",
        rich_help_panel=_QUERY,
        show_default=False,
    ),
]
MaxEntries = Annotated[
    int | None,
    typer.Option(
        "--max",
        min=1,
        max=1_000_000_000,
        metavar="N",
        help="At most so many entries.",
        rich_help_panel=_QUERY,
        show_default=False,
    ),
]
MaxAtoms = Annotated[
    int,
    typer.Option(
        "--max-atoms",
        min=1,
        max=1_000_000,
        metavar="N",
        help="Cells with more atoms are rejected.",
        rich_help_panel=_QUERY,
    ),
]
PageSize = Annotated[
    int,
    typer.Option(
        "--page-size",
        min=1,
        max=100_000,
        metavar="N",
        help="Entries of one request.",
        rich_help_panel=_MANNERS,
    ),
]
RequestsPerSecond = Annotated[
    float,
    typer.Option(
        "--requests-per-second",
        min=0.001,
        max=1000.0,
        metavar="F",
        help="At most so many requests; the server may ask for fewer.",
        rich_help_panel=_MANNERS,
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0.0,
        max=86_400.0 * 365,
        metavar="SECONDS",
        help="For how long one request is repeated while the server is busy or away.",
        rich_help_panel=_MANNERS,
    ),
]
