"""The explanations of a run as Ray tasks, a few side by side in each; all is logged as it ends."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raymat.cluster.explain_tasks import TRIALS, GrowWork, grow_task, read_progress
from raymat.cluster.resources import Room
from raymat.cluster.tasks import result_of, start_task, wait_for_some
from raymat.explain.explanations import Task
from raymat.explain.record import CHUNK_ENDED, ExplainRecord
from raymat.tracking.run_directory import RunDirectory
from raymat.tuning.settings import Resources

# Explanations that are grown side by side. Fixed, so that what is grown depends neither on the
# number of workers nor on how far a run was when it was resumed.
PER_CHUNK = 75


class Growing:
    """Grows the explanations that a run lacks.

    Args:
        work: task -> how its explanations are grown.
        per_class: explanations of each task.
        run: whose log hears of them.
    """

    def __init__(self, work: Mapping[Task, GrowWork], per_class: int, run: RunDirectory) -> None:
        self.work, self.per_class, self.run = work, per_class, run

    def grow(self, record: ExplainRecord, resources: Resources, *, at_once: int | None) -> None:
        """Grow every explanation that the record lacks, and take it into the record."""
        missing = [
            (task, numbers) for task, numbers in self._chunks() if not record.holds(task, numbers)
        ]
        total = len(self.work) * self.per_class
        self.run.emit(
            "explaining_started",
            explanations=total,
            done=total - sum(len(numbers) for _, numbers in missing),
            per_class=self.per_class,
            max_attempts=max(work.max_attempts for work in self.work.values()),
        )
        running, room = dict[Any, tuple[Task, range]](), Room(resources)
        for task, numbers in missing:
            while len(running) >= (at_once or room()):
                self._take_one(running, record, room)
            started = start_task(
                grow_task,
                self.work[task],
                numbers,
                folder=self._folder(task, numbers),
                n_cpus=max(1, int(resources.cpu)),
                cpu=resources.cpu,
                gpu=resources.gpu,
            )
            running[started] = (task, numbers)
        while running:
            self._take_one(running, record, room)
        shutil.rmtree(self.run.path / TRIALS, ignore_errors=True)

    def _folder(self, task: Task, numbers: range) -> Path:
        name = f"{task.labels}-{task.member}-{task.target_class}-{numbers.start}"
        return self.run.path / TRIALS / name

    def _chunks(self) -> Iterator[tuple[Task, range]]:
        for task in self.work:
            for first in range(0, self.per_class, PER_CHUNK):
                yield task, range(first, min(first + PER_CHUNK, self.per_class))

    def _take_one(
        self, running: dict[Any, tuple[Task, range]], record: ExplainRecord, room: Room
    ) -> None:
        """Wait for some explanations, telling how far they are, and log them."""
        ended: list[Any] = []
        while not ended:
            ended = wait_for_some(running, room)
            self._say_progress(running)
        (ready,) = ended
        task, numbers = running.pop(ready)
        values = {
            "labels": task.labels,
            "target_class": task.target_class,
            "member": task.member,
            "first": numbers.start,
            "count": len(numbers),
            "result": result_of(ready, self.run),
        }
        self.run.emit(CHUNK_ENDED, durable=True, **values)
        record.take({"event": CHUNK_ENDED, **values})

    def _say_progress(self, running: dict[Any, tuple[Task, range]]) -> None:
        """Tell listeners how far the running tasks are."""
        found = {
            (task, numbers): read_progress(self._folder(task, numbers))
            for task, numbers in running.values()
        }
        self.run.mention(
            "explanations_progress",
            running=[
                {**asdict(task), "first": numbers.start, "total": len(numbers), **asdict(progress)}
                for (task, numbers), progress in found.items()
                if progress is not None
            ],
            episodes=next(iter(self.work.values())).config.episodes,
        )
