"""``raymat data properties``: which provider carries which standard property, and how."""

from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import new_table, show
from raymat.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.sources.databases.providers import Provider


def properties(
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="Only what this provider carries.",
            show_default=False,
        ),
    ] = None,
    _debug: options.Debug = False,
) -> None:
    """List the standard properties that `raymat data fetch` knows where to find.

    Example: raymat data properties --provider oqmd
    """
    from raymat.sources.databases.providers import PROVIDERS

    if provider is not None and provider not in PROVIDERS:
        hint = did_you_mean(provider, PROVIDERS)
        raise ConfigError(f"--provider {provider}: no such provider{hint}")
    for found in PROVIDERS.values():
        if provider in (None, found.name):
            _show(found)


def _show(provider: "Provider") -> None:
    from raymat.properties import fields_of

    if fields_of(provider.prefix):
        show(_table(provider))
    else:
        own = f"carries no standard property; its own fields begin with _{provider.prefix}_"
        typer.echo(f"{provider.name}: {provider.title}; {own}")


def _table(provider: "Provider") -> "Table":
    from raymat.properties import fields_of, find_property

    title = f"{provider.name}: {provider.title}, {provider.base_url}"
    table = new_table(title, "Property", "Unit", "Field", "Method")
    table.columns[2].overflow = "fold"  # to be copied whole
    for name, found in fields_of(provider.prefix).items():
        by = " (mp-api, needs a key)" if found.interface == "mp-api" else ""
        how = found.method + ("" if found.conversion == "as given" else f"; {found.conversion}")
        table.add_row(name, find_property(name).unit, f"{found.field}{by}", how)
    return table
