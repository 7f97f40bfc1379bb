"""How well the classifiers do on test rows, and how often the coarse ones agree with the full."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from raymat.features.table import FeatureTable
from raymat.training.inputs import RunInputs
from raymat.training.metrics import score_predictions
from raymat.training.model_files import TrainedModel

Floats = NDArray[np.float64]

FULL = "full"
FEWEST_RIGHT = 0.7  # accuracy, below which explanations are flagged
_HALF = 0.5


def probability_above(model: TrainedModel, values: Floats, threshold: float | None) -> Floats:
    """Give (n_crystals,) how sure a model is of class 1, 0.5 on its boundary.

    A classifier's probability is that. A number becomes one by a logistic curve around the
    threshold, as wide as the training targets: it orders crystals as the number does.
    """
    if model.task == "classification":
        return values
    assert threshold is not None  # a number has no classes without one
    return np.asarray(expit((values - threshold) / model.scaling.std), dtype=np.float64)


def predict_all(model: TrainedModel, table: FeatureTable, threshold: float | None) -> Floats:
    """Give `probability_above` for every crystal of a table."""
    return probability_above(model, model.predict(table), threshold)


def score_classifiers(inputs: RunInputs, found: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """Score classifiers on the test rows.

    Args:
        inputs: crystals, classes and split.
        found: name -> (n_crystals,) probabilities of class 1; the full model's is `FULL`.

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
    return [
        f"the classifier {name} is right on {own['accuracy']:.0%} of the test rows only (wanted are"
        f" {FEWEST_RIGHT:.0%}): its explanations say little about the property"
        for name, own in scores.items()
        if name != FULL and own["accuracy"] < FEWEST_RIGHT
    ]


def probability_table(inputs: RunInputs, found: Mapping[str, Floats]) -> pd.DataFrame:
    """Give `predictions.parquet`: class and probabilities of class 1, one row per crystal."""
    table = pd.DataFrame(
        {
            "material_id": inputs.crystals.material_ids,
            "part": inputs.split.parts,
            "target": inputs.targets,
            **found,
        }
    )
    return table[table["part"] != "unused"].reset_index(drop=True)
