"""``raymat doctor``: is this machine or cluster fit to run?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from raymat.cluster.doctor import AskedSearch
    from raymat.cluster.findings import Finding

app = typer.Typer(add_completion=False)

Storage = Annotated[
    Path | None,
    typer.Option(
        "--storage",
        metavar="DIR",
        help="Folder that runs are to lie in, the same on every node; the current one if left out.",
        show_default=False,
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="NAME_OR_FILE",
        help="Forecast what this search takes: memory, features, epochs.",
        show_default=False,
    ),
]
_MARKS = {"ok": ("ok", "green"), "warning": ("look", "yellow"), "problem": ("PROBLEM", "red bold")}


@app.command()
def doctor(
    address: options.Address = None,
    storage: Storage = None,
    space: Space = None,
    data: options.Data = None,
    target: options.Target = None,
    _debug: options.Debug = False,
) -> None:
    """Look at this machine, or with --address at every node of a cluster, before a long run.

    Versions, GPUs, storage that all nodes share, room on disks, authentication, clocks, W&B; with
    --space (and --data, --target) what the search will take. Each finding says what to do. The
    exit code is 1 if there is a problem.

    Example: raymat doctor --address auto --storage /shared --space cgcnn
    """
    if space is None and (data or target):
        raise ConfigError("--data and --target are for the forecast of a search: add --space")
    from raymat.cluster.doctor import examine
    from raymat.cluster.findings import worst

    asked = None if space is None else _read(space, data, target)
    findings = examine(address, storage, asked)
    _show(findings)
    if worst(findings) == "problem":
        n = sum(finding.level == "problem" for finding in findings)
        raise UnfitError(f"{n} problem{'s' if n > 1 else ''} found; see above")


class UnfitError(ClusterError):
    """A machine or cluster that a run would fail on."""

    exit_code = 1


def _read(space: str, data: str | None, target: str | None) -> "AskedSearch":
    from raymat.cli.tune import choose_data
    from raymat.cluster.doctor import AskedSearch
    from raymat.tuning.space import read_space

    found = read_space(space)
    source, column = choose_data(found, data, target)
    return AskedSearch(found, options.absolute_source(source), column)


def _show(findings: "list[Finding]") -> None:
    from rich.table import Table
    from rich.text import Text

    from raymat.cli.results import console_for_results

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.level]
        text = Text(finding.text)
        if finding.level != "ok" and finding.advice:
            text.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(word, style=style), finding.check, text)
    console_for_results().print(table)
