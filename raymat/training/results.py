"""What a run says at its end: predictions of every row, scores, the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.config import Config
from raymat.data.scaling import TargetScaling
from raymat.data.splits import Part
from raymat.errors import RunError
from raymat.models._spec import CrystalModel
from raymat.training.baselines import composition_baseline, composition_features, mean_baseline
from raymat.training.fit import EpochMetrics, Fit
from raymat.training.inputs import RunInputs
from raymat.training.metrics import score_predictions
from raymat.training.model_files import TrainedModel
from raymat.training.predict import evaluate_networks, noise_in_unit, to_unit
from raymat.training.verdict import judge

Floats = NDArray[np.float64]

FLAT = 1e-3  # of the targets' std: predictions that spread less are one number


def score_part(inputs: RunInputs, part: Part, predictions: Floats) -> dict[str, Any]:
    """Score predictions of all crystals on the rows of one part."""
    rows = inputs.split.rows(part)
    return score_predictions(inputs.prop.task, inputs.targets[rows], predictions[rows])


def say_if_flat(inputs: RunInputs, predictions: Floats) -> str | None:
    """Return one line if validation and test rows are all predicted (nearly) the same."""
    rows = np.concatenate([inputs.split.rows("validation"), inputs.split.rows("test")])
    rows = rows[np.isfinite(predictions[rows])]
    if not len(rows):
        return None
    spread, wanted = float(predictions[rows].std()), float(inputs.targets[rows].std())
    if spread >= FLAT * wanted:
        return None
    return (
        f"the model predicts about {predictions[rows].mean():.4g} for every validation and test row"
        f" (std {spread:.2g}, that of the targets is {wanted:.2g}): it has learned nothing; check"
        " the target's unit, training.target_scaling and training.lr"
    )


def predict_baselines(inputs: RunInputs) -> dict[str, Floats]:
    """Predict the test rows with the two baselines.

    Both learn from the training rows only, like the model they are compared with. The forest has
    the seed of the split, so a split has one pair of baselines, whatever is compared with them.
    """
    seed = inputs.split.config.seed
    train, test = inputs.split.rows("train"), inputs.split.rows("test")
    features = composition_features(inputs.crystals)
    return {
        "mean": mean_baseline(inputs.targets[train], len(test)),
        "composition": composition_baseline(
            features, inputs.targets, train=train, predict=test, task=inputs.prop.task, seed=seed
        ),
    }


def score_against_baselines(
    inputs: RunInputs,
    predictions: Floats,
    baselines: Mapping[str, Floats],
    *,
    default: Floats | None = None,
) -> dict[str, Any]:
    """Compute what `metrics.json` says of the test rows besides the model's own scores.

    Args:
        inputs: of the run.
        predictions: (n_crystals,) of the model.
        baselines: of the test rows, as `predict_baselines` gives them.
        default: (n_crystals,) of the default configuration, if there is one to compare with.

    Returns:
        ``baselines``: their scores, and ``verdict``: see `judge`.
    """
    rows, task = inputs.split.rows("test"), inputs.prop.task
    targets = inputs.targets[rows]
    others = dict(baselines) if default is None else {**baselines, "default": default[rows]}
    return {
        "baselines": {
            name: score_predictions(task, targets, own) for name, own in baselines.items()
        },
        "verdict": judge(task, targets, predictions[rows], others),
    }


def prediction_table(inputs: RunInputs, predictions: Floats) -> pd.DataFrame:
    """Give `predictions.parquet`: one row per crystal that the split uses."""
    table = pd.DataFrame(
        {
            "material_id": inputs.crystals.material_ids,
            "part": inputs.split.parts,
            "target": inputs.targets,
            "prediction": predictions,
        }
    )
    return table[table["part"] != "unused"].reset_index(drop=True)


@dataclass(frozen=True)
class FitResult:
    """A fit at its end, on the weights of its best epoch.

    Attributes:
        best: the best validation epoch.
        network: on the CPU.
        scaling: between network output and the target's unit.
        predictions: (n_crystals,) of all crystals; nan for those that the model cannot read.
        noise: (n_crystals,) standard deviation that the network predicts of the target itself;
            None for a network that predicts the target only.
        epochs: epochs trained.
        train_time_s: wall seconds of training in these epochs, without validation.
        featurize_time_s: wall seconds that the making of features took inside the fit.
        n_parameters: numbers that training set.
        n_lost: crystals that the model can read, and yet predicts no finite number of.
    """

    best: EpochMetrics
    network: CrystalModel[Any]
    scaling: TargetScaling
    predictions: Floats
    noise: Floats | None
    epochs: int
    train_time_s: float
    featurize_time_s: float
    n_parameters: int
    n_lost: int = 0


def conclude(fitting: Fit) -> FitResult:
    """Go back to a fit's best weights and predict every crystal.

    Raises:
        RunError: it has no finished epoch.
    """
    if fitting.best is None:
        raise RunError("no epoch was finished, so there is no model")
    fitting.use_best_weights()
    predictions, noise, n_lost = _predict_all(fitting)
    return FitResult(
        best=fitting.best,
        network=fitting.model.cpu(),
        scaling=fitting.scaling,
        predictions=predictions,
        noise=noise,
        epochs=fitting.epoch,
        train_time_s=sum(metrics.train_time_s for metrics in fitting.history),
        featurize_time_s=fitting.featurize_time_s,
        n_parameters=fitting.n_parameters,
        n_lost=n_lost,
    )


def _predict_all(fitting: Fit) -> tuple[Floats, Floats | None, int]:
    """Give predictions and noise of all crystals, and how many usable ones are not finite."""
    n = len(fitting.data.targets)
    unusable = fitting.view.unusable(fitting.data.features.crystals, fitting.table)
    rows = np.setdiff1d(np.arange(n), list(unusable)).astype(np.int64)
    (outputs,) = evaluate_networks(
        [fitting.model], fitting.table, rows, view=fitting.view, device=fitting.device
    )
    predictions, noise = np.full((2, n), np.nan)
    predictions[rows] = to_unit(outputs, fitting.scaling, fitting.data.task)
    is_lost = ~np.isfinite(predictions[rows])
    if fitting.output != "gaussian":
        return predictions, None, int(is_lost.sum())
    noise[rows] = noise_in_unit(outputs, fitting.scaling)
    is_lost |= ~np.isfinite(noise[rows])
    return predictions, noise, int(is_lost.sum())


def to_trained_model(
    name: str, config: Config, result: FitResult, inputs: RunInputs, training: dict[str, Any]
) -> TrainedModel:
    """Join a fit's result with what is needed to predict later; `training` is for the reader."""
    return TrainedModel(
        name=name,
        config=config,
        network=result.network,
        target=inputs.prop.name,
        unit=inputs.prop.unit,
        task=inputs.prop.task,
        scaling=result.scaling,
        threshold=inputs.threshold,
        class_names=inputs.prop.names,
        elements=inputs.elements(),
        training=training,
        predicts_noise=result.noise is not None,
    )
