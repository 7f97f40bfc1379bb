"""Predictions and latent vectors of trained models, several on one shared batch."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.features.table import FeatureTable, FeatureView
from raymat.training.model_files import TrainedModel
from raymat.training.predict import (
    Floats,
    evaluate_networks,
    map_batches,
    noise_in_unit,
    to_unit,
)


def predict_members(
    models: Sequence[TrainedModel],
    table: FeatureTable,
    rows: NDArray[np.int64] | None = None,
    device: str = "cpu",
) -> tuple[Floats, Floats | None]:
    """Predict with every member of an ensemble; on a CPU, bit by bit what each gives alone.

    Members that read the same view of the table share its batches.

    Args:
        models: the members.
        table: holds what every member reads.
        rows: (n_rows,) of the table; None for all.
        device: where to compute; the networks stay there.

    Returns:
        Predictions (n_members, n_rows) as `TrainedModel.predict` gives them, and the standard
        deviation (n_members, n_rows) of the noise in the target's unit; None unless all members
        predict one, since a part of them does not speak for the ensemble.

    Raises:
        ValueError: the table does not hold what a member reads.
    """
    rows = _rows(table, rows)
    values, noise = np.empty((2, len(models), len(rows)))
    for member, outputs in _outputs(models, table, rows, torch.device(device)):
        model = models[member]
        values[member] = to_unit(outputs, model.scaling, model.task)
        if model.predicts_noise:
            noise[member] = noise_in_unit(outputs, model.scaling)
    return values, noise if all(model.predicts_noise for model in models) else None


def latent_vectors(
    model: TrainedModel,
    table: FeatureTable,
    rows: NDArray[np.int64] | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Give the crystals' vectors before the model's head: (n_rows, any).

    Args:
        model: whose latent space.
        table: holds what the model reads.
        rows: (n_rows,) of the table, at least one; None for all.
        device: where to compute; the network stays there.

    Raises:
        ValueError: the table does not hold what the model reads, or there are no rows.
    """
    where = torch.device(device)
    network = model.network.to(where).eval()
    chosen = _rows(table, rows)
    if len(chosen) == 0:
        raise ValueError("latent vectors of no crystals were asked for")
    parts = map_batches(network.latent, table, chosen, view=model.view, device=where)
    return np.concatenate([part.astype(np.float32) for part in parts])


def _rows(table: FeatureTable, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.arange(len(table)) if rows is None else rows


def _outputs(
    models: Sequence[TrainedModel],
    table: FeatureTable,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Iterator[tuple[int, Floats]]:
    """Give each member's number and its outputs (n_rows, 2), view by view."""
    by_view: dict[FeatureView, list[int]] = {}
    for member, model in enumerate(models):
        by_view.setdefault(model.view, []).append(member)
    for view, members in by_view.items():
        networks = [models[member].network for member in members]
        yield from zip(
            members,
            evaluate_networks(networks, table, rows, view=view, device=device),
            strict=True,
        )
