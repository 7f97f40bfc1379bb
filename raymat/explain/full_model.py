"""The full model that coarse classifiers stand for: what it must be to be explained."""

import numpy as np

from raymat.errors import ConfigError
from raymat.models.cgcnn import CGCNNConfig
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs
from raymat.training.model_files import TrainedModel


def check_explainable(model: TrainedModel, target: str, *, where: str) -> None:
    """Check that a model reads graphs of atoms, and learned the property.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(model.config, CGCNNConfig):
        raise ConfigError(
            f"{where}: a model of {model.name}; explanations are graphs of atoms, which CGCNN can"
            " be asked about; give a model that `raymat train` made of cgcnn"
        )
    if model.target != target:
        raise ConfigError(
            f"{where}: a model of {model.target}, but --target is {target}; give a model of"
            f" {target}, or --target {model.target}"
        )


def check_same_classes(
    model: TrainedModel, inputs: RunInputs, run: RunDirectory, *, where: str
) -> None:
    """Check that model and run mean the same classes; warn if it may have seen the test rows.

    A model of numbers takes the classes of the run.

    Raises:
        ConfigError: its classes are others.
    """
    own, asked = model.threshold, inputs.threshold
    if model.task == "classification" and not _same(own, asked):
        raise ConfigError(
            f"{where}: its class 1 is {_say(own)}, here it is {_say(asked)}; give a model of these"
            " classes, or other --classes"
        )
    if model.training.get("split_sha256") not in (None, inputs.split.sha256):
        run.emit(
            "warning",
            text="the full model was trained on another split: test rows may be among those it"
            " learned from, and its scores then too good",
        )


def _same(own: float | None, asked: float | None) -> bool:
    if own is None or asked is None:
        return own is asked
    return bool(np.isclose(own, asked))


def _say(threshold: float | None) -> str:
    return "the data's own" if threshold is None else f"above {threshold:.6g}"
