"""What one fit will need, told before it begins."""

import torch

from raymat.config import Config
from raymat.data.scaling import TargetScaling
from raymat.models._spec import ModelSpec
from raymat.properties import Task
from raymat.training.fit import FitData

# Weights, gradients, up to two moments of the optimiser, and the weights of the best epoch.
_COPIES = 5
_BYTES = 4  # of a float32


def count_parameters(spec: ModelSpec, config: Config, task: Task) -> int:
    """Count what a network would learn, without allocating it; 0 for one in closed form."""
    with torch.device("meta"):
        return spec.build(config, task).n_parameters


def count_training_bytes(n_parameters: int) -> int:
    """Give the memory that parameters take in training, without batches."""
    return _COPIES * _BYTES * n_parameters


def slow_fit_warning(spec: ModelSpec, config: Config, data: FitData) -> str | None:
    """Give one line if a single fit of a configuration will take long, measured on small fits."""
    if spec.warn is None:
        return None
    view = spec.reads(config)
    batch = view.batch(data.features.find(view.table_config), data.train)
    learned = data.targets[data.train]
    if data.task == "regression":
        learned = TargetScaling.fit(learned).scale(learned)
    return spec.warn(config, batch, torch.tensor(learned), task=data.task)
