"""What an explanation run has done so far, read from its event log."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raymat.explain.explanations import Explanation, Task
from raymat.tracking.events import Event, reading_log

CLASSIFIER_ENDED, CHUNK_ENDED = "classifier_ended", "explanations_grown"


@dataclass
class ExplainRecord:
    """Classifiers that are trained and explanations that are grown.

    Attributes:
        classifiers: name -> what the log says of it.
        chunks: (task, numbers) -> what the log says of these explanations.
    """

    classifiers: dict[str, dict[str, Any]] = field(default_factory=dict)
    chunks: dict[tuple[Task, range], dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    @reading_log()
    def from_events(events: Iterable[Event]) -> "ExplainRecord":
        """Read a log."""
        record = ExplainRecord()
        for event in events:
            record.take(event)
        return record

    def take(self, event: Event) -> None:
        """Take one event; those of other kinds pass."""
        if event["event"] == CLASSIFIER_ENDED:
            self.classifiers[event["name"]] = event["row"]
        elif event["event"] == CHUNK_ENDED:
            task = Task(event["labels"], event["target_class"], event["member"])
            numbers = range(event["first"], event["first"] + event["count"])
            self.chunks[task, numbers] = event["result"]

    def holds(self, task: Task, numbers: range) -> bool:
        """Say whether just these explanations have been grown together."""
        return (task, numbers) in self.chunks

    def forget(self, name: str) -> None:
        """Forget a classifier, and what was grown for it."""
        self.classifiers.pop(name, None)
        for task, numbers in list(self.chunks):
            if task.classifier == name:
                del self.chunks[task, numbers]

    def explanations(self, task: Task) -> list[Explanation]:
        """Give the explanations of a task in the order of their numbers."""
        found = [
            Explanation.from_dict(content)
            for (own, _), result in self.chunks.items()
            if own == task
            for content in result["explanations"]
        ]
        return sorted(found, key=lambda e: e.number)

    def total(self, task: Task, key: str) -> int:
        """Give the sum of one number over a task's chunks, such as ``attempts``."""
        return sum(result[key] for (own, _), result in self.chunks.items() if own == task)

    def best_rejected(self, task: Task) -> float | None:
        """Give the highest probability of a graph that was not sure enough."""
        tried = [
            result["best_rejected"]
            for (own, _), result in self.chunks.items()
            if own == task and result["best_rejected"] is not None
        ]
        return max(tried, default=None)
