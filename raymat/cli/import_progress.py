"""Progress of an import on the terminal: files or rows done, speed, time left."""

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import LiveProgress, bar
from raymat.cli.progress_text import say_duration

if TYPE_CHECKING:
    from raymat.tracking.events import Event


class ImportProgress(LiveProgress):
    """A listener that shows an import; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.items = "rows"
        self.done, self.found, self.rows, self.good = 0, 0, 0, 0
        self._started = time.time()

    def status(self) -> str:
        """Give everything in one line."""
        if not self.total:
            return self.phase
        counts = f"{self.done:,} of {self.total:,} {self.items}"
        parsed = f"{self.good:,} crystals parsed, {self.rows - self.good:,} unusable"
        before = f", {self.found:,} {self.items} parsed before" if self.found else ""
        return f"{counts}: {parsed}{before}; {self.say_time(time.time())}"

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times."""
        head = Text.assemble(("import", "bold"), "  ", self.phase)
        if not self.total:
            return head
        return Group(head, bar(self.done, self.total), Text(self.status()))

    def say_time(self, now: float) -> str:
        """Give throughput, elapsed and remaining time."""
        elapsed = now - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        parsed = self.done - self.found
        if self.rows:
            parts.insert(0, f"{self.rows / max(elapsed, 1e-3):,.0f} crystals/s")
        if parsed and self.done < self.total:
            parts.append(f"about {say_duration(elapsed / parsed * (self.total - self.done))} left")
        return ", ".join(parts)

    def _take_opening(self, event: "Event") -> None:
        del event
        self.phase = "looking at the source"

    def _take_import_started(self, event: "Event") -> None:
        self.total, self.items = event["total"], event["items"]
        self._started = time.time()
        self.phase = "parsing"
        self.say(f"import: {self.total:,} {self.items}")

    def _take_part_found(self, event: "Event") -> None:
        self.done += event["items"]
        self.found += event["items"]

    def _take_part_ended(self, event: "Event") -> None:
        self.done += event["items"]
        self.rows += event["rows"]
        self.good += event["good"]

    def _take_joining(self, event: "Event") -> None:
        del event
        self.phase = "joining the parts"
