"""Progress of an ensemble on the terminal: members done, time left, failures as they come."""

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import LiveProgress, bar
from raymat.cli.progress_text import (
    say_data,
    say_duration,
    say_features,
    say_gpu_share,
    say_left_out,
    with_unit,
)

if TYPE_CHECKING:
    from raymat.tracking.events import Event

MAX_SHOWN_MEMBERS = 12


class EnsembleProgress(LiveProgress):
    """A listener that shows the training of an ensemble; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.done, self.failed, self.retried, self.epochs = 0, 0, 0, 1
        self.running: dict[int, int] = {}  # member -> epochs done
        self.scores: list[float] = []
        self.unit = ""
        self._done_before = 0.0
        self._started = time.time()

    def status(self) -> str:
        """Give everything in one line."""
        if not self.total:
            return self.phase
        failed = f", {self.failed} failed" if self.failed else ""
        retried = f", {self.retried} tried again" if self.retried else ""
        parts = [f"{self.done} of {self.total} members{failed}{retried}", self.say_score()]
        return "; ".join(part for part in (*parts, self.say_time(time.time())) if part)

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times, and the running members."""
        head = Text.assemble(("ensemble", "bold"), "  ", self.phase)
        if not self.total:
            return head
        shown = list(self.running.items())[:MAX_SHOWN_MEMBERS]
        members = [
            Text(f"  member {number}  epoch {epoch} of {self.epochs}", style="dim")
            for number, epoch in shown
        ]
        return Group(head, bar(self.members_done(), self.total), Text(self.status()), *members)

    def members_done(self) -> float:
        """Members that need no more work, and the parts of the running ones."""
        return self.done + self.failed + sum(self.running.values()) / self.epochs

    def say_score(self) -> str:
        """Give the members' mean validation score so far."""
        if not self.scores:
            return ""
        mean = sum(self.scores) / len(self.scores)
        return f"validation {self.score_name} of a member {with_unit(mean, self.unit)}"

    def say_time(self, now: float) -> str:
        """Give elapsed and remaining time."""
        elapsed = now - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        progress = self.members_done() - self._done_before
        if progress > 0 and self.running:
            left = elapsed / progress * (self.total - self.members_done())
            parts.append(f"about {say_duration(left)} left")
        return ", ".join(parts)

    def _take_data(self, event: "Event") -> None:
        self.unit = event["unit"]
        self.score_name = "AUC" if event["task"] == "classification" else "MAE"
        self.phase = "preparing features and workers"
        for line in say_data(event):
            self.say(line)

    def _take_features(self, event: "Event") -> None:
        self.phase = f"building features: {event['done']:,} of {event['total']:,} crystals"

    def _take_features_ready(self, event: "Event") -> None:
        self.say(say_features(event))

    def _take_gpu_share(self, event: "Event") -> None:
        self.say(say_gpu_share(event))

    def _take_left_out(self, event: "Event") -> None:
        self.say(say_left_out(event))

    def _take_warning(self, event: "Event") -> None:
        self.say(f"warning: {event['text']}")

    def _take_ensemble_started(self, event: "Event") -> None:
        self.total, self.done, self.epochs = event["members"], event["done"], event["epochs"]
        self.failed = event["failed"]  # of a run that is resumed
        self._done_before, self._started = self.done + self.failed, time.time()
        self.phase = "training members"
        before = f", {self.done} of them trained before" if self.done else ""
        rows = f"{event['n_train']:,} training rows each"
        self.say(f"ensemble: {self.total} members of up to {self.epochs} epochs, {rows}{before}")

    def _take_member_started(self, event: "Event") -> None:
        self.running[event["member"]] = 0

    def _take_member_epochs(self, event: "Event") -> None:
        self.running = {int(number): epoch for number, epoch in event["epochs"].items()}

    def _take_member_ended(self, event: "Event") -> None:
        self.running.pop(event["member"], None)
        self.done += 1
        self.scores.append(event["row"]["val_score"])

    def _take_member_failed(self, event: "Event") -> None:
        self.running.pop(event["member"], None)
        again = event.get("again", event["attempt"] == 0)
        self.retried += again
        self.failed += not again
        seed = "the same seed" if event.get("died") else "another seed"
        then = f"; it is tried again with {seed}" if again else "; it is left out"
        self.say(f"member {event['member']} failed: {event['error']}{then}", style="red")

    def _take_calibrating(self, event: "Event") -> None:
        del event
        self.phase = "scoring and calibrating"

    def _take_mapping_latents(self, event: "Event") -> None:
        del event
        self.phase = "mapping the latent space"
