"""``raymat data check``: what is wrong with the rows of a source."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Sources, Target, new_table, show, show_source
from raymat.cli.outputs import prepare_files, refuse_run_folder, source_stem
from raymat.data.limits import MAX_REJECTED
from raymat.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from raymat.data.survey import Survey


def check(
    sources: Sources,
    target: Target = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for rejected.csv; of several sources, NAME-rejected.csv each.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    _debug: options.Debug = False,
) -> None:
    """Say what is wrong with the rows of each source; exit 2 if too many cannot be used.

    With --target also if no model can be trained on it: too few rows, or all values equal.

    Parquet is read a few rows at a time, so a file may be larger than the memory.

    Example: raymat data check elastic.parquet --target log10_G_VRH
    """
    lists = [None] * len(sources) if out is None else _lists(out, sources)
    prepare_files(*filter(None, lists), overwrite=overwrite, option="--out")
    problems = []
    for source, path in zip(sources, lists, strict=True):
        try:
            _check(source, target, max_rejected, path)
        except DataError as problem:
            problems.append(problem)
    if len(problems) > 1:
        counted = f"{len(problems)} of {len(sources)} sources cannot be used; the first:"
        raise DataError(f"{counted} {problems[0]}")
    if problems:
        raise problems[0]


def _check(source: str, target: str | None, max_rejected: float, path: Path | None) -> None:
    from raymat.data.survey import survey

    with _listing(path) as add:
        found = survey(source, target=target, on_rejected=add)
    show_source(source, found.source)
    if found.source.n_rejected:
        show(_reason_table(found), _row_table(found))
    found.check_share(source, max_rejected)
    if found.prop is not None and (line := found.prop.say_classes()):
        typer.echo(line)
    if found.unlearnable and target is not None:
        raise DataError(f"{source}: {found.unlearnable}")
    if found.unlearnable:
        typer.echo(f"note: {found.unlearnable}")


def _lists(out: Path, sources: list[str]) -> list[Path]:
    """Give where the rejected rows of each source are listed; a single one needs no name.

    Raises:
        ConfigError: two sources have one name, or the folder is that of a run.
    """
    names = [source_stem(source) for source in sources]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(
            f"--out {out}: two sources are called {repeated}; check them one at a time"
        )
    refuse_run_folder(out)
    if len(names) == 1:
        return [out / "rejected.csv"]
    return [out / f"{name}-rejected.csv" for name in names]


@contextmanager
def _listing(path: Path | None) -> "Iterator[Callable[[pd.DataFrame], None]]":
    from raymat.data.writers import writing_rejected

    if path is None:
        yield lambda _rows: None
        return
    with writing_rejected(path) as add:
        yield add


def _reason_table(found: "Survey") -> "Table":
    table = new_table("Why rows cannot be used", "rows", "Reason")
    for kind, n in found.reasons.items():
        table.add_row(f"{n:,}", kind)
    return table


def _row_table(found: "Survey") -> "Table":
    n, shown = found.source.n_rejected, len(found.first)
    title = "All of them" if n <= shown else f"The first {shown} of {n:,}"
    table = new_table(title, "Crystal", "Reason")
    for row in found.first.itertuples():
        table.add_row(str(row.material_id), str(row.reason))
    return table
