"""``raymat data properties``: which provider carries which standard property, and how."""

from typing import Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import new_table, show
from raymat.errors import ConfigError, did_you_mean


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
    from raymat.properties import PROVIDER_FIELDS, find_property
    from raymat.sources.providers import PROVIDERS

    if provider is not None and provider not in PROVIDERS:
        hint = did_you_mean(provider, PROVIDERS)
        raise ConfigError(f"--provider {provider}: no such provider{hint}")
    prefix = PROVIDERS[provider].prefix if provider else None
    found = [f for f in PROVIDER_FIELDS if prefix in (None, f.provider)]
    if not found:
        typer.echo(
            f"{provider}: carries no standard property; ask for its own fields _{prefix}_..."
        )
        return
    table = new_table("", "Property", "Unit", "Provider", "Field", "Conversion", "Method")
    for entry in found:
        by = "" if entry.interface == "optimade" else " (mp-api, needs a key)"
        unit = find_property(entry.property).unit
        table.add_row(
            entry.property, unit, entry.provider + by, entry.field, entry.conversion, entry.method
        )
    show(table)
