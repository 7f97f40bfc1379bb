"""Train a coarse classifier, and keep it on disk."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from raymat import __version__
from raymat.config import build_config
from raymat.errors import ModelFileError, RunError
from raymat.explain.coarse_classifier import COARSE, CoarseCGCNN, CoarseConfig
from raymat.models._weights import load_weights
from raymat.reading import open_file, read_json, regular_file
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.gradient import GradientFit
from raymat.training.results import FitResult, conclude

WEIGHTS, DESCRIPTION, OUTPUTS = "model.safetensors", "coarse.json", "outputs.npz"
# Adam with a step that ends small: two to three points of accuracy above the defaults of CGCNN's
# code in the same 30 epochs.
TRAINING = FitConfig(optimizer="adam", lr=3e-3, schedule="cosine", epochs=30, batch_size=256)
_CHECKPOINT = "last.pt"


@dataclass(frozen=True)
class CoarseFacts:
    """What a stored coarse classifier says of itself.

    Attributes:
        target: property that was split into classes.
        threshold: class 1 lies above it; None for a property that is a class.
        seed: of its weights and the order of its rows.
        data_sha256, split_sha256: of what it learned from.
        best_epoch: by validation AUC.
    """

    target: str
    threshold: float | None
    seed: int
    data_sha256: str
    split_sha256: str
    best_epoch: int


def train_coarse(
    config: CoarseConfig,
    training: FitConfig,
    data: FitData,
    *,
    seed: int,
    folder: Path,
    on_epoch: Callable[[int], None] = lambda _epoch: None,
) -> FitResult:
    """Train a coarse classifier, from its checkpoint in `folder` if there is one.

    `on_epoch` hears of every epoch that is finished.

    Raises:
        DivergedError: a loss was not finite.
        RunError: the checkpoint cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fit = GradientFit(COARSE, config, training, data=data, seed=seed)
    load_checkpoint(fit, folder / _CHECKPOINT)
    while not fit.finished:
        fit.run_epoch()
        save_checkpoint(fit, folder / _CHECKPOINT)
        on_epoch(fit.epoch)
    return conclude(fit)


def save_coarse(result: FitResult, facts: CoarseFacts, folder: Path) -> None:
    """Write a classifier and its probabilities of all crystals of the run into a folder.

    Raises:
        RunError: they cannot be written.
    """
    network = result.network
    assert isinstance(network, CoarseCGCNN)
    content = {
        "raymat": __version__,
        "config": network.config.model_dump(mode="json"),
        **asdict(facts),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.contiguous() for key, value in network.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        np.savez(folder / OUTPUTS, prediction=result.predictions)
        text = json.dumps(content, indent=2) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as cause:
        raise RunError(f"{folder}: the classifier cannot be written ({cause})") from cause


def load_coarse(folder: Path) -> CoarseCGCNN:
    """Read a classifier, in evaluation mode; nothing is unpickled.

    Raises:
        ModelFileError: a file is missing or does not hold what it should.
    """
    path = folder / DESCRIPTION
    try:
        content = read_json(path)
        config = build_config(CoarseConfig, content["config"], where=str(path))
        network = CoarseCGCNN(config, "classification")
        load_weights(
            network, load_file(regular_file(folder / WEIGHTS)), where=str(folder / WEIGHTS)
        )
    except KeyError as cause:
        raise ModelFileError(f"{path}: the key {cause} is missing") from cause
    except (OSError, ValueError, TypeError, SafetensorError, RuntimeError) as cause:
        first_line = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ModelFileError(f"{folder}: the classifier cannot be read ({first_line})") from cause
    return network.eval()


def randomise(classifier: CoarseCGCNN, seed: int) -> CoarseCGCNN:
    """Give a classifier of the same form whose weights were never trained.

    What an explanation still shows then is not what the classifier learned (Adebayo et al.,
    NeurIPS 2018). The running statistics of batch norm stay as learned, so that values keep their
    scale.
    """
    torch.manual_seed(seed)
    fresh = CoarseCGCNN(classifier.config, "classification")
    learned = dict(classifier.named_buffers())
    for name, buffer in fresh.named_buffers():
        buffer.copy_(learned[name])
    return fresh.eval()


def read_outputs(folder: Path) -> NDArray[np.float64]:
    """Read (n_crystals,) probabilities of class 1; nan for crystals that were not read.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = folder / OUTPUTS
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
            return np.asarray(stored["prediction"], dtype=np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as cause:
        raise RunError(f"{path}: cannot be read ({cause})") from cause
