"""Progress of a comparison on the terminal: cells done, time left, and every result as it comes."""

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import LiveProgress, bar
from raymat.cli.progress_text import (
    say_classes,
    say_duration,
    say_left_out,
    say_unseen_elements,
    with_unit,
)
from raymat.cli.results import number

if TYPE_CHECKING:
    from raymat.tracking.events import Event


class CompareProgress(LiveProgress):
    """A listener that shows a comparison; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.done, self.failed = 0, 0
        self.running: dict[str, float] = {}
        self._first_done = 0
        self._started = time.time()

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
        now = time.time()
        cells = [
            Text(f"  {name}  {say_duration(now - begun)}", style="dim")
            for name, begun in self.running.items()
        ]
        return Group(head, bar(self.done, self.total), Text(self.status()), *cells)

    def _take_features(self, event: "Event") -> None:
        if self.total:  # tables are looked up once more when a cell needs them
            return
        self.phase = f"preparing features: {event['done']:,} of {event['total']:,} crystals"

    def _take_comparison_started(self, event: "Event") -> None:
        self.total, self.done = event["cells"], event["done"]
        self._first_done, self._started, self.phase = self.done, time.time(), "running cells"
        before = f", {self.done} of them done before" if self.done else ""
        self.say(f"comparison: {self.total} cells{before}")

    def _take_warning(self, event: "Event") -> None:
        self.say(f"warning: {event['text']}")

    def _take_inputs(self, event: "Event") -> None:
        rows = event["split"]["rows"]
        parts = f"{rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test"
        self.say(f"{event['group']}: {parts}; {event['leakage_line']}")
        for line in (*say_classes(event), *say_unseen_elements(event)):
            self.say(line)

    def _take_left_out(self, event: "Event") -> None:
        self.say(f"{say_left_out(event)}; for all models")

    def _take_cell_started(self, event: "Event") -> None:
        self.running[event["cell"]] = time.time()

    def _take_cell_failed(self, event: "Event") -> None:
        self.running.pop(event["cell"], None)
        self.failed += 1
        self.say(f"{event['cell']} failed: {event['error']}", style="red")

    def _take_cell_ended(self, event: "Event") -> None:
        self.running.pop(event["cell"], None)
        self.done += 1
        self.say(say_cell(event["cell"], event["row"]))

    def _say_time(self) -> str:
        elapsed = time.time() - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        ended = self.done + self.failed - self._first_done
        if ended and self.running:
            left = elapsed / ended * (self.total - self.done - self.failed)
            parts.append(f"about {say_duration(left)} left")
        return ", ".join(parts)


def say_cell(name: str, row: "Event") -> str:
    """Give one line on a finished cell."""
    is_class = row["task"] == "classification"
    score = f"test AUC {number(row['auc'])}" if is_class else f"test MAE {_mae(row)}"
    trials = f"{row['n_trials']} trial" + ("s" if row["n_trials"] != 1 else "")
    return f"{name}: {score} ({trials}, {say_duration(row['search_time_s'])} of training)"


def _mae(row: "Event") -> str:
    return with_unit(row["mae"], row["unit"])
