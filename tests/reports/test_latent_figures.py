"""The map of latent space: who is shown, where, and under which name."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.offsetbox import AnchoredText

from raymat.errors import DataError
from raymat.reports.latent_figures import latent_figure, latent_map, save_latent_map

CENTERS = np.array([[0.0] * 6, [30.0] * 6, [0.0] * 3 + [-30.0] * 3])


def vectors(group: int, n: int, seed: int = 0) -> np.ndarray:
    return CENTERS[group] + np.random.default_rng((seed, group)).normal(size=(n, 6))


TRAINING = np.concatenate([vectors(0, 30), vectors(1, 30)])
CANDIDATES = np.concatenate([vectors(0, 20, 1), vectors(1, 20, 1), vectors(2, 20, 1)])


def test_alike_crystals_lie_together_and_seeds_repeat() -> None:
    found = latent_map(TRAINING, CANDIDATES)
    same = latent_map(TRAINING, CANDIDATES)
    assert np.array_equal(found.training, same.training)
    group = np.repeat([0, 1, 2], 20)
    for number, center in enumerate((found.training[:30], found.training[30:])):
        distance = np.hypot(*(found.candidates - center.mean(axis=0)).T)
        assert distance[group == number].max() < distance[group != number].min()


def test_many_are_drawn_from_and_highlighted_ones_kept() -> None:
    found = latent_map(TRAINING, CANDIDATES, keep=(59, 3), most_points=30)
    assert (len(found.training), len(found.candidates)) == (15, 15)
    assert {3, 59} <= set(found.candidate_rows.tolist())
    assert len(set(found.candidate_rows.tolist())) == 15
    other = latent_map(TRAINING, CANDIDATES, keep=(59, 3), most_points=30, seed=1)
    assert other.candidate_rows.tolist() != found.candidate_rows.tolist()
    few = latent_map(TRAINING, CANDIDATES[:5], most_points=30)
    assert (len(few.training), len(few.candidates)) == (25, 5)


def test_figure_tells_who_is_shown() -> None:
    found = latent_map(TRAINING, CANDIDATES, keep=(59,), most_points=60)
    inside = np.arange(60) < 40
    figure = latent_figure(found, inside, {59: "LiX mp-1"})
    axes = figure.axes[0]
    n_inside = int(inside[found.candidate_rows].sum())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "training crystals (30 of 60)",
        f"candidates inside the domain ({n_inside} of 40)",
        f"candidates outside ({30 - n_inside} of 20)",
    ]
    assert [len(dots.get_offsets()) for dots in axes.collections[:3]] == [
        30,
        n_inside,
        30 - n_inside,
    ]
    ring = np.asarray(axes.collections[3].get_offsets())
    assert ring[0] == pytest.approx(found.candidates[found.candidate_rows.tolist().index(59)])
    assert [text.get_text() for text in axes.texts] == ["1"]
    listed = next(a for a in axes.artists if isinstance(a, AnchoredText)).txt.get_text()
    assert listed.endswith("LiX mp-1")


def test_without_a_domain_all_candidates_look_alike() -> None:
    figure = latent_figure(latent_map(TRAINING, CANDIDATES))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["training crystals (60)", "candidates (60)"]


def test_files(tmp_path: Path) -> None:
    files = save_latent_map(tmp_path / "map.png", TRAINING, CANDIDATES, highlighted={0: "a"})
    assert [file.name for file in files] == ["map.png", "map.svg"]
    assert sorted(tmp_path.iterdir()) == files


def test_odd_vectors() -> None:
    broken = CANDIDATES.copy()
    broken[7] = np.nan
    assert 7 not in latent_map(TRAINING, broken).candidate_rows
    with pytest.raises(DataError, match="candidate row 7 cannot be highlighted"):
        latent_map(TRAINING, broken, keep=(7,))
    with pytest.raises(DataError, match=r"expected \(n, n_dim\) and \(m, n_dim\) of one model"):
        latent_map(TRAINING, CANDIDATES[:, :3])
    with pytest.raises(DataError, match="a training crystal's latent vector is not finite"):
        latent_map(broken, CANDIDATES)
    with pytest.raises(DataError, match="120 latent vectors cannot be mapped"):
        latent_map(np.ones((60, 6)), np.ones((60, 6)))
