"""What the commands of ``raymat data`` share: options, counts, tables on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.outputs import say_notes

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.data.facts import DataSource

_FORMATS = f"{options.SOURCES}."

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_FORMATS)]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_FORMATS)]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="COLUMN", help="Property column to look at as well."),
]
MaxRejected = Annotated[
    float,
    typer.Option(
        "--max-rejected", min=0.0, max=1.0, metavar="SHARE", help="Largest share of unusable rows."
    ),
]


def show_source(name: str, source: "DataSource") -> None:
    """Print how many rows of a checked source can be used, and what to know of how it was read."""
    typer.echo(f"{name}: {say_source(source)}")
    say_notes(source.notes)


def say_source(source: "DataSource", *, of: str = "") -> str:
    """Say how many rows of a checked source can be used, and which hash is `of` what."""
    counts = f"{source.n_used:,} of {source.n_rows:,} rows usable, {source.n_rejected:,} rejected"
    return f"{counts} ({of}sha256 {source.sha256[:12]})"


def show(*tables: "Table") -> None:
    """Print tables."""
    from raymat.cli.terminal import Terminal

    console = Terminal()
    for table in tables:
        console.print(table)


@contextmanager
def progress() -> "Iterator[Callable[[str, int, int], None]]":
    """Give a function that shows how much of what is done; on a terminal only."""
    from rich.progress import Progress

    from raymat.cli.terminal import Terminal

    with Progress(console=Terminal(stderr=True), transient=True) as shown:
        tasks = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what)
            shown.update(tasks[what], completed=done, total=total)

        yield tell


def new_table(title: str, *columns: str) -> "Table":
    """Begin a table; columns whose names are capitalised hold words, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column.istitle() else "right")
    return table
