"""Progress of a fetch on the terminal: pages, entries, what the server makes us wait for."""

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import LiveProgress, bar
from raymat.cli.progress_text import say_duration

if TYPE_CHECKING:
    from raymat.tracking.events import Event


class FetchProgress(LiveProgress):
    """A listener that shows a fetch; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.pages, self.entries, self.rejected = 0, 0, 0
        self._before = 0
        self._started = time.time()

    def status(self) -> str:
        """Give everything in one line."""
        of_all = f" of {self.total:,}" if self.total else ""
        counts = f"{self.entries:,}{of_all} entries on {self.pages:,} pages"
        return f"{counts}, {self.rejected:,} rejected; {self._say_time(time.time())}"

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times."""
        head = Text.assemble(("fetch", "bold"), "  ", self.phase)
        if not self.total:
            return Group(head, Text(self.status()))
        return Group(head, bar(min(self.entries, self.total), self.total), Text(self.status()))

    def _say_time(self, now: float) -> str:
        elapsed = now - self._started
        done = self.entries - self._before
        parts = [f"{done / max(elapsed, 1e-3):,.0f} entries/s", f"{say_duration(elapsed)} elapsed"]
        if done and self.total > self.entries:
            left = elapsed / done * (self.total - self.entries)
            parts.append(f"about {say_duration(left)} left")
        return ", ".join(parts)

    def _take_fetch_started(self, event: "Event") -> None:
        self._count(event)
        self._before, self._started = self.entries, time.time()
        self.phase = f"asking {event['provider']}"
        if self.pages:
            self.say(f"going on: {self.entries:,} entries on {self.pages:,} pages are here already")

    def _take_page_fetched(self, event: "Event") -> None:
        self._count(event)
        self.phase = f"asking {event['provider']}"

    def _take_fetch_waits(self, event: "Event") -> None:
        self.phase = "waiting"
        self.say(event["line"], style="yellow")

    def _take_fetch_joins(self, _event: "Event") -> None:
        self.phase = "joining the pages"

    def _count(self, event: "Event") -> None:
        self.pages, self.entries = event["pages"], event["entries"]
        self.rejected, self.total = event["rejected"], event["found"] or 0
