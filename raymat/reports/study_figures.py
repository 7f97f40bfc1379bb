"""Pictures of a search, from its run directory alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raymat.data.writers import atomic_file
from raymat.errors import RunError
from raymat.properties import Task
from raymat.reports.drawing import score_labels
from raymat.reports.intervals import score_frame
from raymat.tracking.run_directory import read_header
from raymat.training.metrics import higher_is_better

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
    trials, curves, predictions = (pd.read_parquet(run / name) for name in names)
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    scores = _Scores(header, trials)
    scores.draw_curves(left, curves, winner=scores.best_trial(trials))
    scores.draw_search(middle, trials)
    _draw_parity(right, predictions[predictions["part"] == "test"], header)
    return figure


class _Scores:
    """The validation scores of a run: their column, their label, and which of them are good."""

    def __init__(self, header: dict[str, Any], trials: pd.DataFrame) -> None:
        task: Task = header["task"]
        self.is_higher_better = higher_is_better(task)
        self.column = next(name for name in score_labels("") if name in trials)
        self.label = score_labels(header["unit"])[self.column]

    def best_trial(self, trials: pd.DataFrame) -> str:
        """Return the id of the trial with the best score."""
        usable = trials[trials["status"] != "failed"].set_index("trial_id")[self.column]
        return str(usable.idxmax() if self.is_higher_better else usable.idxmin())

    def draw_curves(self, axes: "Axes", curves: pd.DataFrame, *, winner: str) -> None:
        """Draw the score of every epoch, one line a trial."""
        for trial, rows in curves.groupby("trial_id"):
            axes.plot(rows["epoch"], rows[self.column], color="#b8c4cc", lw=0.6, zorder=1)
            if trial in (winner, "0000"):
                name = "winner" if trial == winner else "default"
                color = _WINNER_COLOR if trial == winner else _DEFAULT_COLOR
                axes.plot(
                    rows["epoch"], rows[self.column], color=color, lw=1.6, label=name, zorder=2
                )
        axes.set(xlabel="epoch", ylabel=self.label, title="Learning curves")
        self._frame(axes, curves[self.column], "epoch")

    def draw_search(self, axes: "Axes", trials: pd.DataFrame) -> None:
        """Draw the score of every trial, and the best so far."""
        number, scores = trials["trial_id"].astype(int), trials[self.column]
        for status, color in _STATUS_COLORS.items():
            rows = trials["status"] == status
            if rows.any():
                axes.scatter(number[rows], scores[rows], s=18, color=color, label=status)
        best = (scores.cummax() if self.is_higher_better else scores.cummin()).ffill()
        axes.step(number, best, where="post", color=_WINNER_COLOR, lw=1.2, label="best so far")
        axes.set(xlabel="trial", ylabel=self.label, title="Search")
        self._frame(axes, scores, "trial")

    def _frame(self, axes: "Axes", scores: "pd.Series[float]", what: str) -> None:
        """Keep the worst from hiding all others, and name how many are outside."""
        frame = score_frame(scores, is_higher_better=self.is_higher_better)
        axes.set_ylim(frame.low, frame.high)
        remark = frame.remark(what, is_higher_better=self.is_higher_better)
        axes.legend(frameon=False, title=remark or None)


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


def _with_unit(name: str, header: dict[str, Any]) -> str:
    return f"{name} ({header['unit']})" if header["unit"] else name
