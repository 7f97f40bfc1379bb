"""Where training crystals and candidates lie in a model's latent space, as t-SNE maps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError
from raymat.reports.drawing import NAVY, ORANGE, PALE, number_points, save_figure
from raymat.training.planes import tsne_plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

MOST_POINTS = 5000


@dataclass(frozen=True, eq=False)
class LatentMap:
    """A map of latent vectors on the plane; only neighborhoods mean something, not distances.

    Attributes:
        training: (n_shown, 2) places of training crystals.
        training_rows: (n_shown,) which they are.
        candidates: (m_shown, 2) places of candidates.
        candidate_rows: (m_shown,) which they are.
        n_training, n_candidates: how many there are, shown or not.
    """

    training: Floats
    training_rows: Rows
    candidates: Floats
    candidate_rows: Rows
    n_training: int
    n_candidates: int


def save_latent_map(
    path: Path,
    training: Floats,
    candidates: Floats,
    *,
    in_domain: NDArray[np.bool_] | None = None,
    highlighted: Mapping[int, str] | None = None,
    most_points: int = MOST_POINTS,
    seed: int = 0,
) -> list[Path]:
    """Map latent vectors by t-SNE and draw the map as PNG and as SVG.

    Args:
        path: of both files; its ending is replaced.
        training: (n, n_dim) latent vectors of training crystals.
        candidates: (m, n_dim) of candidates; rows that are not finite are left out.
        in_domain: (m,) whether each candidate lies in the domain of the training crystals.
        highlighted: row of a candidate -> its name; these are shown in any case.
        most_points: that are shown; more are drawn at random, as many of each kind as possible.
        seed: of that draw and of t-SNE.

    Raises:
        DataError: vectors that do not fit together or cannot be mapped, a highlighted row that
            is none, or a file that cannot be written.
    """
    names = highlighted or {}
    found = latent_map(training, candidates, keep=tuple(names), most_points=most_points, seed=seed)
    return save_figure(latent_figure(found, in_domain, names), path)


def latent_map(
    training: Floats,
    candidates: Floats,
    *,
    keep: tuple[int, ...] = (),
    most_points: int = MOST_POINTS,
    seed: int = 0,
) -> LatentMap:
    """Give the places of training crystals and candidates on the plane.

    van der Maaten & Hinton, J. Mach. Learn. Res. 2008, 9, 2579, on coordinates scaled to unit
    variance over the training crystals, as their domain measures them; begun from the two
    principal components.

    Args:
        training: (n, n_dim).
        candidates: (m, n_dim).
        keep: rows of candidates that are shown in any case.
        most_points: see `save_latent_map`.
        seed: see `save_latent_map`.

    Raises:
        DataError: see `save_latent_map`.
    """
    _check(training, candidates, keep)
    usable = np.flatnonzero(np.isfinite(candidates).all(axis=1))
    rng = np.random.default_rng(seed)
    n_training, n_candidates = _shares(len(training), len(usable), most_points)
    training_rows = _draw(np.arange(len(training)), n_training, (), rng)
    candidate_rows = _draw(usable, n_candidates, keep, rng)
    places = tsne_plane(_scaled(training, training_rows, candidates, candidate_rows), seed)
    return LatentMap(
        training=places[: len(training_rows)],
        training_rows=training_rows,
        candidates=places[len(training_rows) :],
        candidate_rows=candidate_rows,
        n_training=len(training),
        n_candidates=len(candidates),
    )


def latent_figure(
    found: LatentMap,
    in_domain: NDArray[np.bool_] | None = None,
    highlighted: Mapping[int, str] | None = None,
) -> "Figure":
    """Give the figure that `save_latent_map` saves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 6.8), layout="constrained")
    axes = figure.subplots()
    inside = np.ones(found.n_candidates, dtype=np.bool_) if in_domain is None else in_domain
    is_inside = inside[found.candidate_rows]
    groups: tuple[tuple[str, Floats, int, dict[str, Any]], ...] = (
        ("training crystals", found.training, found.n_training, {"color": PALE, "s": 9}),
        ("candidates inside the domain" if in_domain is not None else "candidates",
         found.candidates[is_inside], int(inside.sum()), {"color": NAVY, "s": 9}),
        ("candidates outside", found.candidates[~is_inside], int((~inside).sum()),
         {"color": ORANGE, "s": 14, "marker": "^"}),
    )  # fmt: skip
    for name, points, n, style in groups:
        if n:
            shown = "" if len(points) == n else f"{len(points):,} of "
            label = f"{name} ({shown}{n:,})"
            axes.scatter(*points.T, lw=0, alpha=0.8, rasterized=True, label=label, **style)
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")  # the layout must be free to shape the axes
    axes.set_title(
        "Latent space (t-SNE: only neighborhoods mean something)", fontsize=11, loc="left"
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8, markerscale=2)
    if highlighted:
        where = {row: place for place, row in enumerate(found.candidate_rows.tolist())}
        places = found.candidates[[where[row] for row in highlighted]]
        number_points(axes, places, highlighted.values())
    return figure


def _check(training: Floats, candidates: Floats, keep: tuple[int, ...]) -> None:
    shapes = (training.shape, candidates.shape)
    if any(len(shape) != 2 or shape[1] < 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise DataError(
            f"latent vectors of shapes {shapes[0]} and {shapes[1]}; expected (n, n_dim) and"
            " (m, n_dim) of one model"
        )
    if not np.isfinite(training).all():
        raise DataError("a training crystal's latent vector is not finite; check the model")
    for row in keep:
        if not 0 <= row < len(candidates) or not np.isfinite(candidates[row]).all():
            raise DataError(
                f"candidate row {row} cannot be highlighted: there are {len(candidates)} rows and"
                " it must have a finite latent vector"
            )


def _shares(n_training: int, n_candidates: int, most: int) -> tuple[int, int]:
    """Give how many of each kind are shown: half each, or what the other kind leaves over."""
    first = min(n_training, max(most // 2, most - n_candidates))
    return first, min(n_candidates, most - first)


def _draw(rows: Rows, n: int, keep: tuple[int, ...], rng: np.random.Generator) -> Rows:
    kept = np.array(sorted(set(keep)), dtype=np.int64)
    others = np.setdiff1d(rows, kept)
    n_others = min(len(others), max(n - len(kept), 0))
    drawn = rng.choice(others, size=n_others, replace=False)
    return np.sort(np.concatenate([kept, drawn])).astype(np.int64)


def _scaled(
    training: Floats, training_rows: Rows, candidates: Floats, candidate_rows: Rows
) -> Floats:
    center, deviation = training.mean(axis=0), training.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    chosen = np.concatenate([training[training_rows], candidates[candidate_rows]])
    return np.asarray((chosen - center) / scale, dtype=np.float64)
