"""Progress and result of ``raymat contributions`` on the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from raymat.cli.live import LiveProgress
from raymat.cli.results import console_for_results
from raymat.data.writers import read_own_csv
from raymat.errors import RunError
from raymat.reports.drawing import with_unit
from raymat.reports.number_text import n_decimals

if TYPE_CHECKING:
    from raymat.tracking.events import Event

_SHOWN_ENDS = 5  # elements with the lowest, and with the highest mean
_FILES = ("contributions.parquet", "elements.csv", "pairs.csv", "rejected.csv")


class ContributionsProgress(LiveProgress):
    """A listener that says what is done at the moment; use as a context manager around it."""

    def status(self) -> str:
        """Give everything in one line."""
        return self.phase

    def render(self) -> Text:
        """Draw the live display."""
        return Text.assemble(("contributions", "bold"), "  ", self.phase)

    def _take_reading(self, event: "Event") -> None:
        del event
        self.phase = "reading crystals"

    def _take_contributions_started(self, event: "Event") -> None:
        self.phase = f"evaluating {event['crystals']:,} crystals"

    def _take_drawing(self, event: "Event") -> None:
        del event
        self.phase = "drawing"

    def _take_warning(self, event: "Event") -> None:
        self.say(f"warning: {event['text']}")


def show_contributions(metrics: dict[str, Any], run: Path, *, quiet: bool = False) -> None:
    """Print the elements of a run, unless `quiet`, and what it left.

    Raises:
        RunError: its table of elements cannot be read.
    """
    if not quiet:
        title = with_unit(f"contributions to {metrics['target']}", metrics["unit"])
        elements = _read_elements(run / "elements.csv")
        console_for_results().print(element_table(elements, title))
    typer.echo(_say_result(metrics))
    pictures = sorted(path.name for path in run.glob("*.png"))
    found = [name for name in (*_FILES, *pictures) if (run / name).exists()]
    typer.echo(f"files: {run}/ ({', '.join(found)})")


def element_table(elements: pd.DataFrame, title: str) -> Table:
    """Give the elements with the lowest and the highest means, by their mean."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("element")
    for name in ("sites", "mean", "std", "from", "to"):
        table.add_column(name, justify="right")
    ordered = elements.sort_values("mean", kind="stable").reset_index(drop=True)
    decimals = n_decimals(ordered["mean"])
    n_hidden = max(0, len(ordered) - 2 * _SHOWN_ENDS)
    for number, row in enumerate(ordered.to_dict("records")):
        if not _SHOWN_ENDS <= number < _SHOWN_ENDS + n_hidden:
            cells = (f"{row[name]:.{decimals}f}" for name in ("mean", "std", "min", "max"))
            table.add_row(row["element"], f"{row['n_sites']:,}", *cells)
        elif number == _SHOWN_ENDS:
            table.add_row("…", f"({n_hidden} more)")
    return table


def _read_elements(path: Path) -> pd.DataFrame:
    try:
        return read_own_csv(path)
    except (OSError, ValueError) as cause:
        raise RunError(f"{path}: cannot be read ({cause})") from cause


def _say_result(metrics: dict[str, Any]) -> str:
    own = metrics["contributions"]
    rejected = f", {own['rejected']:,} rejected" if own["rejected"] else ""
    unit = f" {metrics['unit']}" if metrics["unit"] else ""
    return (
        f"{own['sites']:,} sites of {own['crystals']:,} crystals{rejected}: from"
        f" {own['lowest']:.4g} to {own['highest']:.4g}{unit}"
    )
