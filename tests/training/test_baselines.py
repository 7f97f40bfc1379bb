"""The baselines that a model must beat."""

import numpy as np
import pytest
from fitting import TEST, TRAIN

from raymat.features.elements import element_features
from raymat.training.baselines import composition_baseline, composition_features, mean_baseline


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
