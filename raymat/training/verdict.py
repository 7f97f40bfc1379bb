"""Does a model beat the training mean, the composition alone, and its own default?

Models are compared on the same test rows, row by row, so that hard rows cancel. An interval covers
which rows happened to be tested; not another split, seed or search.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.properties import Task
from raymat.reading import read_json
from raymat.training.metrics import (
    FEW_ROWS,
    FEWEST_ROWS,
    bootstrap_interval,
    bootstrap_mean_interval,
    enough_rows,
    roc_auc,
)

Floats = NDArray[np.float64]
OTHERS = {
    "mean": "the training mean",
    "composition": "the composition forest",
    "default": "its default",
}
_N_BOOTSTRAP_AUC = 1000


def judge(
    task: Task, targets: Floats, predictions: Floats, others: Mapping[str, Floats]
) -> dict[str, Any]:
    """Compare a model with others on the same test rows.

    Args:
        task: decides the metric: MAE, or AUC.
        targets: (n_rows,) of the test rows.
        predictions: (n_rows,) of the model.
        others: name, such as a key of `OTHERS` -> (n_rows,) predictions.

    Returns:
        ``metric``, ``n`` (rows), and for each of the others ``{"difference", "lo", "hi"}``: the
        model's score minus the other's and the 95 % bootstrap interval of the difference. All
        three are None where the score is not defined; the ends, where rows are too few.
    """
    differ = _differ_in_auc if task == "classification" else _differ_in_mae
    compared = {name: differ(targets, predictions, own) for name, own in others.items()}
    return {"metric": _metric(task), "n": len(targets), **compared}


def verdict_lines(verdict: Mapping[str, Any], *, model: str = "The model") -> list[str]:
    """Return the verdict in sentences; the last is a warning if a baseline is not beaten."""
    known = {name: verdict[name] for name in OTHERS if name in verdict}
    groups: dict[str, list[str]] = {}
    for name, found in known.items():
        groups.setdefault(outcome(verdict, name), []).append(f"{OTHERS[name]}{_numbers(found)}")
    said = [
        f"{word} {_join(groups[key])}"
        for key, word in (
            ("better", "beats"),
            ("same", "does not differ from"),
            ("worse", "is worse than"),
            ("unknown", "cannot be compared, with so few rows, with"),
        )
        if key in groups
    ]
    if not said:
        return []
    few = f" (few rows: {verdict['n']})" if FEWEST_ROWS <= verdict["n"] < FEW_ROWS else ""
    lines = [f"{model} {'; it '.join(said)}{few}."]
    lost = [OTHERS[name] for name in not_beaten(verdict)]
    if lost:
        lines.append(
            f"warning: {model[0].lower()}{model[1:]} is not shown to beat {' or '.join(lost)} on"
            f" these {verdict['n']:,} test rows; draw no conclusions from it"
        )
    return lines


def outcome(verdict: Mapping[str, Any], name: str) -> str:
    """Return better, worse, same or unknown: by whether the interval holds zero."""
    found = verdict[name]
    if found["lo"] is None:
        return "unknown"
    low, high = found["lo"], found["hi"]
    if verdict["metric"] == "mae":
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "same"


def not_beaten(verdict: Mapping[str, Any]) -> list[str]:
    """Return which baselines, training mean and composition, the model is not shown to beat."""
    return [
        name
        for name in ("mean", "composition")
        if name in verdict and outcome(verdict, name) != "better"
    ]


def warning_about_model(folder: Path) -> str | None:
    """Return a warning if the run that a model was stored by shows that the mean is no worse.

    Args:
        folder: of the model, such as ``best/`` of a run; nothing is known of one that was moved.
    """
    try:
        metrics = read_json(folder.parent / "metrics.json")
        verdict = metrics["verdict"]
        is_useful = outcome(verdict, "mean") == "better"
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if is_useful:
        return None
    numbers = _numbers(verdict["mean"]).strip(" ()")
    return (
        f"{folder}: the model is not shown to beat the mean of its training rows ({numbers}); what"
        " it says of atoms and elements explains nothing"
    )


def _metric(task: Task) -> str:
    return "auc" if task == "classification" else "mae"


def _differ_in_mae(targets: Floats, own: Floats, other: Floats) -> dict[str, float | None]:
    if not len(targets):
        return _entry(None, None)
    gains = np.abs(own - targets) - np.abs(other - targets)
    ends = bootstrap_mean_interval(gains) if enough_rows("regression", targets) else None
    return _entry(float(gains.mean()), ends)


def _differ_in_auc(targets: Floats, own: Floats, other: Floats) -> dict[str, float | None]:
    def difference(classes: Floats, pair: Floats) -> float:
        return roc_auc(classes, pair[:, 0]) - roc_auc(classes, pair[:, 1])

    pair = np.stack([own, other], axis=1)
    found = difference(targets, pair)
    if not np.isfinite(found):
        return _entry(None, None)
    is_enough = enough_rows("classification", targets)
    ends = bootstrap_interval(difference, targets, pair, n=_N_BOOTSTRAP_AUC) if is_enough else None
    return _entry(found, ends)


def _entry(difference: float | None, ends: list[float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {"difference": difference, "lo": low, "hi": high}


def _numbers(found: Mapping[str, float | None]) -> str:
    if found["difference"] is None:
        return ""
    text = f" (difference {found['difference']:+.3g}"
    if found["lo"] is None:
        return f"{text})"
    return f"{text}, 95 % interval {found['lo']:+.3g} to {found['hi']:+.3g})"


def _join(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
