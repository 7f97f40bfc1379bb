"""What a model must beat: the training mean, and a model that sees the composition only."""

import numpy as np
from numpy.typing import NDArray

from raymat.data.crystals import CrystalSet
from raymat.features.elements import element_features
from raymat.properties import Task

N_TREES = 100
_FITS = (1e-3, 1e6)  # spreads of targets that a forest learns as they are


def mean_baseline(targets: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """Predict the mean of the training targets, (n_rows,) times; for classes, their share of 1."""
    return np.full(n_rows, targets.mean())


def composition_baseline(
    features: NDArray[np.float32],
    targets: NDArray[np.float64],
    *,
    train: NDArray[np.int64],
    predict: NDArray[np.int64],
    task: Task,
    seed: int,
) -> NDArray[np.float64]:
    """Fit a random forest on composition features and predict rows.

    Breiman, Mach. Learn. 2001, 45, 5, as in scikit-learn, with a third of the features per split.
    It sees no structure, so what a graph network gains over it is the worth of the geometry.
    Numbers far from 1 are learned in a unit in which they spread by about 1, because scikit-learn
    takes a variance below 2e-16 for none.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    options = {
        "n_estimators": N_TREES,
        "max_features": 1 / 3,
        "random_state": seed % 2**32,
        "n_jobs": 1,
    }
    if task == "classification":
        classifier = RandomForestClassifier(**options).fit(features[train], targets[train] > 0.5)
        shares = classifier.predict_proba(features[predict])
        return np.asarray(shares[:, list(classifier.classes_).index(True)], dtype=np.float64)
    unit = _fitting_unit(targets[train])
    forest = RandomForestRegressor(**options).fit(features[train], targets[train] / unit)
    return np.asarray(forest.predict(features[predict]) * unit, dtype=np.float64)


def _fitting_unit(targets: NDArray[np.float64]) -> float:
    """Return the power of 2 next to the spread of targets, 1 where they need no other unit.

    Dividing by a power of 2 rounds nothing.
    """
    spread, (low, high) = float(np.ptp(targets)), _FITS
    if spread == 0 or low <= spread <= high:
        return 1.0
    return float(2.0 ** np.round(np.log2(spread)))


def composition_features(crystals: CrystalSet) -> NDArray[np.float32]:
    """Give (n_crystals, 101 + 92): atomic fractions by Z, and the mean element vector."""
    crystal = np.repeat(np.arange(len(crystals)), crystals.n_sites)
    counts = np.zeros((len(crystals), 101), dtype=np.float32)
    np.add.at(counts, (crystal, crystals.atomic_numbers), 1.0)
    fractions = counts / crystals.n_sites[:, None]
    return np.hstack([fractions, fractions @ element_features("properties_9")]).astype(np.float32)
