"""What a terminal says of a run, kept up to date by the run's events."""

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from raymat.tracking.events import Event, reading_log

RECENT_S = 60.0  # throughput is that of the last minute


@dataclass
class TrialView:
    """One trial as the terminal shows it.

    Attributes:
        number: of the trial.
        epochs_planned: epochs if nothing stops it.
        started: seconds since 1970, of this start or resume.
        epoch: the last finished one.
        last: its validation score.
        best: the best validation score so far, of epoch `best_epoch`.
    """

    number: int
    epochs_planned: int
    started: float
    epoch: int = 0
    last: float = float("nan")
    best: float = float("nan")
    best_epoch: int = 0

    def take(self, event: Event, *, is_higher_better: bool) -> None:
        """Take one finished epoch."""
        score = event["val_score"]
        self.epoch, self.last = event["epoch"], float("nan") if score is None else score
        better = self.last > self.best if is_higher_better else self.last < self.best
        if self.best_epoch == 0 or better:
            self.best, self.best_epoch = self.last, self.epoch


@dataclass
class RunState:
    """Counts, the best trial, throughput and the time that is left.

    Attributes:
        phase: what is going on.
        data: values of the event "data".
        features: crystals whose features are built, and all of them; None when none are.
        total: trials of the search, 0 while unknown.
        trials: all trials met.
        running: their numbers, in order of start.
        ended: status -> number of trials.
        walls: wall seconds of the trials that ended in this session.
        most_at_once: most trials seen running at the same time.
        ends_by: seconds since 1970 at which the time budget is spent; None without one.
    """

    phase: str = "starting"
    data: Event = field(default_factory=dict)
    features: tuple[int, int] | None = None
    total: int = 0
    trials: dict[int, TrialView] = field(default_factory=dict)
    running: list[int] = field(default_factory=list)
    ended: dict[str, int] = field(
        default_factory=lambda: {"complete": 0, "stopped": 0, "failed": 0}
    )
    walls: list[float] = field(default_factory=list)
    most_at_once: int = 0
    ends_by: float | None = None
    started: float = field(default_factory=time.time)
    _epoch_times: deque[float] = field(default_factory=deque)
    _training_since: float | None = None

    @reading_log()
    def replay(self, events: list[Event]) -> None:
        """Take what was logged before this session; nothing of it is running now."""
        for event in events:
            self.take(event)
        self.running, self.phase, self.started = [], "resuming", time.time()
        self.walls, self._epoch_times = [], deque()
        self.most_at_once, self._training_since = 0, None
        self.features, self.ends_by = None, None

    def take(self, event: Event) -> None:
        """Take one event; unknown ones pass."""
        handler = getattr(self, f"_take_{event['event']}", None)
        if handler is not None:
            handler(event)

    @property
    def is_higher_better(self) -> bool:
        """Whether the validation score is an AUC."""
        return self.data.get("task") == "classification"

    @property
    def score_name(self) -> str:
        """Name of the validation score."""
        return "AUC" if self.is_higher_better else "MAE"

    @property
    def n_ended(self) -> int:
        """Trials that ended, however."""
        return sum(self.ended.values())

    def best(self) -> TrialView | None:
        """Give the trial with the best validation score so far."""
        scored = [t for t in self.trials.values() if t.best == t.best]  # not nan
        sign = -1.0 if self.is_higher_better else 1.0
        return min(scored, key=lambda t: (sign * t.best, t.number), default=None)

    def crystals_per_s(self, now: float) -> float:
        """Training crystals passed per second by all trials, over the last minute."""
        if not self.running:
            return 0.0
        rows = self.data.get("split", {}).get("rows", {}).get("train", 0)
        recent = [t for t in self._epoch_times if t > now - RECENT_S]
        begun = max(self._training_since or now, now - RECENT_S)
        return len(recent) * float(rows) / max(now - begun, 1e-3)

    def seconds_left(self, now: float) -> float | None:
        """Estimate: mean wall time of ended trials x work left / trials at once.

        None before a trial has ended. With one trial only, its epochs are the measure. Never more
        than the time budget leaves.
        """
        estimate, limit = self._seconds_of_work(now), self.budget_left(now)
        return estimate if estimate is None or limit is None else min(estimate, limit)

    def budget_left(self, now: float) -> float | None:
        """Give what the time budget leaves to running trials, None without one."""
        if self.ends_by is None or not self.running:
            return None
        return max(0.0, self.ends_by - now)

    def _seconds_of_work(self, now: float) -> float | None:
        if self.total == 0 or not self.running:
            return None
        if self.total == 1:
            return _left_of_one(self.trials[self.running[0]], now)
        if not self.walls:
            return None
        mean = sum(self.walls) / len(self.walls)
        waiting = max(0, self.total - self.n_ended - len(self.running))
        ages = [now - self.trials[n].started for n in self.running]
        unfinished = sum(max(0.0, mean - age) for age in ages)
        return (waiting * mean + unfinished) / max(1, self.most_at_once)

    def _take_data(self, event: Event) -> None:
        self.data, self.phase = event, "preparing features and workers"

    def _take_features(self, event: Event) -> None:
        self.features = event["done"], event["total"]
        self.phase = f"building features: {event['done']:,} of {event['total']:,} crystals"

    def _take_features_ready(self, event: Event) -> None:
        del event
        self.features, self.phase = None, "features ready"

    def _take_search_started(self, event: Event) -> None:
        self.total, self.phase = event["trials"], "training trials"
        budget_s = event.get("time_budget_s")
        self.ends_by = None if budget_s is None else _seconds(event) + budget_s

    def _take_training_started(self, event: Event) -> None:
        threads = f", {event['threads']} threads" if event["threads"] > 1 else ""
        self.total, self.phase = 1, f"training on {event['device']}{threads}"

    def _take_trial_started(self, event: Event) -> None:
        number, planned = event["trial"], event["config"].get("training.epochs", 1)
        self.trials[number] = TrialView(number, planned, _seconds(event))
        self._run(number, _seconds(event))

    def _take_trial_resumed(self, event: Event) -> None:
        trial = self.trials.get(event["trial"])
        if trial is not None:
            trial.started = _seconds(event)
            self._run(trial.number, trial.started)

    def _take_epoch(self, event: Event) -> None:
        trial = self.trials.get(event["trial"])
        if trial is not None:
            trial.take(event, is_higher_better=self.is_higher_better)
            self._add_epoch_time(_seconds(event))

    def _add_epoch_time(self, second: float) -> None:
        self._epoch_times.append(second)
        while self._epoch_times[0] <= second - RECENT_S:
            self._epoch_times.popleft()

    def _take_trial_ended(self, event: Event) -> None:
        number = event["trial"]
        self.ended[event["status"]] += 1
        if event["status"] == "failed" and number in self.trials:
            self.trials[number].best = float("nan")  # it cannot win
        if number in self.running:
            self.running.remove(number)
            self.walls.append(_seconds(event) - self.trials[number].started)

    def _take_mapping_latents(self, event: Event) -> None:
        del event
        self.phase = "mapping the latent space"

    def _take_refit_started(self, event: Event) -> None:
        if event.get("role") == "winner":
            self.phase = f"training the winner again (trial {event['trial']}), then scoring"

    def _take_scored(self, event: Event) -> None:
        del event
        self.phase = "scored"

    def _run(self, number: int, since: float) -> None:
        if number not in self.running:
            self.running.append(number)
        if self._training_since is None:
            self._training_since = since
        self.most_at_once = max(self.most_at_once, len(self.running))


def _seconds(event: Event) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def _left_of_one(trial: TrialView, now: float) -> float | None:
    if trial.epoch == 0:
        return None
    return (now - trial.started) / trial.epoch * max(0, trial.epochs_planned - trial.epoch)
