"""Small fits for the tests of training."""

import numpy as np

from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.features.store import FeatureStore
from raymat.models import load_spec
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.gradient import GradientFit

SMALL = {"atom_dim": 8, "n_conv": 2, "hidden_dim": 12, "n_hidden": 2}
TRAIN, VALIDATION, TEST = np.arange(7), np.array([7, 8, 9]), np.array([10, 11])


def table_of(crystals) -> NeighborTable:
    return build_neighbor_table(crystals, NeighborConfig(cutoff=8.0, max_neighbors=12))


def make_data(crystals, *, target="y", **changes) -> FitData:
    task = "classification" if target == "is_high" else "regression"
    values = {
        "features": FeatureStore(crystals, (table_of(crystals),)),
        "targets": crystals.target(target),
        "train": TRAIN,
        "validation": VALIDATION,
        "task": task,
        **changes,
    }
    return FitData(**values)


def make_fit(data: FitData, *, seed=0, model=None, **settings) -> GradientFit:
    spec = load_spec("cgcnn")
    defaults = {"optimizer": "adam", "lr": 3e-3, "batch_size": 3, "epochs": 10}
    return GradientFit(
        spec,
        spec.config(**{**SMALL, **(model or {})}),
        FitConfig(**{**defaults, **settings}),
        data=data,
        seed=seed,
    )


def run(fit: GradientFit, epochs: int) -> GradientFit:
    for _ in range(epochs):
        fit.run_epoch()
    return fit


def weights(fit: GradientFit) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy().copy() for k, v in fit.model.state_dict().items()}


def same_weights(a: GradientFit, b: GradientFit) -> bool:
    own, other = weights(a), weights(b)
    return own.keys() == other.keys() and all(np.array_equal(own[k], other[k]) for k in own)


def scores(fit: GradientFit) -> list[tuple[float, float]]:
    return [(m.train_loss, m.val_score) for m in fit.history]
