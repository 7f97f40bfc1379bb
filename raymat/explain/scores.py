"""How well the classifiers do on test rows, and how often the coarse ones agree with the full."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from raymat.errors import RunError
from raymat.features.table import FeatureTable
from raymat.training.inputs import RunInputs
from raymat.training.metrics import score_predictions
from raymat.training.model_files import TrainedModel

Floats = NDArray[np.float64]

FULL = "full"
FEWEST_RIGHT = 0.7  # mean accuracy of the classes, below which explanations are flagged
_HALF = 0.5
_CHANCE = 0.5  # AUC of a guess


def predict_classes(model: TrainedModel, table: FeatureTable, inputs: RunInputs) -> Floats:
    """Give (n_crystals,) scores of class 1, above 0.5 where the model says class 1.

    A classifier's score is its probability. That of a model of numbers is a logistic curve around
    the threshold, as wide as the training targets spread: it orders crystals as the numbers do, but
    is no probability.
    """
    values = model.predict(table)
    if model.task == "classification":
        return values
    targets = inputs.crystals.target(inputs.prop.name)[inputs.split.rows("train")]
    assert inputs.threshold is not None  # a number has no classes without one
    return np.asarray(expit((values - inputs.threshold) / targets.std()), dtype=np.float64)


def score_classifiers(inputs: RunInputs, found: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """Score classifiers on the test rows.

    Args:
        inputs: crystals, classes and split.
        found: name -> (n_crystals,) scores of class 1; the full model's is `FULL`.

    Returns:
        name -> scores; where there is a full model, those of coarse classifiers have `agreement`,
        the share of test rows on which both say the same class.
    """
    rows = inputs.split.rows("test")
    scores = {}
    for name, values in found.items():
        scores[name] = score_predictions("classification", inputs.targets[rows], values[rows])
        if name != FULL and FULL in found:
            same = (values[rows] > _HALF) == (found[FULL][rows] > _HALF)
            scores[name]["agreement"] = float(same.mean())
    return scores


def weak_classifiers(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give a line for each coarse classifier whose explanations should not be trusted."""
    lines = []
    for name, own in scores.items():
        known = [share for c in (0, 1) if (share := own.get(f"accuracy_{c}")) is not None]
        if name == FULL:
            continue
        share = sum(known) / len(known) if known else 0.0
        if share < FEWEST_RIGHT:
            lines.append(
                f"the classifier {name} is right on {share:.0%} of the test rows only, mean of both"
                f" classes (wanted are {FEWEST_RIGHT:.0%}): its explanations say little about the"
                " property"
            )
        if own.get("auc_ci95", ()) is None:
            lines.append(
                f"the classifier {name}: with {own['n']:,} test rows the interval of its AUC cannot"
                " be estimated, so it may be no better than chance"
            )
    return lines


def check_better_than_chance(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the test rows tell every coarse classifier from one that guesses.

    Raises:
        RunError: the interval of an AUC holds 0.5; graphs of such a classifier explain nothing.
    """
    for name, own in scores.items():
        ends = own["auc_ci95"]
        if name != FULL and ends is not None and ends[0] <= _CHANCE:
            raise RunError(
                f"the classifier {name} is not shown to be better than chance: AUC"
                f" {own['auc']:.3f}, 95 % interval {ends[0]:.3f} to {ends[1]:.3f}, on {own['n']:,}"
                " test rows; nothing was grown. Train longer (--epochs), take more rows or other"
                " --labels, or add --ignore-weak to explain it all the same"
            )


def probability_table(inputs: RunInputs, found: Mapping[str, Floats]) -> pd.DataFrame:
    """Give `predictions.parquet`: class and scores of class 1, one row per crystal."""
    table = pd.DataFrame(
        {
            "material_id": inputs.crystals.material_ids,
            "part": inputs.split.parts,
            "target": inputs.targets,
            **found,
        }
    )
    return table[table["part"] != "unused"].reset_index(drop=True)
