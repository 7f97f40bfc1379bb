"""``raymat runs``: the runs of a folder."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raymat.cli import options
from raymat.errors import ConfigError, RaymatError, RunError, did_you_mean, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from raymat.reports.run_status import RunStatus

app = typer.Typer(add_completion=False)

Order = Literal["date", "run", "command", "status", "target", "score"]
Row = dict[str, str]
# Columns in the order of the table; those that are worth the least width are left out first.
_COLUMNS = ("run", "command", "status", "done", "result", "target", "unit", "model", "data", "date")
_LEFT_OUT_FIRST = ("unit", "data", "done", "date", "model", "command", "target")
_GAP = 2  # characters between columns
_FOLDED = 50  # characters above which a cell may take several lines


_Command = Annotated[
    str | None,
    typer.Option(
        "--command",
        metavar="NAME",
        help="Only runs of one command, such as tune.",
        show_default=False,
    ),
]
_Target = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="Only runs of one target.", show_default=False),
]
_Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Only runs of one status: running, complete, interrupted, failed or dead (said to be"
        " running, but its process has ended).",
        show_default=False,
    ),
]
_Sort = Annotated[
    Order,
    typer.Option(
        "--sort",
        metavar="COLUMN",
        help="date (the newest first), run, command, status, target, or score (the best first"
        " within each target and set of test rows).",
    ),
]
_Best = Annotated[
    str | None,
    typer.Option(
        "--best",
        metavar="TARGET",
        help="Show the complete runs that have a test score of this target, the best first, and"
        " which of them can be compared.",
        show_default=False,
    ),
]


@app.command()
def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs.", show_default=True)
    ] = Path("runs"),
    command: _Command = None,
    target: _Target = None,
    status: _Status = None,
    sort: _Sort = "date",
    best: _Best = None,
    _debug: options.Debug = False,
) -> None:
    """List the runs in a folder: what each is about, how far it is and what came out.

    Columns that do not fit into the terminal are left out.

    Example: raymat runs --command tune --target log10_K_VRH --sort score
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name the one that runs lie in")
    found, damaged = _read(folder)
    if best is not None:
        _show_best(found, best, folder)
        return
    asked = {"command": command, "target": target, "status": status}
    for name, value in asked.items():
        found = _filtered(found, name, value, folder)
    rows = [_row(one) for one in sorted(found, key=_ORDERS[sort])]
    if not any(asked.values()):
        rows += damaged
    if rows:
        _print(rows)
    else:
        typer.echo(f"{folder}: no runs")


def _read(folder: Path) -> "tuple[list[RunStatus], list[Row]]":
    """Return the runs, the newest first, and rows on those that cannot be read."""
    from raymat.reports.run_status import find_runs, read_status

    found, damaged = [], []
    for path in find_runs(folder):
        try:
            found.append(read_status(path))
        except RaymatError as error:
            damaged.append({"run": path.name, "status": "damaged", "result": one_line(error)})
    return found, damaged


def _value_of(one: "RunStatus", name: str) -> str:
    return {"command": one.command, "target": one.facts.target, "status": one.status}[name]


def _filtered(
    found: "list[RunStatus]", name: str, value: str | None, folder: Path
) -> "list[RunStatus]":
    """Return the runs with this value.

    Raises:
        ConfigError: there are runs, but none has it.
    """
    kept = [one for one in found if value in (None, _value_of(one, name))]
    if found and not kept:
        known = {_value_of(one, name) for one in found} - {""}
        raise ConfigError(
            f"--{name} {value}: no such run in {folder}{did_you_mean(value or '', known)}"
        )
    return kept


def _by_score(one: "RunStatus") -> tuple[object, ...]:
    if one.score is None:
        return (1,)
    return (0, one.facts.target, str(one.score.rows), one.score.badness, one.path.name)


_ORDERS: "dict[str, Callable[[RunStatus], tuple[object, ...]]]" = {
    "date": lambda _: (),  # as they were found
    "run": lambda one: (one.path.name,),
    "command": lambda one: (one.command,),
    "status": lambda one: (one.status,),
    "target": lambda one: (one.facts.target,),
    "score": _by_score,
}


def _row(one: "RunStatus") -> Row:
    facts = one.facts
    done = f"{one.done:,}/{one.total:,} {one.word}" if one.total else ""
    return {
        "run": one.path.name,
        "command": one.command,
        "status": one.status,
        "done": done,
        "result": one.headline or one.best,
        "target": facts.target,
        "unit": facts.unit,
        "model": facts.model,
        "data": facts.data,
        "date": facts.started,
    }


def _print(rows: Sequence[Row], columns: Sequence[str] = _COLUMNS) -> None:
    from rich.markup import escape
    from rich.table import Table

    from raymat.cli.results import console_for_results
    from raymat.text import plain

    console = console_for_results()
    table = Table(box=None, pad_edge=False)
    shown = _fitting(rows, columns, console)
    for name in shown:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(plain(row.get(name, ""))) for name in shown))
    console.print(table)


def _fitting(rows: Sequence[Row], columns: Sequence[str], console: "Console") -> list[str]:
    """Return the columns that hold something and fit into the width together."""
    shown = [name for name in columns if any(row.get(name) for row in rows)]
    widths = {
        name: max(len(name), *(min(len(row.get(name, "")), _FOLDED) for row in rows))
        for name in shown
    }
    for name in _LEFT_OUT_FIRST:
        if sum(widths[other] + _GAP for other in shown) - _GAP <= console.width:
            break
        shown = [other for other in shown if other != name]
    return shown


def _show_best(found: "list[RunStatus]", target: str, folder: Path) -> None:
    """Print the scored runs of a target in groups that can be compared, the best first.

    Raises:
        ConfigError: there is none.
    """
    scored = [one for one in found if one.score is not None and one.status == "complete"]
    own = [one for one in scored if one.facts.target == target]
    if not own:
        known = {one.facts.target for one in scored}
        raise ConfigError(
            f"--best {target}: no complete run in {folder} has a test score of it"
            f"{did_you_mean(target, known)}"
        )
    own = sorted(own, key=_by_score)
    groups = list(dict.fromkeys(one.score.rows for one in own if one.score))
    letters = {rows: _letter(number) for number, rows in enumerate(groups)}
    rows = [{**_row(one), "rows": letters[one.score.rows]} for one in own if one.score]
    _print(rows, ("rows", "run", "command", "result", "model", "data", "date"))
    for group, letter in letters.items():
        members = [one for one in own if one.score and one.score.rows == group]
        typer.echo(_say_best(members, letter if len(groups) > 1 else ""))
    if len(groups) > 1:
        typer.echo(
            "Scores of different letters cannot be compared: other data, another split or another"
            " threshold."
        )


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _say_best(members: "Sequence[RunStatus]", letter: str) -> str:
    best, n = members[0], len(members)
    where = f" on rows {letter}" if letter else ""
    model = best.path if best.command == "ensemble" else best.path / "best"
    among = f" of {n} runs; picked by its test score, which therefore flatters" if n > 1 else ""
    return (
        f"best{where}: {best.path.name}, {best.headline}{among}\n"
        f"  predict with it: raymat predict --model {shlex.quote(str(model))} CRYSTALS"
    )
