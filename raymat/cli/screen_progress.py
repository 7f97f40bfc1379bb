"""Progress of a screening on the terminal: candidates done, speed, time left."""

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import LiveProgress, bar
from raymat.cli.progress_text import say_duration

if TYPE_CHECKING:
    from raymat.tracking.events import Event


class ScreenProgress(LiveProgress):
    """A listener that shows a screening; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.candidates, self.done, self.judged, self.excluded = 0, 0, 0, 0
        self._done_before, self._member_atoms = 0, 0
        self._started = time.time()

    def status(self) -> str:
        """Give everything in one line."""
        if not self.total:
            return self.phase
        counts = f"{self.done} of {self.total} shards, {self.judged:,} candidates judged"
        return f"{counts}, {self.excluded:,} excluded; {self.say_time(time.time())}"

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times."""
        head = Text.assemble(("screen", "bold"), "  ", self.phase)
        if not self.total:
            return head
        return Group(head, bar(self.done, self.total), Text(self.status()))

    def say_time(self, now: float) -> str:
        """Give throughput, elapsed and remaining time."""
        elapsed = now - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        if self._member_atoms:
            parts.insert(0, f"{self._member_atoms / max(elapsed, 1e-3):,.0f} member-atoms/s")
        progress = self.done - self._done_before
        if progress and self.done < self.total:
            left = elapsed / progress * (self.total - self.done)
            parts.append(f"about {say_duration(left)} left")
        return ", ".join(parts)

    def _take_screening_started(self, event: "Event") -> None:
        self.total, self.done, self.candidates = event["shards"], event["done"], event["candidates"]
        self.judged, self.excluded = event["judged"], event["excluded"]
        self._done_before, self._started = self.done, time.time()
        self.phase = "screening"
        before = f", {self.done} of them done before" if self.done else ""
        self.say(f"screening: {self.candidates:,} candidates in {self.total} shards{before}")

    def _take_shard_ended(self, event: "Event") -> None:
        self.done += 1
        self.judged += event["judged"]
        self.excluded += event["excluded"]
        self._member_atoms += event["member_atoms"]

    def _take_warning(self, event: "Event") -> None:
        self.say(f"warning: {event['text']}")

    def _take_ranking(self, event: "Event") -> None:
        del event
        self.phase = "ranking"
