"""Vectors on the plane: their two principal components, and t-SNE."""

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError

Floats = NDArray[np.float64]

PERPLEXITY = 30.0
FEWEST = 4  # vectors of a t-SNE map


def principal_plane(vectors: Floats) -> tuple[Floats, Floats]:
    """Give (n, 2) coordinates along the two directions of most variance, and its shares (2,).

    Both are zero where there is no such direction: for one vector, or vectors that are all alike.

    Args:
        vectors: (n, n_dim), which are centered and not scaled.
    """
    from sklearn.decomposition import PCA

    places, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    if len(vectors) < 2 or not np.ptp(vectors, axis=0).any():
        return places, shares
    n = min(2, *vectors.shape)
    model = PCA(n_components=n, svd_solver="full")
    places[:, :n] = model.fit_transform(vectors)
    shares[:n] = model.explained_variance_ratio_
    return places, shares


def tsne_plane(vectors: Floats, seed: int) -> Floats:
    """Give (n, 2) places by t-SNE, begun from the principal components.

    van der Maaten & Hinton, J. Mach. Learn. Res. 2008, 9, 2579; perplexity 30, or less for fewer
    than 91 vectors. Only neighborhoods mean something, not distances.

    Args:
        vectors: (n, n_dim), at least two numbers each.
        seed: of the map.

    Raises:
        DataError: there are fewer than four, or they are all the same.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(vectors) < FEWEST or not np.ptp(vectors, axis=0).any():
        raise DataError(
            f"{len(vectors)} latent vectors cannot be mapped; expected at least {FEWEST}, not all"
            " the same"
        )
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    model = TSNE(init="pca", random_state=seed, perplexity=perplexity, n_jobs=1)
    # Its gradient takes every core whatever n_jobs says, and where others want the cores, too, its
    # threads wait for each other most of the time.
    with threadpool_limits(1):
        return np.asarray(model.fit_transform(vectors), dtype=np.float64)
