"""Vectors on the plane; t-SNE is tested with the maps of latent space."""

import numpy as np
import pytest

from raymat.training.planes import principal_plane, tsne_plane


def test_directions_of_most_variance() -> None:
    along = np.array([-2.0, -1.0, 1.0, 2.0])
    across = np.array([0.5, -0.5, -0.5, 0.5])
    vectors = np.stack([across, 7.0 + along * 0.6, along * 0.8], axis=1)
    places, shares = principal_plane(vectors)
    assert np.abs(places) == pytest.approx(np.abs(np.stack([along, across], axis=1)))
    assert shares == pytest.approx([10.0 / 11.0, 1.0 / 11.0])


@pytest.mark.parametrize("vectors", [np.ones((1, 3)), np.ones((5, 3))])
def test_vectors_that_are_all_alike_lie_in_the_middle(vectors: np.ndarray) -> None:
    places, shares = principal_plane(vectors)
    assert places.tolist() == [[0.0, 0.0]] * len(vectors)
    assert shares.tolist() == [0.0, 0.0]


def test_vectors_of_one_number() -> None:
    places, shares = principal_plane(np.array([[1.0], [3.0]]))
    assert np.abs(places) == pytest.approx(np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert shares == pytest.approx([1.0, 0.0])


def test_a_seed_repeats_a_map() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    assert np.array_equal(tsne_plane(vectors, 1), tsne_plane(vectors, 1))
