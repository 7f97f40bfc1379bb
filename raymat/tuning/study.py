"""A study: all trials of one search, rebuilt from the event log."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, Literal

import pandas as pd

from raymat.errors import RunError
from raymat.properties import Task
from raymat.reading import check_types
from raymat.tracking.events import Event, reading_log
from raymat.training.fit import EpochMetrics
from raymat.training.metrics import higher_is_better, score_name
from raymat.tuning.trial_config import BATCH_SIZE

_METRICS = tuple(f.name for f in fields(EpochMetrics))
_NUMBERS: dict[str, type] = dict.fromkeys(_METRICS, float)
TrialStatus = Literal["running", "complete", "stopped", "failed"]


@dataclass
class TrialRecord:
    """What is known of one trial.

    Attributes:
        number: 0 is the default configuration.
        seed: of weights, order and dropout.
        values: searched keys and their values.
        config: the whole configuration by dotted key.
        status: complete (ran to its end), stopped (by the scheduler or the time budget), failed.
        epochs: finished epochs, in order.
        facts: n_parameters, host, device, the most memory held of a GPU.
        error: why it failed.
    """

    number: int
    seed: int
    values: dict[str, Any]
    config: dict[str, Any]
    status: TrialStatus = "running"
    epochs: list[EpochMetrics] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def add_epoch(self, metrics: EpochMetrics) -> bool:
        """Take one more epoch; False when it is known already, as after a resume."""
        if self.epochs and metrics.epoch <= self.epochs[-1].epoch:
            return False
        self.epochs.append(metrics)
        return True

    def begin_anew(self, changed: dict[str, Any]) -> None:
        """Forget the epochs: the trial is trained from its first one with other values."""
        self.epochs = []
        self.values, self.config = {**self.values, **changed}, {**self.config, **changed}

    def best(self, task: Task) -> EpochMetrics | None:
        """Give the epoch with the best validation score, the earliest of equals."""
        if not self.epochs:
            return None
        better = max if higher_is_better(task) else min
        return better(self.epochs, key=lambda m: m.val_score)

    def best_so_far(self, task: Task) -> list[float]:
        """Give the best validation score up to and including each epoch."""
        better = max if higher_is_better(task) else min
        return list(accumulate((m.val_score for m in self.epochs), better))

    @property
    def time_s(self) -> float:
        """Seconds of training and validation, without the making of features."""
        return sum(m.time_s for m in self.epochs)

    @property
    def train_time_s(self) -> float:
        """Seconds of training alone."""
        return sum(m.train_time_s for m in self.epochs)


@dataclass
class Study:
    """All trials of a search, by number."""

    task: Task
    trials: dict[int, TrialRecord] = field(default_factory=dict)

    @classmethod
    @reading_log()
    def from_events(cls, events: Iterable[Event], task: Task) -> "Study":
        """Rebuild a study from a run's event log."""
        study = cls(task)
        for event in events:
            study.take(event)
        return study

    def take(self, event: Event) -> None:
        """Take one event; those that are not about trials pass."""
        match event["event"]:
            case "trial_started":
                whole: dict[str, type] = {"trial": int, "seed": int, "values": dict, "config": dict}
                check_types(event, whole)
                record = TrialRecord(
                    event["trial"], event["seed"], event["values"], event["config"]
                )
                self.trials.setdefault(event["trial"], record)
            case "epoch":
                check_types(event, {"trial": int, "epoch": int, "facts": dict}, _NUMBERS)
                metrics = EpochMetrics(*(event.get(key, math.nan) for key in _METRICS))
                self.trials[event["trial"]].add_epoch(metrics)
                self.trials[event["trial"]].facts = event["facts"]
            case "batch_halved":  # for want of memory; it begins anew
                self.trials[event["trial"]].begin_anew({BATCH_SIZE: event["batch_size"]})
            case "trial_ended":
                record = self.trials[event["trial"]]
                record.status, record.error = event["status"], event["error"]

    def best_trial(self) -> TrialRecord:
        """Give the trial with the best validation epoch; failed trials do not count.

        Raises:
            RunError: no trial has finished an epoch.
        """
        return self.best_trials(1)[0]

    def best_trials(self, n: int) -> list[TrialRecord]:
        """Give the `n` trials with the best validation epochs, or all usable ones, best first.

        Raises:
            RunError: no trial has finished an epoch.
        """
        usable = [t for t in self.trials.values() if t.status != "failed" and t.epochs]
        if not usable:
            errors = {t.error for t in self.trials.values() if t.error}
            first = f"; the first error was: {min(errors)}" if errors else ""
            raise RunError(f"none of {len(self.trials)} trials finished an epoch{first}")
        sign = -1.0 if higher_is_better(self.task) else 1.0
        usable.sort(key=lambda t: (sign * t.best(self.task).val_score, t.number))  # type: ignore[union-attr]
        return usable[:n]

    def counts(self) -> dict[str, int]:
        """Count trials by status."""
        statuses = [t.status for t in self.trials.values()]
        return {s: statuses.count(s) for s in ("running", "complete", "stopped", "failed")}

    def trial_table(self) -> pd.DataFrame:
        """One row per trial, as `trials.parquet` holds it."""
        return pd.DataFrame([self._trial_row(t) for t in self._in_order()])

    def curve_table(self) -> pd.DataFrame:
        """One row per trial and epoch, as `curves.parquet` holds it."""
        rows = [
            {"trial_id": f"{t.number:04d}", **vars(m)} for t in self._in_order() for m in t.epochs
        ]
        columns = ["trial_id", "epoch", "train_loss", "val_score", "time_s", "train_time_s"]
        return pd.DataFrame(rows, columns=columns).rename(columns={"val_score": self.score_name})

    @property
    def score_name(self) -> str:
        """What the validation score is called in tables."""
        kinds = {trial.config.get("training.select", "mae") for trial in self.trials.values()}
        return score_name(self.task, kinds.pop() if len(kinds) == 1 else "mae")

    def _in_order(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self.trials)]

    def _trial_row(self, trial: TrialRecord) -> dict[str, Any]:
        best = trial.best(self.task)
        return {
            "trial_id": f"{trial.number:04d}",
            "status": trial.status,
            self.score_name: best.val_score if best else float("nan"),
            "best_epoch": best.epoch if best else 0,
            "epochs": len(trial.epochs),
            "time_s": trial.time_s,
            "n_parameters": trial.facts.get("n_parameters"),
            "host": trial.facts.get("host"),
            "device": trial.facts.get("device"),
            "gpu_memory_gb": float(trial.facts.get("gpu_memory_gb", "nan")),
            "error": trial.error,
            "seed": trial.seed,
            **{f"config.{key}": _plain(value) for key, value in trial.config.items()},
        }


def _plain(value: Any) -> Any:
    """Lists do not mix with numbers in one Parquet column: write them as text."""
    return str(value) if isinstance(value, list | tuple) else value
