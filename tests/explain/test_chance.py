"""Classifiers that are not shown to be better than chance are not explained."""

from typing import Any

import numpy as np
import pytest

from raymat.errors import RunError
from raymat.explain.scores import FULL, check_better_than_chance, weak_classifiers
from raymat.training.metrics import score_predictions


def scores(n: int, gap: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    classes = np.tile([0.0, 1.0], n // 2)
    return score_predictions(
        "classification", classes, 0.5 + gap * (classes - 0.5) + rng.normal(size=n)
    )


def test_interval_that_holds_a_guess_ends_the_run() -> None:
    good, guess = scores(200, 2.0), scores(200, 0.0)
    check_better_than_chance({"group-0": good, FULL: guess})
    with pytest.raises(RunError, match=r"period-0 is not .*, 95 % interval .* on 200 test rows"):
        check_better_than_chance({"group-0": good, "period-0": guess})


def test_too_few_rows_for_an_interval_are_a_warning() -> None:
    few = {"group-0": scores(8, 9.0)}
    check_better_than_chance(few)
    (line,) = weak_classifiers(few)
    assert "with 8 test rows the interval of its AUC cannot be estimated" in line
