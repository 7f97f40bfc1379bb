"""Apply a network to crystals."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.data.scaling import TargetScaling
from raymat.features.table import FeatureTable, FeatureView
from raymat.models._spec import CrystalModel
from raymat.properties import Task

# Sites in one batch of prediction: large enough to fill a core, small enough for its cache.
SITES_PER_BATCH = 4096


def predict_rows(
    model: CrystalModel[Any],
    table: FeatureTable,
    rows: NDArray[np.int64],
    *,
    view: FeatureView,
    scaling: TargetScaling,
    task: Task,
    device: torch.device,
) -> NDArray[np.float64]:
    """Predict the crystals `rows` of a table: (n_rows,) in the target's unit, or P(class 1).

    Leaves the model in evaluation mode.
    """
    model.eval()
    parts = [np.zeros(0)]
    with torch.inference_mode():
        for some in _batches_by_sites(table, rows):
            out = model(view.batch(table, some).to(device)).double().cpu().numpy()
            parts.append(np.exp(out[:, 1]) if task == "classification" else out[:, 0])
    joined = np.concatenate(parts)
    return joined if task == "classification" else scaling.restore(joined)


def _batches_by_sites(table: FeatureTable, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if len(rows) == 0:
        return []
    sites = np.cumsum(table.n_sites[rows])
    cuts = np.flatnonzero(np.diff(sites // SITES_PER_BATCH)) + 1
    return np.split(rows, cuts)
