"""Pictures of site contributions: what is drawn, from the figures themselves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from raymat.data.composition import SYMBOLS
from raymat.explain.site_contributions import SiteContributions
from raymat.reports import drawing
from raymat.reports.site_figures import (
    element_map_figure,
    elements_figure,
    histograms_figure,
    save_site_figures,
    site_map_figure,
)

NUMBERS = (1, 3, 6, 7, 8, 9, 11, 12, 14, 17, 26, 57, 58, 92)  # La, Ce and U have no group


def make(
    numbers: Sequence[int] = NUMBERS,
    *,
    shift: float = -3.0,
    n_sampled: int = 40,
    alike: bool = False,
) -> SiteContributions:
    """Give contributions of 2 sites of the first element, 3 of the second, and so on."""
    rng = np.random.default_rng(0)
    z = np.repeat(numbers, np.arange(2, 2 + len(numbers)))
    sites = pd.DataFrame(
        {
            "material_id": [f"m-{i % 9}" for i in range(len(z))],
            "site": np.arange(len(z)),
            "element": [SYMBOLS[number - 1] for number in z],
            "atomic_number": z,
            "contribution": shift + 0.02 * z + rng.uniform(-0.2, 0.2, len(z)),
        }
    )
    own = sites.groupby("atomic_number")["contribution"]
    elements = own.agg(["size", "mean", "std", "min", "max"]).reset_index()
    elements.insert(0, "element", [SYMBOLS[number - 1] for number in numbers])
    elements = elements.rename(columns={"size": "n_sites"}).drop(columns="atomic_number")
    elements.insert(2, "n_crystals", np.minimum(elements["n_sites"], 9))
    sampled = np.sort(rng.choice(len(z), min(len(z), n_sampled), replace=False))
    vectors = np.zeros((len(sampled), 5)) if alike else rng.normal(size=(len(sampled), 5))
    return SiteContributions(
        target="formation_energy_per_atom",
        unit="eV/atom",
        sites=sites,
        elements=elements,
        pairs=pd.DataFrame(),
        sampled=sampled,
        site_vectors=vectors,
        element_vectors=rng.normal(size=(len(numbers), 5)),
    )


@pytest.fixture(scope="module")
def found() -> SiteContributions:
    return make()


def points(axes: Axes) -> np.ndarray:
    (dots,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    return np.asarray(dots.get_offsets())


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_elements_on_the_periodic_table(found: SiteContributions) -> None:
    figure = elements_figure(found)
    table, bar = figure.axes
    assert len(table.patches) == 100
    assert len(table.texts) == 100 + len(NUMBERS)
    assert bar.get_ylabel() == "mean contribution (eV/atom)"
    title = table.get_title(loc="left")
    assert title.startswith("Mean contribution of an element's sites to formation_energy_per_atom")
    assert "119 sites of 9 crystals; in brackets: in fewer than 5 crystals" in title
    means = found.elements["mean"]
    shown = words(table)
    assert shown[1] == f"({means[0]:.2f})".replace("-", "−")  # H, in 2 crystals
    assert shown[shown.index("U") + 1] == f"{means.iloc[-1]:.2f}".replace("-", "−")


def test_colors_stand_around_zero_for_both_signs_only(found: SiteContributions) -> None:
    means = found.elements["mean"]
    one_sided = elements_figure(found).axes[1].get_ylim()
    assert one_sided == pytest.approx((means.min(), means.max()))
    low, high = elements_figure(make(shift=-1.0)).axes[1].get_ylim()
    assert low == pytest.approx(-high)


def test_histograms_of_the_most_frequent_elements(found: SiteContributions) -> None:
    figure = histograms_figure(found)
    assert len(figure.axes) == 12
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split(":")[0] for title in titles] == [SYMBOLS[z - 1] for z in NUMBERS[2:]]
    counts = [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes]
    assert counts == list(range(4, 16))
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.get_supxlabel() == "contribution to formation_energy_per_atom (eV/atom)"
    mean = found.elements["mean"].iloc[-1]
    line = figure.axes[-1].lines[0]
    assert np.asarray(line.get_xdata())[0] == pytest.approx(mean)


def test_few_elements_have_few_histograms() -> None:
    figure = histograms_figure(make(NUMBERS[:5]))
    assert len(figure.axes) == 5
    figure.draw_without_rendering()
    labelled = [
        any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks())
        for axes in figure.axes
    ]
    assert labelled == [False, True, True, True, True]  # the last of every column


def test_sites_on_the_plane(found: SiteContributions) -> None:
    figure = site_map_figure(found)
    principal, tsne, bar = figure.axes
    assert points(principal).shape == points(tsne).shape == (40, 2)
    assert principal.get_xlabel().startswith("principal component 1 (")
    assert bar.get_ylabel() == "contribution to formation_energy_per_atom (eV/atom)"
    assert figure.get_suptitle().startswith("Vectors of 40 of 119 sites after the last convolution")
    common = found.elements.nlargest(12, "n_sites")["element"]
    sampled = found.sites["element"].iloc[found.sampled]
    assert set(words(principal)) == set(words(tsne)) == set(common) & set(sampled)


@pytest.mark.parametrize(("n_sampled", "alike", "n"), [(6, False, 6), (40, True, 1)])
def test_few_different_sites_have_no_tsne(n_sampled: int, alike: bool, n: int) -> None:
    figure = site_map_figure(make(n_sampled=n_sampled, alike=alike))
    principal, tsne = figure.axes[:2]
    assert len(points(principal)) == n_sampled
    assert not tsne.collections
    assert words(tsne) == [f"no t-SNE of {n} different vectors"]


def test_elements_on_the_plane(found: SiteContributions) -> None:
    figure = element_map_figure(found)
    assert len(figure.axes) == 3
    for axes in figure.axes[:2]:
        assert len(points(axes)) == len(NUMBERS)
        assert words(axes) == [SYMBOLS[z - 1] for z in NUMBERS]
    (dots,) = figure.axes[0].collections
    colors = dots.get_facecolor()
    assert colors[-3].tolist() == colors[-1].tolist()  # La and U, both without a group
    assert colors[0].tolist() == colors[1].tolist() == colors[6].tolist()  # H, Li, Na
    assert colors[4].tolist() != colors[5].tolist()


def test_few_elements_have_no_tsne() -> None:
    figure = element_map_figure(make(NUMBERS[:3]))
    assert len(figure.axes) == 2
    assert words(figure.axes[0]) == ["H", "Li", "C"]


def gaps(figure: Figure, axes: Axes) -> np.ndarray:
    """Give the distances between the middles of all labels in points."""
    figure.draw_without_rendering()
    places = axes.transData.transform([text.get_position() for text in axes.texts])
    between = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) * 72 / figure.dpi
    return between[np.triu_indices(len(places), 1)]


def test_labels_of_one_place_stay_apart() -> None:
    found = make()
    found.element_vectors[2:5] = found.element_vectors[1]
    figure = element_map_figure(found)
    for axes in figure.axes[:2]:
        assert gaps(figure, axes).min() > 9.0  # two letters of 7 points


def test_vectors_of_one_number_can_be_drawn() -> None:
    found = make()
    one = SiteContributions(
        **{**vars(found), "site_vectors": found.site_vectors[:, :1],
           "element_vectors": found.element_vectors[:, :1]}
    )  # fmt: skip
    assert len(points(site_map_figure(one).axes[1])) == 40
    assert len(points(element_map_figure(one).axes[1])) == len(NUMBERS)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 20)  # matplotlib takes seconds for the full size
    files = save_site_figures(make(NUMBERS[:2], n_sampled=3), tmp_path)
    names = ("elements", "histograms", "site_map", "element_map")
    assert [file.name for file in files] == [f"{n}.{end}" for n in names for end in ("png", "svg")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
