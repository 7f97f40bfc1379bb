"""Where the crystals of a run lie in its model's latent space: a small map on the plane, kept."""

import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.splits import Split
from raymat.errors import DataError, RaymatError, one_line
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs
from raymat.training.members import latent_vectors
from raymat.training.model_files import TrainedModel
from raymat.training.planes import tsne_plane

Rows = NDArray[np.int64]

LATENT_MAP = "latent_map.parquet"
MOST_CRYSTALS = 1_500  # t-SNE takes six seconds for these on one core, and grows with their number
_SEED = 0  # of the draw and of t-SNE
# What can go wrong with numbers, memory or a disk; none of it is worth a run that has its model.
_PROBLEMS = (RaymatError, ArithmeticError, MemoryError, OSError, RuntimeError, ValueError)


def keep_latent_map(
    model: TrainedModel, table: FeatureTable, inputs: RunInputs, run: RunDirectory
) -> None:
    """Write `latent_map.parquet`: ``material_id, part, x, y`` of some crystals of the split.

    A model that is solved in closed form has no hidden vectors and gets no map. A map that cannot
    be made is a warning in the log, for the run has its model.

    Args:
        model: the winner, or the reference member of an ensemble.
        table: holds what it reads.
        inputs: crystals and split of the run.
        run: where to.
    """
    if load_spec(model.name).fit == "closed_form":
        return
    start = time.perf_counter()
    run.emit("mapping_latents")
    try:
        found = latent_map(model, table, inputs)
        with run.replacing(LATENT_MAP) as path:
            found.to_parquet(path, index=False)
    except _PROBLEMS as problem:
        reason = one_line(problem)
        run.emit("warning", text=f"no map of the latent space: {reason}")
        return
    run.emit("latents_mapped", crystals=len(found), time_s=time.perf_counter() - start)


def latent_map(
    model: TrainedModel, table: FeatureTable, inputs: RunInputs, *, most: int = MOST_CRYSTALS
) -> pd.DataFrame:
    """Give ``material_id, part, x, y``: t-SNE of the latent vectors of some crystals of the split.

    Coordinates are scaled to unit variance over the training rows that are mapped.

    Raises:
        DataError: fewer than four crystals have a vector, or all vectors are the same.
    """
    rows = draw_rows(inputs.split, most)
    vectors = latent_vectors(model, table, rows).astype(np.float64)
    is_known = np.isfinite(vectors).all(axis=1)
    rows, vectors = rows[is_known], vectors[is_known]
    is_training = inputs.split.parts[rows] == "train"
    if not is_training.any():
        raise DataError("no training crystal has a finite latent vector")
    deviation = vectors[is_training].std(axis=0)
    places = tsne_plane(vectors / np.where(deviation > 0, deviation, 1.0), _SEED)
    return pd.DataFrame(
        {
            "material_id": inputs.crystals.material_ids[rows],
            "part": inputs.split.parts[rows],
            "x": places[:, 0].astype(np.float32),
            "y": places[:, 1].astype(np.float32),
        }
    )


def draw_rows(split: Split, most: int = MOST_CRYSTALS) -> Rows:
    """Draw the crystals of the map: test rows first, but half of it at most while others are left.

    Returns:
        (n,) rows, ascending, n at most `most`; the same for the same split.
    """
    rng = np.random.default_rng(_SEED)
    test = rng.permutation(split.rows("test"))
    others = rng.permutation(np.concatenate([split.rows("train"), split.rows("validation")]))
    n_test = min(len(test), max(most // 2, most - len(others)))
    return np.sort(np.concatenate([test[:n_test], others[: most - n_test]]))
