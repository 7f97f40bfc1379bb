"""Apply networks to crystals."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from raymat.data.scaling import TargetScaling
from raymat.features.table import Batch, FeatureTable, FeatureView
from raymat.models._spec import CrystalModel
from raymat.properties import Task

Floats = NDArray[np.float64]

# Sites in one batch of prediction. On a CPU the edges of a batch should stay in a core's cache:
# 1,000 sites are evaluated 1.4 times as fast as 4,000. A GPU wants enough to fill it.
SITES_PER_BATCH = {"cpu": 1024, "cuda": 16_384}


def predict_rows(
    model: CrystalModel[Any],
    table: FeatureTable,
    rows: NDArray[np.int64],
    *,
    view: FeatureView,
    scaling: TargetScaling,
    task: Task,
    device: torch.device,
) -> Floats:
    """Predict the crystals `rows` of a table: (n_rows,) in the target's unit, or P(class 1).

    Leaves the model in evaluation mode.
    """
    (outputs,) = evaluate_networks([model], table, rows, view=view, device=device)
    return to_unit(outputs, scaling, task)


def evaluate_networks(
    networks: Sequence[CrystalModel[Any]],
    table: FeatureTable,
    rows: NDArray[np.int64],
    *,
    view: FeatureView,
    device: torch.device,
) -> Floats:
    """Evaluate networks that read the same view, every batch being made once for all of them.

    Leaves the networks on `device`, in evaluation mode.

    Returns:
        (n_networks, n_rows, 2) outputs as `CrystalModel.forward` gives them; the second column is
        nan for a network that gives one number.
    """
    for network in networks:
        network.to(device).eval()

    def evaluate(batch: Batch) -> Tensor:
        return torch.stack([_two_columns(network(batch)) for network in networks], dim=1)

    start = np.zeros((0, len(networks), 2))
    parts = [start, *map_batches(evaluate, table, rows, view=view, device=device)]
    return np.concatenate(parts).swapaxes(0, 1)


def map_batches(
    evaluate: Callable[[Any], Tensor],
    table: FeatureTable,
    rows: NDArray[np.int64],
    *,
    view: FeatureView,
    device: torch.device,
) -> Iterator[NDArray[Any]]:
    """Give what a function makes of each batch of `rows`, without gradients, as arrays."""
    for some in _batches_by_sites(table, rows, SITES_PER_BATCH[device.type]):
        with torch.inference_mode():
            part = evaluate(view.batch(table, some).to(device))
        yield part.cpu().numpy()


def to_unit(outputs: Floats, scaling: TargetScaling, task: Task) -> Floats:
    """Turn outputs (n_rows, 2) into (n_rows,) in the target's unit, or P(class 1)."""
    return np.exp(outputs[:, 1]) if task == "classification" else scaling.restore(outputs[:, 0])


def noise_in_unit(outputs: Floats, scaling: TargetScaling) -> Floats:
    """Turn outputs (n_rows, 2), mean and log variance, into (n_rows,) spreads in the unit."""
    return np.exp(0.5 * outputs[:, 1]) * scaling.std


def _two_columns(out: Tensor) -> Tensor:
    return F.pad(out.double(), (0, 2 - out.shape[1]), value=torch.nan)


def _batches_by_sites(
    table: FeatureTable, rows: NDArray[np.int64], n_sites: int
) -> list[NDArray[np.int64]]:
    if len(rows) == 0:
        return []
    sites = np.cumsum(table.n_sites[rows])
    cuts = np.flatnonzero(np.diff(sites // n_sites)) + 1
    return np.split(rows, cuts)
