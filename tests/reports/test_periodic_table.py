"""The periodic table as a picture: where elements stand, which are pale, what they say."""

import pytest
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure

from raymat.reports.drawing import color_bar
from raymat.reports.periodic_table import draw_periodic_table, table_position


@pytest.mark.parametrize(
    ("z", "position"),
    [
        (1, (1, 1)), (2, (18, 1)), (5, (13, 2)), (11, (1, 3)), (21, (3, 4)), (56, (2, 6)),
        (57, (3, 8.4)), (70, (16, 8.4)), (71, (3, 6)), (72, (4, 6)), (86, (18, 6)),
        (100, (14, 9.4)),
    ],
)  # fmt: skip
def test_positions(z: int, position: tuple[float, float]) -> None:
    assert table_position(z) == position


def test_no_two_elements_share_a_place() -> None:
    assert len({table_position(z) for z in range(1, 101)}) == 100


def test_elements_without_a_value_are_pale() -> None:
    axes = Figure().subplots()
    scale = ScalarMappable(Normalize(0.0, 2.0), colormaps["viridis"])
    values = {"H": 0.0, "O": 2.0, "U": 3.0}
    draw_periodic_table(axes, values, scale, label="y (eV)", texts={"H": "0", "O": "2", "U": "3"})
    faces = [patch.get_facecolor() for patch in axes.patches]
    assert len(faces) == 100
    assert sum(face == to_rgba("#f1f1f1") for face in faces) == 97
    assert faces[0] == pytest.approx(colormaps["viridis"](0.0))
    assert faces[91] == faces[7] == pytest.approx(colormaps["viridis"](1.0))
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 103
    assert texts[:3] == ["H", "0", "He"]
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "y (eV)"


@pytest.mark.parametrize(
    ("values", "extend"),
    [((0.0, 2.0), "neither"), ((-1.0, 2.0), "min"), ((0.0, 3.0), "max"), ((-1.0, 3.0), "both")],
)
def test_bar_points_to_values_beyond_it(values: tuple[float, float], extend: str) -> None:
    axes = Figure().subplots()
    scale = ScalarMappable(Normalize(0.0, 2.0))
    color_bar([axes], scale, values, label="y")
    assert scale.colorbar.extend == extend
