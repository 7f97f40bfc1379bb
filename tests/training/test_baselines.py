"""The baselines that a model must beat."""

import numpy as np
import pytest
from fitting import TEST, TRAIN
from sklearn.ensemble import RandomForestRegressor

from raymat.features.elements import element_features
from raymat.training.baselines import (
    N_TREES,
    composition_baseline,
    composition_features,
    mean_baseline,
)


def test_mean():
    assert mean_baseline(np.array([1.0, 2.0, 6.0]), 2).tolist() == [3.0, 3.0]


def test_composition_features(tiny_crystals):
    features = composition_features(tiny_crystals)
    assert features.shape == (4, 101 + 92)
    titanate = features[3]
    assert titanate[[38, 22, 8]].tolist() == pytest.approx([0.2, 0.2, 0.6])
    assert titanate[:101].sum() == pytest.approx(1.0)
    vectors = element_features("properties_9")
    expected = 0.2 * vectors[38] + 0.2 * vectors[22] + 0.6 * vectors[8]
    assert titanate[101:] == pytest.approx(expected, abs=1e-6)


def test_composition_does_not_see_the_structure(twelve_crystals):
    """The set holds each compound at three volumes: one prediction for all of them."""
    features = composition_features(twelve_crystals)
    assert np.array_equal(features[0], features[4])
    predicted = composition_baseline(
        features,
        twelve_crystals.target("y"),
        train=TRAIN,
        predict=np.arange(12),
        task="regression",
        seed=0,
    )
    assert predicted[:4] == pytest.approx(predicted[4:8])
    assert predicted[:4] == pytest.approx(predicted[8:])


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_composition_learns_from_training_rows_only(twelve_crystals, task):
    features = composition_features(twelve_crystals)
    targets = twelve_crystals.target("y" if task == "regression" else "is_high")
    options = {"train": TRAIN, "predict": TEST, "task": task, "seed": 3}
    expected = composition_baseline(features, targets, **options)
    poisoned = targets.copy()
    poisoned[7:] = 1e9
    assert np.array_equal(composition_baseline(features, poisoned, **options), expected)
    if task == "classification":
        assert ((expected >= 0) & (expected <= 1)).all()
        assert expected.shape == TEST.shape


def test_composition_is_the_same_in_all_small_units(twelve_crystals):
    """To the last bit where the units differ by a power of 2; scikit-learn alone gives the mean."""
    features = composition_features(twelve_crystals)
    targets = twelve_crystals.target("y") * 2.0**-40
    options = {"train": TRAIN, "predict": np.arange(12), "task": "regression", "seed": 3}
    expected = composition_baseline(features, targets, **options)
    assert np.ptp(expected) > 0.1 * np.ptp(targets)
    for unit in (2.0**-60, 2.0**20, 2.0**90):
        predicted = composition_baseline(features, targets * unit, **options)
        assert np.array_equal(predicted, expected * unit)


@pytest.mark.parametrize("unit", [0.05, 1.0, 3e4])
def test_composition_of_ordinary_targets_is_that_of_plain_scikit_learn(twelve_crystals, unit):
    features = composition_features(twelve_crystals)
    targets = twelve_crystals.target("y") * unit
    plain = RandomForestRegressor(N_TREES, max_features=1 / 3, random_state=3)
    plain.fit(features[TRAIN], targets[TRAIN])
    options = {"train": TRAIN, "predict": TEST, "task": "regression", "seed": 3}
    predicted = composition_baseline(features, targets, **options)
    assert np.array_equal(predicted, plain.predict(features[TEST]))


@pytest.mark.parametrize("scale", [1e-12, 1e-5, 1e9])
def test_composition_learns_numbers_of_any_size(twelve_crystals, scale):
    features = composition_features(twelve_crystals)
    targets = twelve_crystals.target("y")
    options = {"train": TRAIN, "predict": np.arange(12), "task": "regression", "seed": 3}
    expected = composition_baseline(features, targets, **options)
    predicted = composition_baseline(features, targets * scale, **options) / scale
    # Twelve crystals have splits that are equally good, between which rounding decides.
    assert np.corrcoef(predicted, expected)[0, 1] > 0.9
    assert np.ptp(predicted) == pytest.approx(np.ptp(expected), rel=0.3)
