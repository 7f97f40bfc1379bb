"""The words and numbers of the progress display."""

from dataclasses import replace
from typing import Any

from raymat.cli.run_state import RunState, TrialView
from raymat.properties import PROPERTIES, find_property
from raymat.text import plain
from raymat.tracking.events import Event


def say_duration(seconds: float) -> str:
    """Give a time for people: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def with_unit(value: float, unit: str) -> str:
    """Give a score with its unit, if it has one."""
    return f"{value:.4g} {unit}".rstrip()


def say_data(event: Event) -> list[str]:
    """Give lines on the data and target, the split, and the leakage."""
    data, split, rows = event["data"], event["split"], event["split"]["rows"]
    unit = event["unit"]
    if not unit and event.get("task") == "regression" and event["target"] not in PROPERTIES:
        unit = "unit unknown"
    unit = f" ({unit})" if unit else ""
    counts = f"{data['n_used']:,} crystals, {data['n_rejected']:,} rows rejected"
    parts = f"{rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test"
    return [
        f"data: {data['name']}, {counts}; target: {event['target']}{unit}",
        *[f"note: {note}" for note in data.get("notes", ())],
        *say_classes(event),
        f"split: {split['kind']}, {parts}",
        event["leakage_line"],
        *say_unseen_elements(event),
    ]


def say_classes(event: Event) -> list[str]:
    """Return one line on a number, or a column of two values, that is learned as classes."""
    threshold, names = event.get("threshold"), event.get("class_names")
    if names is not None:
        line = replace(find_property(event["target"]), names=tuple(names)).say_classes()
        return [] if line is None else [plain(line)]
    if threshold is None:
        return []
    return [f"classes: 1 for {event['target']} above {threshold:.6g}, 0 at or below it"]


def say_unseen_elements(event: Event) -> list[str]:
    """Give one line on test rows with elements that no training row has."""
    found = event.get("unseen_elements")
    if not found:
        return []
    listed = ", ".join(f"{symbol} in {n:,}" for symbol, n in found.items())
    return [f"elements of test rows that no training row has: {listed}; these are extrapolations"]


def say_left_out(event: Event) -> str:
    """Give one line on crystals that the model cannot read."""
    return f"left out: {event['count']:,} crystals the model cannot read, such as {event['first']}"


def say_features(event: Event) -> str:
    """Give one line on features that are ready."""
    line, time_s = str(event["line"]), event["time_s"]
    return f"{line}; {time_s:.1f} s" if time_s >= 1.0 else line


def say_gpu_share(event: Event) -> str:
    """Give one line on what a training takes of a GPU."""
    if event["n_bytes"] is None:
        takes = "does not fit into"
    else:
        takes = f"takes {event['n_bytes'] / 1e9:.2g} GB of"
    return (
        f"GPU memory: the largest of {event['n_probes']} configurations {takes}"
        f" {event['gpu_bytes'] / 1e9:.3g} GB (measured on {event['host']}); {event['gpu']:g} GPU"
        " for each"
    )


def say_search(event: Event) -> str:
    """Give one line on the search that begins."""
    cpu, gpu = event.get("cpu", 0), event.get("gpu", 0)
    each = f"{cpu:g} CPU" + (f" and {gpu:g} GPU" if gpu else "")
    return f"search: {event['trials']:,} trials, {each} each"


def say_end(trial: TrialView, event: Event, state: RunState) -> str:
    """Give one line on a trial that ended."""
    status, epochs = event["status"], f"{trial.epoch} epoch" + ("s" if trial.epoch != 1 else "")
    if status == "failed":
        return f"trial {trial.number} failed after {epochs}: {event['error']}"
    score = with_unit(trial.best, state.data.get("unit", ""))
    best = f"best validation {state.score_name} {score} in epoch {trial.best_epoch}"
    return f"trial {trial.number} {status} after {epochs}: {best}"


def say_counts(state: RunState) -> str:
    """Give how many trials are where; of a single one, how far it is."""
    if state.total == 1 and state.running:
        trial = state.trials[state.running[0]]
        return f"epoch {trial.epoch:,} of {trial.epochs_planned:,}"
    running = f", {len(state.running)} running" if state.running else ""
    return say_ended(state) + running


def say_ended(state: RunState) -> str:
    """Give how many trials ended, and how."""
    parts = [f"{n:,} {status}" for status, n in state.ended.items() if n or status != "failed"]
    total = f" of {state.total:,}" if state.total else ""
    return f"{state.n_ended:,}{total} trials ended ({', '.join(parts)})"


def say_best(state: RunState) -> str:
    """Give the best trial so far."""
    best = state.best()
    if best is None:
        return "no finished epoch yet"
    score = with_unit(best.best, state.data.get("unit", ""))
    return (
        f"best validation {state.score_name} {score} (trial {best.number}, epoch {best.best_epoch})"
    )


def say_time(state: RunState, now: float) -> str:
    """Give throughput, elapsed and remaining time."""
    parts = [f"{say_duration(now - state.started)} elapsed"]
    left = state.seconds_left(now)
    limit = state.budget_left(now)
    if left is not None:
        parts.append(f"about {say_duration(left)} left")
    elif limit is not None:
        parts.append(f"at most {say_duration(limit)} left")
    speed = state.crystals_per_s(now)
    if speed > 0:
        parts.insert(0, f"{speed:,.0f} crystals/s")
    return ", ".join(parts)


def say_status(state: RunState, now: float) -> str:
    """Give everything in one line, for a terminal that is none."""
    if not state.trials:
        return f"{state.phase}, {say_time(state, now)}"
    return f"{say_counts(state)}; {say_best(state)}; {say_time(state, now)}"


def say_event(event: Event, state: RunState) -> list[str]:
    """Give the lines that an event deserves for good, apart from the changing status."""
    kind = event["event"]
    if kind == "data":
        return say_data(event)
    if kind == "warning":
        return [f"warning: {event['text']}"]
    if kind == "trial_ended":
        return [say_end(state.trials[event["trial"]], event, state)]
    say: Any = {
        "features_ready": say_features,
        "gpu_share": say_gpu_share,
        "search_started": say_search,
        "left_out": say_left_out,
    }.get(kind)
    if kind == "training_started" or (kind == "refit_started" and event.get("role") == "winner"):
        return [state.phase]
    return [say(event)] if say else []


def say_end_of_session(state: RunState, now: float) -> str:
    """Give the one line that stays when a run has ended or was interrupted."""
    counts = f"{say_ended(state)}; " if state.total != 1 else ""
    return f"{counts}{say_best(state)}; {say_duration(now - state.started)}"
