"""Progress of a comparison on the terminal: cells done, time left, and every result as it comes."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymat.cli.progress_text import (
    say_classes,
    say_duration,
    say_left_out,
    say_unseen_elements,
    with_unit,
)

if TYPE_CHECKING:
    from raymat.tracking.events import Event

STATUS_EVERY_S = 30.0
BAR_WIDTH = 60


class CompareProgress:
    """A listener that shows a comparison; use as a context manager around it.

    Args:
        quiet: show nothing.
        console: where to show it; standard error if None.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet, self.console = quiet, console or Console(stderr=True)
        self.has_begun = False
        self.phase = "starting"
        self.total, self.done, self.failed = 0, 0, 0
        self.running: dict[str, float] = {}
        self._first_done = 0
        self._started = time.time()
        self._live: Live | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if not self.quiet and self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self.render,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if not self.quiet and self.total:
            self._write(self.status())

    def __call__(self, event: "Event") -> None:
        """Take one event of the run."""
        self.has_begun = True
        handler = getattr(self, f"_take_{event['event']}", None)
        if handler is not None:
            handler(event)
        if not self.quiet and self._live is None and self._is_status_due():
            self._write(self.status())

    def status(self) -> str:
        """Give everything in one line."""
        if not self.total:
            return self.phase
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} cells done{failed}; {self._say_time()}"

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times, and the running cells."""
        head = Text.assemble(("compare", "bold"), "  ", self.phase)
        if not self.total:
            return head
        bar = Table.grid()
        bar.add_row(ProgressBar(total=self.total, completed=self.done, width=BAR_WIDTH))
        now = time.time()
        cells = [
            Text(f"  {name}  {say_duration(now - begun)}", style="dim")
            for name, begun in self.running.items()
        ]
        return Group(head, bar, Text(self.status()), *cells)

    def _take_features(self, event: "Event") -> None:
        if self.total:  # tables are looked up once more when a cell needs them
            return
        self.phase = f"preparing features: {event['done']:,} of {event['total']:,} crystals"

    def _take_comparison_started(self, event: "Event") -> None:
        self.total, self.done = event["cells"], event["done"]
        self._first_done, self._started, self.phase = self.done, time.time(), "running cells"
        if not self.quiet:
            before = f", {self.done} of them done before" if self.done else ""
            self._write(f"comparison: {self.total} cells{before}")

    def _take_warning(self, event: "Event") -> None:
        if not self.quiet:
            self._write(f"warning: {event['text']}")

    def _take_inputs(self, event: "Event") -> None:
        rows = event["split"]["rows"]
        parts = f"{rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test"
        self._say(f"{event['group']}: {parts}; {event['leakage_line']}")
        for line in (*say_classes(event), *say_unseen_elements(event)):
            self._say(line)

    def _take_left_out(self, event: "Event") -> None:
        self._say(f"{say_left_out(event)}; for all models")

    def _take_cell_started(self, event: "Event") -> None:
        self.running[event["cell"]] = time.time()

    def _take_cell_failed(self, event: "Event") -> None:
        self.running.pop(event["cell"], None)
        self.failed += 1
        if not self.quiet:
            self._write(f"{event['cell']} failed: {event['error']}", style="red")

    def _take_cell_ended(self, event: "Event") -> None:
        self.running.pop(event["cell"], None)
        self.done += 1
        if not self.quiet:
            self._write(say_cell(event["cell"], event["row"]))

    def _is_status_due(self) -> bool:
        return bool(self.total) and time.time() - self._last_line >= STATUS_EVERY_S

    def _say_time(self) -> str:
        elapsed = time.time() - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        ended = self.done + self.failed - self._first_done
        if ended and self.running:
            left = elapsed / ended * (self.total - self.done - self.failed)
            parts.append(f"about {say_duration(left)} left")
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        if not self.quiet:
            self._write(line)

    def _write(self, line: str, *, style: str = "dim") -> None:
        self._last_line = time.time()
        self.console.print(Text(line, style=style), soft_wrap=not self.console.is_terminal)


def say_cell(name: str, row: "Event") -> str:
    """Give one line on a finished cell."""
    is_class = row["task"] == "classification"
    score = f"test AUC {row['auc']:.4g}" if is_class else f"test MAE {_mae(row)}"
    trials = f"{row['n_trials']} trial" + ("s" if row["n_trials"] != 1 else "")
    return f"{name}: {score} ({trials}, {say_duration(row['search_time_s'])} of training)"


def _mae(row: "Event") -> str:
    return with_unit(row["mae"], row["unit"])
