"""What is recorded of the winner's second training: its own score beside that of the search."""

from dataclasses import fields
from typing import Any

import pytest

from raymat.cluster.finish import describe_refit
from raymat.properties import Task
from raymat.training.fit import EpochMetrics
from raymat.training.results import FitResult
from raymat.tuning.study import TrialRecord


@pytest.mark.parametrize(
    ("task", "epoch", "score"), [("regression", 3, 0.2), ("classification", 2, 0.9)]
)
def test_refit_that_is_best_at_another_epoch(task: Task, epoch: int, score: float) -> None:
    scores = [0.5, 0.9, 0.2]
    epochs = [EpochMetrics(number, 1.0, s, 1.0) for number, s in enumerate(scores, 1)]
    winner = TrialRecord(4, 7, {}, {}, epochs=epochs)
    values: dict[str, Any] = {field.name: None for field in fields(FitResult)}
    refitted = FitResult(**{**values, "best": EpochMetrics(1, 1.0, 0.25, 1.0)})
    assert describe_refit(winner, refitted, task) == {
        "trial": 4,
        "seed": 7,
        "epoch": 1,
        "val_score_refitted": 0.25,
        "epoch_in_search": epoch,
        "val_score_in_search": score,
    }
