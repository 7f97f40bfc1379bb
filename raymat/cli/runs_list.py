"""``raymat runs``: the runs of a folder."""

from pathlib import Path
from typing import Annotated

import typer

from raymat.cli import options
from raymat.cli.status import say_state
from raymat.errors import RaymatError, RunError, one_line

app = typer.Typer(add_completion=False)


@app.command()
def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs.", show_default=True)
    ] = Path("runs"),
    _debug: options.Debug = False,
) -> None:
    """List the runs in a folder, the newest first, with status and headline.

    Example: raymat runs
    """
    from rich.table import Table

    from raymat.cli.results import console_for_results
    from raymat.reports.run_status import find_runs, read_status

    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name the one that runs lie in")
    table = Table(box=None, pad_edge=False)
    for name in ("run", "command", "status", "done", ""):
        table.add_column(name, overflow="fold")
    found = find_runs(folder)
    for path in found:
        try:
            one = read_status(path)
        except RaymatError as error:
            table.add_row(path.name, "", "damaged", "", one_line(error))
            continue
        done = f"{one.done:,}/{one.total:,} {one.word}" if one.total else ""
        table.add_row(path.name, one.command, say_state(one), done, one.headline or one.best)
    if found:
        console_for_results().print(table)
    else:
        typer.echo(f"{folder}: no runs")
