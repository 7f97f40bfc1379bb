"""Apply a network to crystals."""

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.data.scaling import TargetScaling
from raymat.features.graph import GraphView, batch_graph
from raymat.features.neighbor_table import NeighborTable
from raymat.models._spec import CrystalModel
from raymat.properties import Task

# Atoms in one batch of prediction: large enough to fill a core, small enough for its cache.
ATOMS_PER_BATCH = 4096


def predict_rows(
    model: CrystalModel,
    table: NeighborTable,
    rows: NDArray[np.int64],
    *,
    view: GraphView,
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
        for batch in _batches_by_atoms(table, rows):
            out = model(batch_graph(table, batch, view).to(device)).double().cpu().numpy()
            parts.append(np.exp(out[:, 1]) if task == "classification" else out[:, 0])
    joined = np.concatenate(parts)
    return joined if task == "classification" else scaling.restore(joined)


def _batches_by_atoms(table: NeighborTable, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if len(rows) == 0:
        return []
    atoms = np.cumsum(np.diff(table.offsets)[rows])
    cuts = np.flatnonzero(np.diff(atoms // ATOMS_PER_BATCH)) + 1
    return np.split(rows, cuts)
