"""Whether a crystal lies where the training crystals lie, in a model's latent space.

The distance of a crystal is its mean Euclidean distance to the k nearest training crystals, in
latent coordinates scaled to unit variance over the training crystals. It is judged against what
the training crystals have among themselves, each left out of its own neighbors (Janet et al.,
Chem. Sci. 2019, 10, 7913).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError

Floats = NDArray[np.float64]

N_NEIGHBORS = 10
QUANTILE = 0.99  # of the training crystals' own distances; one in a hundred counts as outside
FLAT = 1e-6  # of the root mean square deviation; coordinates that vary less are one number


@dataclass(frozen=True, eq=False)
class LatentDomain:
    """The latent space that training crystals fill.

    Attributes:
        center: (n_dim,) mean of the training crystals.
        scale: (n_dim,) what a coordinate is divided by.
        training: (n_training, n_dim) scaled latent vectors.
        threshold: largest distance inside the domain.
        n_neighbors: k.
    """

    center: Floats
    scale: Floats
    training: Floats
    threshold: float
    n_neighbors: int

    @classmethod
    def fit(
        cls, latents: Floats, *, n_neighbors: int = N_NEIGHBORS, quantile: float = QUANTILE
    ) -> Self:
        """Fit on the training crystals.

        Args:
            latents: (n_training, n_dim).
            n_neighbors: k, fewer than there are crystals.
            quantile: share of the training crystals that count as inside, left out one by one.

        Raises:
            DataError: too few vectors, values that are not finite, vectors that are all the same,
                or a quantile that is no share.
        """
        _check(latents, n_neighbors, quantile)
        latents = latents.astype(np.float64)
        center, scale = latents.mean(axis=0), _scale(latents)
        training = (latents - center) / scale
        own = _mean_distances(training, None, n_neighbors)
        return cls(center, scale, training, float(np.quantile(own, quantile)), n_neighbors)

    def distances(self, latents: Floats) -> Floats:
        """Give (n_rows,) distances of (n_rows, n_dim) latent vectors; infinite if not finite.

        A training crystal is its own nearest neighbor here, which makes it closer than in `fit`.

        Raises:
            DataError: vectors of another length.
        """
        if latents.ndim != 2 or latents.shape[1] != len(self.center):
            raise DataError(
                f"latent vectors have shape {latents.shape}; this domain was fitted to vectors of"
                f" length {len(self.center)}, give those of the same model"
            )
        found = np.full(len(latents), np.inf)
        usable = np.isfinite(latents).all(axis=1)
        if usable.any():
            scaled = (latents[usable].astype(np.float64) - self.center) / self.scale
            found[usable] = _mean_distances(self.training, scaled, self.n_neighbors)
        return found

    def contains(self, latents: Floats) -> NDArray[np.bool_]:
        """Tell for (n_rows, n_dim) latent vectors whether each lies inside."""
        inside: NDArray[np.bool_] = self.distances(latents) <= self.threshold
        return inside

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give everything needed to make it again, ready for an npz file without pickle."""
        return {
            "center": self.center,
            "scale": self.scale,
            "training": self.training,
            "threshold": np.array(self.threshold),
            "n_neighbors": np.array(self.n_neighbors),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make it again from what `to_arrays` gave.

        Raises:
            KeyError: the name of an array that is missing.
        """
        return cls(
            center=arrays["center"],
            scale=arrays["scale"],
            training=arrays["training"],
            threshold=float(arrays["threshold"]),
            n_neighbors=int(arrays["n_neighbors"]),
        )


def _scale(latents: Floats) -> Floats:
    """Give the standard deviations; a typical one for coordinates that do not vary in training.

    Those may well vary among candidates, which must neither be overlooked nor count without limit.
    """
    deviations = latents.std(axis=0)
    typical = float(np.sqrt(np.square(deviations).mean()))
    if typical == 0:
        raise DataError("the latent vectors of all training crystals are the same; check the model")
    scale: Floats = np.where(deviations > FLAT * typical, deviations, typical)
    return scale


def _mean_distances(training: Floats, rows: Floats | None, n_neighbors: int) -> Floats:
    """Mean distance to the nearest training rows; of these rows, each without itself, for None."""
    from sklearn.neighbors import NearestNeighbors

    # "brute" also keeps the answer of a row apart from the others asked for at the same time.
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(training)
    distances: Floats = np.asarray(search.kneighbors(rows)[0], dtype=np.float64)
    means: Floats = distances.mean(axis=1)
    return means


def _check(latents: Floats, n_neighbors: int, quantile: float) -> None:
    if latents.ndim != 2 or n_neighbors < 1 or len(latents) <= n_neighbors:
        raise DataError(
            f"latent vectors of shape {latents.shape} with n_neighbors={n_neighbors}; expected"
            " (n_training, n_dim) with more crystals than neighbors"
        )
    if not np.isfinite(latents).all():
        raise DataError("a training crystal's latent vector is not finite; check the model")
    if not 0.0 < quantile <= 1.0:
        raise DataError(f"quantile={quantile:g}; expected a share above 0, at most 1")
