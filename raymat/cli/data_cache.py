"""``raymat data cache``: the graphs and descriptors that are kept, and how much of them."""

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Source, new_table, progress, show, show_source
from raymat.data.limits import MAX_REJECTED
from raymat.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.table import Table

    from raymat.data.crystals import CrystalSet
    from raymat.features.cache_contents import CacheContents, CachedTable
    from raymat.features.table import TableConfig

app = typer.Typer(
    add_completion=False,
    help="Show, fill and clear the cache of graphs and descriptors (RAYMAT_CACHE).",
)
_KEY_LENGTH = 12
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_TIMES = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


@app.callback(invoke_without_command=True)
def cache(ctx: typer.Context) -> None:
    """Show, fill and clear the cache of graphs and descriptors (RAYMAT_CACHE).

    Example: raymat data cache limit 20GB
    """
    if ctx.invoked_subcommand is None:
        show_tables()


@app.command("show")
def show_tables(_debug: options.Debug = False) -> None:
    """List the tables, the least recently used first, their sizes, and the standing limit.

    Example: raymat data cache show
    """
    from raymat.features.cache_contents import LIMIT_VARIABLE, standing_limit

    found = _contents()
    limit = standing_limit()
    allowed = f"no limit; {LIMIT_VARIABLE}=20GB sets one" if limit is None else "limit "
    allowed += "" if limit is None else f"{size_text(limit)} ({LIMIT_VARIABLE})"
    typer.echo(f"{found.folder}: {_say_tables(found.tables)}; {allowed}")
    if found.tables:
        show(_table(found))
    for n, what in (
        (found.n_partial, "being written, or left by a killed process and removed after a day"),
        (found.n_other, "not raymat's, and never touched"),
    ):
        if n:
            typer.echo(f"also there: {n:,} {what}")


@app.command("build")
def build(
    source: Source,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME_OR_FILE", help="What the trials of a space read."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="What a model's defaults read.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="COLUMN",
            help="As the run will have it: rows without a"
            " usable one are left out, and the rows decide what is found.",
        ),
    ] = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    _debug: options.Debug = False,
) -> None:
    """Build the graphs or descriptors of a source now, so that later runs find them.

    A large set is built in shards; what was finished before an interruption is not built again.

    Example: raymat data cache build mp.parquet --space cgcnn --target band_gap
    """
    if (space is None) == (model is None):
        raise ConfigError("raymat data cache build: name either --space or --model")
    _known(space, model)  # a wrong name is told before the source is read
    from raymat.data.readers import load_crystals

    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    show_source(source, loaded.source)
    _build(_configs(space, model, loaded.crystals), loaded.crystals)


@app.command("limit")
def limit(
    size: Annotated[str, typer.Argument(metavar="SIZE", help="Such as 500MB or 20GB.")],
    _debug: options.Debug = False,
) -> None:
    """Remove the least recently used tables until the rest is no larger than SIZE.

    Example: raymat data cache limit 20GB
    """
    from raymat.features.cache_contents import over_limit, parse_size

    found = _contents()
    _remove(found, over_limit(found, parse_size(size, where="size")))


@app.command("clear")
def clear(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="TIME",
            help="Only entries unused for at least this long, such as 12h or 30d.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before everything goes.")] = False,
    _debug: options.Debug = False,
) -> None:
    """Remove all tables, or those that were not used for some time.

    A running process keeps what it has open, and builds anew what it misses.

    Example: raymat data cache clear --older-than 30d
    """
    from raymat.features import cache_contents

    found = _contents()
    if older_than is not None:
        age_s = options.parse_time_budget(older_than, name="--older-than", example="12h or 30d")
        _remove(found, cache_contents.older_than(found, age_s))
        return
    if not found.tables or yes or _is_meant(found):
        _remove(found, found.tables)
    else:
        typer.echo("nothing removed")


def _is_meant(found: "CacheContents") -> bool:
    """Ask before everything goes; where nobody answers, refuse.

    Raises:
        ConfigError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{found.folder}: this removes {_say_tables(found.tables)}, and there is no terminal to"
            " ask; add --yes, or --older-than 30d"
        )
    return typer.confirm(f"Remove all of {found.folder}: {_say_tables(found.tables)}?")


def size_text(n_bytes: int) -> str:
    """Give a number of bytes with three digits; 1 kB is 1000 B."""
    for unit, size in _UNITS:
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes} B"


def _contents() -> "CacheContents":
    from raymat.features.cache_contents import read_contents
    from raymat.features.table_cache import default_cache_folder

    return read_contents(default_cache_folder())


def _remove(found: "CacheContents", tables: "Collection[CachedTable]") -> None:
    from raymat.features.cache_contents import remove_tables

    freed = remove_tables(found.folder, tables)
    left = _contents()
    typer.echo(f"{found.folder}: {size_text(freed)} removed; {_say_tables(left.tables)} left")


def _say_tables(tables: "Collection[CachedTable]") -> str:
    n = len(tables)
    return f"{n:,} table{'s' * (n != 1)}, {size_text(sum(table.n_bytes for table in tables))}"


def _table(found: "CacheContents") -> "Table":
    table = new_table("Tables", "Kind", "crystals", "size", "last used", "Parameters", "Key")
    for one in found.tables:
        values = ", ".join(f"{name} {_short(value)}" for name, value in one.config.items())
        age = _age_text(time.time() - one.last_use)
        size = size_text(one.n_bytes)
        table.add_row(one.kind, f"{one.n_crystals:,}", size, age, values, one.key[:_KEY_LENGTH])
    return table


def _short(value: object) -> str:
    return f"({len(value)})" if isinstance(value, list) else str(value)


def _age_text(seconds: float) -> str:
    for unit, size in _TIMES:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "now"


def _known(space: str | None, model: str | None) -> None:
    if space is not None:
        from raymat.tuning.space import read_space

        read_space(space)
    else:
        from raymat.tuning.trial_config import config_sections

        config_sections(model, where="--model")


def _configs(
    space: str | None, model: str | None, crystals: "CrystalSet"
) -> "tuple[TableConfig, ...]":
    from raymat.tuning.space_features import tables_of, tables_to_build

    if space is not None:
        from raymat.tuning.space import read_space

        return tables_to_build(read_space(space).decided_by(crystals))
    from raymat.tuning.trial_config import build_trial_config

    config = build_trial_config(str(model), {}, where="--model")
    return tables_of([config.decided_by(crystals)])


def _check_stored(key: str) -> None:
    """Refuse to call it done where the cache holds nothing.

    Raises:
        RunError: the table is not there; why, was a warning before.
    """
    from raymat.features.table_cache import default_cache_folder

    folder = default_cache_folder()
    if not (folder / key).exists():
        raise RunError(
            f"{folder}: the table is not kept there; make room, or set RAYMAT_CACHE to a folder"
            " that can be written"
        )


def _build(configs: "tuple[TableConfig, ...]", crystals: "CrystalSet") -> None:
    from raymat.cluster.connect import ray_session
    from raymat.cluster.features import find_or_build_table
    from raymat.features.table_cache import table_key

    with ray_session(None):
        for config in configs:
            with progress() as tell:
                table = find_or_build_table(
                    crystals, config, on_progress=partial(tell, config.kind)
                )
            _check_stored(table_key(crystals, config))
            typer.echo(table.line())
    typer.echo(f"{_contents().folder}: {_say_tables(_contents().tables)}")
