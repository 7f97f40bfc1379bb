"""Pictures of a search, from its run directory alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raymat.data.writers import atomic_file
from raymat.errors import RunError
from raymat.reading import regular_file
from raymat.tracking.run_directory import read_header

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STATUS_COLORS = {"complete": "#2f6690", "stopped": "#b8c4cc", "failed": "#c8553d"}
_DEFAULT_COLOR, _WINNER_COLOR = "#e09f3e", "#16425b"


def save_study_figure(run: Path, path: Path) -> None:
    """Draw learning curves, scores over the search and test parity of a tune run.

    Raises:
        RunError: the folder is not a finished tune run.
        DataError: the file cannot be written.
    """
    figure = study_figure(run)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def study_figure(run: Path) -> "Figure":
    """Give the figure that `save_study_figure` saves.

    Raises:
        RunError: the folder is not a finished tune run.
    """
    from matplotlib.figure import Figure

    header = read_header(run)
    names = ("trials.parquet", "curves.parquet", "predictions.parquet")
    missing = [name for name in names if not (run / name).exists()]
    if missing:
        raise RunError(f"{run}: no {missing[0]}; the run is not finished")
    trials, curves, predictions = (pd.read_parquet(regular_file(run / name)) for name in names)
    score = "val_auc" if header["task"] == "classification" else "val_mae"
    label = _with_unit("validation AUC" if score == "val_auc" else "validation MAE", header)
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    winner = _best_trial(trials, score)
    _draw_curves(left, curves, winner=winner, score=score, label=label)
    _draw_search(middle, trials, score=score, label=label)
    _draw_parity(right, predictions[predictions["part"] == "test"], header)
    return figure


def _best_trial(trials: pd.DataFrame, score: str) -> str:
    usable = trials[trials["status"] != "failed"].set_index("trial_id")[score]
    return str(usable.idxmax() if score == "val_auc" else usable.idxmin())


def _draw_curves(
    axes: "Axes", curves: pd.DataFrame, *, winner: str, score: str, label: str
) -> None:
    for trial, rows in curves.groupby("trial_id"):
        axes.plot(rows["epoch"], rows[score], color="#b8c4cc", lw=0.6, zorder=1)
        if trial in (winner, "0000"):
            name = "winner" if trial == winner else "default"
            color = _WINNER_COLOR if trial == winner else _DEFAULT_COLOR
            axes.plot(rows["epoch"], rows[score], color=color, lw=1.6, label=name, zorder=2)
    axes.set(xlabel="epoch", ylabel=label, title="Learning curves")
    _zoom(axes, curves[score])
    axes.legend(frameon=False)


def _draw_search(axes: "Axes", trials: pd.DataFrame, *, score: str, label: str) -> None:
    number = trials["trial_id"].astype(int)
    for status, color in _STATUS_COLORS.items():
        rows = trials["status"] == status
        if rows.any():
            axes.scatter(number[rows], trials.loc[rows, score], s=18, color=color, label=status)
    best = (trials[score].cummax() if score == "val_auc" else trials[score].cummin()).ffill()
    axes.step(number, best, where="post", color=_WINNER_COLOR, lw=1.2, label="best so far")
    axes.set(xlabel="trial", ylabel=label, title="Search")
    _zoom(axes, trials[score])
    axes.legend(frameon=False)


def _draw_parity(axes: "Axes", test: pd.DataFrame, header: dict[str, Any]) -> None:
    target, prediction = test["target"].to_numpy(), test["prediction"].to_numpy()
    ends = [min(target.min(), prediction.min()), max(target.max(), prediction.max())]
    axes.plot(ends, ends, color="0.6", lw=1, zorder=1)
    axes.scatter(target, prediction, s=6, color=_WINNER_COLOR, alpha=0.5, lw=0, zorder=2)
    name = header["target"]
    axes.set(
        xlabel=_with_unit(name, header),
        ylabel=_with_unit(f"predicted {name}", header),
        title=f"{len(test)} test crystals",
    )
    axes.set_aspect("equal")


def _zoom(axes: "Axes", scores: "pd.Series[float]") -> None:
    """Leave out the worst tenth: a diverging trial would hide all others."""
    values = scores.dropna().to_numpy()
    if len(values) > 10:
        low, high = float(values.min()), float(np.quantile(values, 0.9))
        margin = 0.08 * (high - low or 1.0)
        axes.set_ylim(low - margin, high + margin)


def _with_unit(name: str, header: dict[str, Any]) -> str:
    return f"{name} ({header['unit']})" if header["unit"] else name
