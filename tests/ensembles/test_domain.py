"""The applicability domain: distances by another route, its threshold, and its file."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from raymat.ensembles.domain import LatentDomain
from raymat.errors import DataError

SAME = 1e-7  # distances come from squared norms: rounding of sqrt(1e-14)
N_SIGMA = 4


def draw(seed, n=1000, n_dim=6):
    """Latent vectors whose coordinates have very different sizes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_dim)) * 10.0 ** np.arange(-2, n_dim - 2) + 3.0


@pytest.fixture(scope="module")
def domain():
    return LatentDomain.fit(draw(1), n_neighbors=5, quantile=0.95)


def test_distances_by_another_route(domain):
    training, rows = draw(1), draw(2, n=50)
    scale = training.std(axis=0)
    nearest = np.sort(cdist(rows / scale, training / scale), axis=1)[:, :5]
    np.testing.assert_allclose(domain.distances(rows), nearest.mean(axis=1), rtol=SAME)


def test_threshold_is_of_distances_to_others(domain):
    training = draw(1)
    apart = cdist(training / training.std(axis=0), training / training.std(axis=0))
    own = np.sort(apart, axis=1)[:, 1:6].mean(axis=1)  # without the 0 to itself
    assert domain.threshold == pytest.approx(np.quantile(own, 0.95), rel=SAME)


def test_new_rows_of_the_same_kind_lie_inside_as_often(domain):
    """Leave-one-out makes the threshold hold for crystals that are new."""
    n = 1000
    outside = 1.0 - domain.contains(draw(3, n=n)).mean()
    assert abs(outside - 0.05) < N_SIGMA * np.sqrt(0.05 * 0.95 * 2 / n)


def test_far_rows_lie_outside(domain):
    far = draw(4, n=20)
    far[:, 0] += 8 * 0.01  # eight deviations in the smallest coordinate, which is not overlooked
    assert not domain.contains(far).any()
    assert (domain.distances(far) > domain.threshold).all()


def test_scale_of_coordinates_does_not_matter(domain):
    stretch = np.array([7.0, 1.0, 5.0, 0.3, 0.2, 0.1])
    other = LatentDomain.fit(draw(1) * stretch + 4.0, n_neighbors=5, quantile=0.95)
    rows = draw(5, n=30)
    np.testing.assert_allclose(
        other.distances(rows * stretch + 4.0), domain.distances(rows), rtol=1e-6
    )


def test_rows_in_shards_are_the_same(domain):
    rows = draw(6, n=40)
    shards = [domain.distances(rows[i : i + 7]) for i in range(0, 40, 7)]
    np.testing.assert_allclose(np.concatenate(shards), domain.distances(rows), rtol=SAME)


def test_coordinate_that_training_never_moves():
    """It counts when a candidate moves it, but no more than others do."""
    training = np.random.default_rng(7).normal(size=(200, 4))
    training[:, 3] = 0.5 + 1e-17
    domain = LatentDomain.fit(training)
    row = np.zeros((2, 4))
    row[:, 3] = [0.5, 9.5]
    near, far = domain.distances(row)
    assert near < domain.threshold < far
    assert 5 < far < 20


def test_latents_that_are_not_finite_lie_outside(domain):
    rows = draw(8, n=3)
    rows[1, 2] = np.nan
    distances = domain.distances(rows)
    assert distances[1] == np.inf
    assert np.isfinite(distances[[0, 2]]).all()
    assert not domain.contains(rows)[1]
    assert domain.distances(np.full((2, 6), np.nan)).tolist() == [np.inf, np.inf]
    assert len(domain.distances(np.zeros((0, 6)))) == 0


def test_float32_latents(domain):
    rows = draw(2, n=20).astype(np.float32)
    assert domain.distances(rows).dtype == np.float64


def test_round_trip_without_pickle(tmp_path, domain):
    path = tmp_path / "domain.npz"
    np.savez(path, **domain.to_arrays())
    with np.load(path, allow_pickle=False) as arrays:
        again = LatentDomain.from_arrays(dict(arrays))
    rows = draw(9, n=20)
    np.testing.assert_array_equal(again.distances(rows), domain.distances(rows))
    assert again.threshold == domain.threshold
    arrays = domain.to_arrays()
    del arrays["threshold"]
    with pytest.raises(KeyError, match="threshold"):
        LatentDomain.from_arrays(arrays)


@pytest.mark.parametrize(
    ("latents", "options", "message"),
    [
        (np.zeros((10, 3)), {}, r"shape \(10, 3\) with n_neighbors=10; expected"),
        (np.zeros(20), {}, r"shape \(20,\)"),
        (np.ones((20, 3)), {"n_neighbors": 0}, "n_neighbors=0"),
        (np.ones((20, 3)), {}, "of all training crystals are the same"),
        (np.full((20, 3), np.nan), {}, "latent vector is not finite"),
        (np.eye(20), {"quantile": 1.5}, "quantile=1.5; expected a share"),
    ],
)
def test_what_cannot_be_a_domain(latents, options, message):
    with pytest.raises(DataError, match=message):
        LatentDomain.fit(latents, **options)


def test_latents_of_another_model(domain):
    with pytest.raises(DataError, match=r"shape \(2, 5\).*length 6, give those of the same model"):
        domain.distances(np.zeros((2, 5)))
