"""The parts of an explanation run as Ray tasks: train a classifier, grow some explanations."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from raymat.cluster.member import note_epoch
from raymat.explain.coarse_classifier import CoarseConfig
from raymat.explain.coarse_training import load_coarse, train_coarse
from raymat.explain.explanations import (
    Attempts,
    GrowProgress,
    Task,
    find_explanations,
)
from raymat.explain.fill_blanks import ElementShares, score_filled
from raymat.explain.generate import GrowConfig
from raymat.explain.rules import Rules
from raymat.explain.scoring import CoarseScorer
from raymat.reading import read_json
from raymat.training.config import FitConfig
from raymat.training.device import prepare_process
from raymat.training.fit import FitData
from raymat.training.model_files import TrainedModel, load_model
from raymat.training.results import FitResult

TRIALS = "trials"  # folder of the run in which tasks keep checkpoints and tell how far they are
_PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class GrowWork:
    """How the explanations of one task are grown; nothing in it depends on the workers.

    Attributes:
        task: what they are grown for.
        classifier: folder of the coarse classifier.
        full_model: folder of the full model; None to leave the check out.
        shares: which elements stand for a label, for that check.
        threshold: class 1 lies above it, in the unit of the full model.
        seed: of the run.
        rules: which graphs are valid.
        config: how graphs are grown.
        max_attempts: policies for one explanation.
    """

    task: Task
    classifier: Path
    full_model: Path | None
    shares: ElementShares
    threshold: float | None
    seed: int
    rules: Rules
    config: GrowConfig
    max_attempts: int


def train_coarse_task(
    config: CoarseConfig,
    training: FitConfig,
    data: FitData,
    *,
    seed: int,
    folder: Path,
    n_cpus: int,
) -> FitResult:
    """Train a coarse classifier from its checkpoint, if there is one."""
    prepare_process(n_cpus)
    return train_coarse(
        config,
        training,
        data,
        seed=seed,
        folder=folder,
        on_epoch=lambda epoch: note_epoch(folder, epoch),
    )


def grow_task(work: GrowWork, numbers: range, *, folder: Path, n_cpus: int) -> dict[str, Any]:
    """Grow the explanations of these numbers and give what the log says of them.

    How far it is stands in a file in `folder`, for the progress display.
    """
    prepare_process(n_cpus)
    score = CoarseScorer(load_coarse(work.classifier), work.task.target_class)
    found = find_explanations(
        work.task,
        numbers,
        score,
        seed=work.seed,
        rules=work.rules,
        config=work.config,
        max_attempts=work.max_attempts,
        report=lambda progress: note_progress(folder, progress),
    )
    return {
        "explanations": [e.to_dict() for e in _with_full(found, work)],
        "failed": found.n_failed,
        "attempts": found.n_attempts,
        "best_rejected": found.best_rejected,
        "graphs_asked": score.n_asked,
        "graphs_scored": score.n_scored,
    }


def note_progress(folder: Path, progress: GrowProgress) -> None:
    """Write down how far the task is that has a folder."""
    with suppress(OSError):  # a full disk must not end what only cannot be shown
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="ascii")


def read_progress(folder: Path) -> GrowProgress | None:
    """Give how far the task is that has a folder; None where it has not begun to tell."""
    try:
        return GrowProgress(**read_json(folder / _PROGRESS_FILE))
    except (FileNotFoundError, ValueError, TypeError):  # or caught in the middle of a write
        return None


def _with_full(found: Attempts, work: GrowWork) -> Sequence[Any]:
    if work.full_model is None:
        return found.explanations
    model = _full_model_here(work.full_model)
    return [
        replace(
            explanation,
            probability_full=score_filled(
                model,
                explanation,
                work.shares,
                target_class=work.task.target_class,
                threshold=work.threshold,
            ),
        )
        for explanation in found.explanations
    ]


@lru_cache(maxsize=1)
def _full_model_here(folder: Path) -> TrainedModel:
    """Read the full model once per process, which grows many explanations."""
    return load_model(folder)
