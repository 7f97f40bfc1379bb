"""``raymat data properties``: which provider carries which standard property, and how."""

from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
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
    from raymat.properties import fields_of, find_property

    found = fields_of(provider.prefix)
    if not found:
        own = f"carries no standard property; its own fields begin with _{provider.prefix}_"
        typer.echo(f"{provider.name}: {provider.title}; {own}")
        return
    typer.echo(f"{provider.name}: {provider.title}, {provider.base_url}")
    width = max(map(len, found))
    for name, field in found.items():
        unit = find_property(name).unit or "-"
        by = " (mp-api, needs a key)" if field.interface == "mp-api" else ""
        how = field.method + ("" if field.conversion == "as given" else f"; {field.conversion}")
        typer.echo(f"  {name:{width}}  {unit:10}  {field.field}{by}")
        typer.echo(f"  {'':{width}}  {how}")
