"""Progress of an explanation run on the terminal: classifiers, explanations, time left."""

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from raymat.cli.live import STATUS_EVERY_S, LiveProgress, bar
from raymat.cli.progress_text import say_data, say_duration, say_features

if TYPE_CHECKING:
    from raymat.tracking.events import Event


MAX_SHOWN_TASKS = 12


class ExplainProgress(LiveProgress):
    """A listener that shows an explanation run; use as a context manager around it."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.done, self.failed, self.attempts = 0, 0, 0
        self.running: dict[str, int] = {}  # classifier -> epochs done
        self.epochs, self.n_classifiers, self.n_trained = 1, 0, 0
        self.growing: list[str] = []  # what is grown now, and how far it is
        self.found = 0  # explanations of these
        self._tried = 0.0  # of those not found: shares of the policies that each may have
        self._max_attempts = 1
        self.threshold: float | None = None  # between the classes
        self._done_before = 0
        self._started = time.time()
        self._title = "explain"

    def status(self) -> str:
        """Give everything in one line."""
        if not self.total:
            trained = ", ".join(f"{n} epoch {e}/{self.epochs}" for n, e in self.running.items())
            return (
                f"{self.phase}: {trained}; {self.say_time(time.time())}" if trained else self.phase
            )
        failed = f", {self.failed} given up" if self.failed else ""
        done = f"{self.done + self.found} of {self.total}"
        counts = f"{done} explanations{failed}, {self.attempts} policies"
        return f"{counts}; {self.say_time(time.time())}"

    def render(self) -> RenderableType:
        """Draw the live display: bar, counts, times; or the classifiers being trained."""
        head = Text.assemble((self._title, "bold"), "  ", self.phase)
        if not self.total:
            lines = [
                Text(f"  {name}  epoch {epoch} of {self.epochs}", style="dim")
                for name, epoch in self.running.items()
            ]
            return Group(head, *lines, *([Text(self.say_time(time.time()))] if lines else []))
        lines = [Text(f"  {line}", style="dim") for line in self.growing[:MAX_SHOWN_TASKS]]
        return Group(head, bar(self.done + self.found, self.total), Text(self.status()), *lines)

    def say_time(self, now: float) -> str:
        """Give elapsed and remaining time."""
        elapsed = now - self._started
        parts = [f"{say_duration(elapsed)} elapsed"]
        done, total = self._work()
        progress = done - self._done_before
        if progress and done < total:
            left = elapsed / progress * (total - done)
            is_bound = self.total and self.done + self.found == self._done_before
            about = "at most about" if is_bound else "about"
            of_these = "" if self.total else " for these"
            parts.append(f"{about} {say_duration(left)} left{of_these}")
        return ", ".join(parts)

    def _work(self) -> tuple[float, int]:
        """Give what is done and what there is to do: explanations, or epochs of classifiers.

        An explanation that is not found counts by the share of its policies that were tried.
        """
        if self.total:
            return self.done + self.found + self._tried, self.total
        trained = self.n_trained * self.epochs + sum(self.running.values())
        return trained, self.n_classifiers * self.epochs

    def _take_property_started(self, event: "Event") -> None:
        """Begin anew: a series explains one property after another."""
        self.total = self.done = self.failed = self.attempts = self.found = 0
        self._tried = 0.0
        self.phase, self.running, self.growing = "reading data", {}, []
        self._title = f"explain {event['target']} ({event['number']} of {event['properties']})"
        self.say(self._title, style="bold")

    def _take_data(self, event: "Event") -> None:
        self.phase, self.threshold = "preparing graphs and workers", event["threshold"]
        for line in say_data(event):
            self.say(line)

    def _take_features(self, event: "Event") -> None:
        self.phase = f"building graphs: {event['done']:,} of {event['total']:,} crystals"

    def _take_features_ready(self, event: "Event") -> None:
        self.say(say_features(event))

    def _take_warning(self, event: "Event") -> None:
        self.say(f"warning: {event['text']}")

    def _take_classifiers_started(self, event: "Event") -> None:
        self.epochs, names = event["epochs"], event["names"]
        self.phase = "training classifiers"
        self.n_classifiers, self.n_trained = len(names), event["done"]
        self._done_before, self._started = self.n_trained * self.epochs, time.time()
        before = f", {event['done']} of them trained before" if event["done"] else ""
        self.say(f"classifiers: {', '.join(names)}, {self.epochs} epochs each{before}")

    def _take_classifier_started(self, event: "Event") -> None:
        self.running[event["name"]] = 0

    def _take_classifier_epochs(self, event: "Event") -> None:
        self.running = {str(name): epoch for name, epoch in event["epochs"].items()}
        if self._live is None and time.time() - self._last_line >= STATUS_EVERY_S:
            self.say(self.status())

    def _take_classifier_ended(self, event: "Event") -> None:
        self.running.pop(event["name"], None)
        self.n_trained += 1
        self.say(f"{event['name']}: validation AUC {event['row']['val_auc']:.3f}")

    def _take_classifiers_scored(self, event: "Event") -> None:
        for name, scores in event["scores"].items():
            same = scores.get("agreement")
            agrees = "" if same is None else f", agrees with the full model on {same:.1%}"
            self.say(f"{name}: right on {scores['accuracy']:.1%} of the test rows{agrees}")

    def _take_explaining_started(self, event: "Event") -> None:
        self.running = {}
        self.total, self.done = event["explanations"], event["done"]
        self._done_before, self._started = self.done, time.time()
        self._max_attempts = max(1, event.get("max_attempts", 1))
        self.phase = "growing explanations"
        before = f", {self.done} of them tried before" if self.done else ""
        self.say(f"explanations: {self.total}, {event['per_class']} of each class{before}")

    def _take_explanations_progress(self, event: "Event") -> None:
        running = event["running"]
        self.found = sum(own["total"] - own["left"] for own in running)
        self._tried = sum(
            own["left"] * (own["attempt"] - 1 + own["episode"] / event["episodes"])
            for own in running
        )
        self._tried /= self._max_attempts
        self.growing = [self._say_growing(own, event["episodes"]) for own in running]

    def _take_explanations_grown(self, event: "Event") -> None:
        self.growing, self.found, self._tried = [], 0, 0.0  # told anew at once
        result = event["result"]
        self.done += len(result["explanations"]) + result["failed"]
        self.failed += result["failed"]
        self.attempts += result["attempts"]

    def _say_growing(self, own: dict[str, Any], episodes: int) -> str:
        """Give a line such as ``groups, high: 37 of 75 left, policy 2, episode 12 of 50``."""
        from raymat.explain.explanations import class_word

        what = f"{own['labels']}s, {class_word(own['target_class'], self.threshold)}"
        return (
            f"{what}: {own['left']} of {own['total']} left, policy {own['attempt']}, episode"
            f" {own['episode']} of {episodes}"
        )
