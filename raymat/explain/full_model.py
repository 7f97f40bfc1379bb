"""The full model that coarse classifiers stand for: what it must be to be explained."""

import shutil
from pathlib import Path

import numpy as np

from raymat.ensembles.stored import is_ensemble
from raymat.errors import ConfigError, ModelFileError
from raymat.models.cgcnn import CGCNNConfig
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs
from raymat.training.model_files import TrainedModel, load_model, save_model


def load_full_model(folder: Path) -> TrainedModel:
    """Read a model folder.

    Raises:
        ModelFileError: it holds none, or an ensemble.
    """
    if is_ensemble(folder):
        raise ModelFileError(f"{folder}: an ensemble; name one member, such as members/0000 in it")
    return load_model(folder)


def keep_model(model: TrainedModel, folder: Path) -> TrainedModel:
    """Copy a model into a folder of the run, and give the copy; one that is there stays.

    So every host sees it, and a run that is resumed goes on with the model it began with.
    """
    if not folder.exists():
        begun = folder.with_name(f".{folder.name}")
        shutil.rmtree(begun, ignore_errors=True)  # of a run that was killed
        save_model(model, begun)
        begun.replace(folder)
    return load_model(folder)


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
