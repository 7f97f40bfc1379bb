"""``raymat data``: bring crystals in, look at them, keep what was computed of them."""

import typer

from raymat.cli.data_cache import app as cache
from raymat.cli.data_check import check
from raymat.cli.data_describe import describe
from raymat.cli.data_duplicates import duplicates
from raymat.cli.data_fetch import fetch
from raymat.cli.data_import import import_
from raymat.cli.data_properties import properties

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Bring crystals in, check them, look at them.",
)
app.command("import")(import_)
app.command()(fetch)
app.command()(properties)
app.command()(check)
app.command()(describe)
app.command()(duplicates)
app.add_typer(cache, name="cache")
