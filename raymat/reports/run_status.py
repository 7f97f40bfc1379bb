"""How far a run is, read from its event log alone: also of a run that another process is at."""

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raymat.tracking.events import Event, read_events, reading_log
from raymat.tracking.run_directory import read_header
from raymat.tuning.study import Study


@dataclass(frozen=True)
class _Unit:
    """What a run counts: one event says how many there are, others that some have ended."""

    word: str
    begun: str
    total: Callable[[Event], int]
    ended: str
    size: Callable[[Event], int] = lambda _event: 1

    def count(self, events: Sequence[Event]) -> tuple[int, int]:
        """Give how many have ended, and of how many; (0, 0) before that is known."""
        begun = [event for event in events if event["event"] == self.begun]
        if not begun:
            return 0, 0
        total = self.total(begun[-1])
        done = sum(self.size(event) for event in events if event["event"] == self.ended)
        return min(done, total), total


_UNITS = {
    "train": _Unit("epochs", "trial_started", lambda e: _n_epochs(e["config"]), "epoch"),
    "tune": _Unit("trials", "search_started", lambda e: e["trials"], "trial_ended"),
    "compare": _Unit("cells", "comparison_started", lambda e: e["cells"], "cell_ended"),
    "ensemble": _Unit("members", "ensemble_started", lambda e: e["members"], "member_ended"),
    "screen": _Unit("shards", "screening_started", lambda e: e["shards"], "shard_ended"),
    "explain": _Unit(
        "explanations",
        "explaining_started",
        lambda e: e["explanations"],
        "explanations_grown",
        lambda e: len(e["result"]["explanations"]) + e["result"]["failed"],
    ),
}


# `raymat explain` of several properties: each is begun, in every session, when the last has ended.
_SERIES = _Unit("properties", "property_started", lambda e: e["properties"], "property_ended")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Attributes:
        path: its folder.
        command: such as "tune".
        status: as `run.json` says; "dead" for a run that is said to run while no process is at it.
        word: what is counted, such as "trials"; "" before it is known.
        done: how many of these have ended.
        total: how many there are to be.
        running: trials that have begun and not ended (a search).
        best: the best so far, in words; "" without any.
        seconds_left: estimated from this session's pace; None while unknown, or if it is over.
        last_event: seconds since the log was written last.
        headline: what came out, in words; "" before the end.
        facts: what it is about.
        score: what it was scored with on the test rows; None before the end or without one.
    """

    path: Path
    command: str
    status: str
    word: str
    done: int
    total: int
    running: int
    best: str
    seconds_left: float | None
    last_event: float
    headline: str
    facts: "RunFacts"
    score: "RunScore | None"


@dataclass(frozen=True)
class RunFacts:
    """What a run is about, in words; "" where its `run.json` does not say.

    Attributes:
        target: property that is learned or explained.
        unit: of the target.
        model: name of the model, or of what else decides (a criterion).
        data: name of the data.
        started: local time, to the minute.
    """

    target: str
    unit: str
    model: str
    data: str
    started: str


@dataclass(frozen=True)
class RunScore:
    """A score on test rows, and what else must be equal for another to be compared with it.

    Attributes:
        value: mean absolute error in the unit of the target, or AUC.
        is_auc: the larger, the better.
        rows: hashes of data and split, and the threshold of classes.
    """

    value: float
    is_auc: bool
    rows: tuple[str, str, float | None]

    @property
    def badness(self) -> float:
        """A number that is smaller for the better score."""
        return -self.value if self.is_auc else self.value


@reading_log()
def read_status(path: Path, *, now: datetime | None = None) -> RunStatus:
    """Read how a run stands; nothing in its folder is touched.

    Raises:
        RunError: it is no run directory, or its log cannot be read.
    """
    header = read_header(path)
    events = read_events(path / "events.jsonl")
    now = now or datetime.now(UTC)
    command, status = str(header.get("command")), str(header.get("status"))
    if status == "running" and not is_at_work(path):
        status = "dead"
    unit = _SERIES if _is_series(header) else _UNITS.get(command)
    done, total = (0, 0) if unit is None else unit.count(events)
    trials = _trials(events, header) if command in ("tune", "train") else None
    return RunStatus(
        path=path,
        command=command,
        status=status,
        word=unit.word if unit is not None and total else "",
        done=done,
        total=total,
        running=0 if trials is None or command == "train" else _count_running(trials),
        best="" if trials is None else _say_best(trials, header),
        seconds_left=_seconds_left(unit, events, done, total) if status == "running" else None,
        last_event=(now - _time(events[-1])).total_seconds() if events else 0.0,
        headline=_headline(events),
        facts=read_facts(header),
        score=_score(events, header),
    )


def read_facts(header: dict[str, Any]) -> RunFacts:
    """Return what a run is about, from its `run.json`."""
    asked = header.get("arguments") or {}
    targets = [own.get("target") for own in asked.get("properties") or ()]
    data = header.get("data") or {}
    name = data.get("name") or Path(str(asked.get("data") or asked.get("candidates") or "")).stem
    return RunFacts(
        target=str(header.get("target") or asked.get("target") or ", ".join(filter(None, targets))),
        unit=str(header.get("unit") or ""),
        model=_model(header, asked),
        data=str(name),
        started=_local_time(header.get("started")),
    )


def _model(header: dict[str, Any], asked: dict[str, Any]) -> str:
    known = (header.get("model"), asked.get("config"), asked.get("space"))
    names = [own.get("model") or own.get("name") for own in known if isinstance(own, dict)]
    names += [own.get("model") for own in asked.get("configs") or ()]
    criterion = asked.get("criterion")
    names += [criterion.get("name")] if isinstance(criterion, dict) else []
    return ", ".join(dict.fromkeys(str(name) for name in names if name))


def _local_time(text: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return ""


def _score(events: Sequence[Event], header: dict[str, Any]) -> RunScore | None:
    test = next((e["metrics"].get("test") for e in events[::-1] if e["event"] == "scored"), None)
    data, split = ((header.get(key) or {}).get("sha256") for key in ("data", "split"))
    if not isinstance(test, dict):
        return None
    name = next((name for name in ("mae", "auc") if test.get(name) is not None), None)
    if name is None:
        return None
    rows = (str(data or ""), str(split or ""), header.get("threshold"))
    return RunScore(float(test[name]), name == "auc", rows)


def _n_epochs(config: dict[str, Any]) -> int:
    return int(config.get("training.epochs") or 1)


def is_at_work(path: Path) -> bool:
    """Say whether a process holds the folder, on this host or another one that shares the disk."""
    try:
        handle = os.open(path / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def find_runs(folder: Path) -> list[Path]:
    """Give the run directories in a folder, the newest first."""
    found = [path for path in folder.iterdir() if (path / "run.json").is_file()]
    return sorted(found, key=lambda path: (path / "run.json").stat().st_mtime, reverse=True)


def _is_series(header: dict[str, Any]) -> bool:
    return "properties" in (header.get("arguments") or {})


def _trials(events: Sequence[Event], header: dict[str, Any]) -> Study:
    is_class = header.get("task") == "classification"
    return Study.from_events(events, "classification" if is_class else "regression")


def _count_running(study: Study) -> int:
    return sum(trial.status == "running" for trial in study.trials.values())


def _say_best(study: Study, header: dict[str, Any]) -> str:
    if not any(t.epochs for t in study.trials.values() if t.status != "failed"):
        return ""
    trial = study.best_trial()
    best = trial.best(study.task)
    if best is None:
        return ""
    name, unit = ("AUC", "") if study.task == "classification" else ("MAE", header.get("unit", ""))
    return (
        f"best validation {name} {best.val_score:.4g}{' ' if unit else ''}{unit}"
        f" (trial {trial.number}, epoch {best.epoch})"
    )


def _seconds_left(
    unit: _Unit | None, events: Sequence[Event], done: int, total: int
) -> float | None:
    """Estimate from what has ended since the run was last begun or resumed."""
    if unit is None or done >= total:
        return None
    begun = (unit.begun, "trial_resumed")  # the second of a training that was continued
    places = [n for n, event in enumerate(events) if event["event"] in begun]
    since = events[places[-1] :] if places else []
    ended = [event for event in since if event["event"] == unit.ended]
    if not ended:
        return None
    elapsed = (_time(ended[-1]) - _time(since[0])).total_seconds()
    return elapsed / sum(map(unit.size, ended)) * (total - done)


def _headline(events: Sequence[Event]) -> str:
    scored = [event["metrics"] for event in events if event["event"] == "scored"]
    if not scored:
        return ""
    found = scored[-1]
    test = found.get("test") or {}
    unit = f" {found['unit']}" if found.get("unit") else ""
    if "mae" in test:
        return f"test MAE {test['mae']:.4g}{unit}"
    if "auc" in test:
        return f"test AUC {test['auc']:.4g}"
    if "ranked" in found:
        return f"{found['ranked']:,} candidates ranked"
    if "explanations" in found:
        return f"{sum(own['found'] for own in found['explanations'])} explanations"
    if "contributions" in found:
        own = found["contributions"]
        return f"{own['sites']:,} sites from {own['lowest']:.4g} to {own['highest']:.4g}{unit}"
    return ""


def _time(event: Event) -> datetime:
    return datetime.fromisoformat(event["time"])
