from pathlib import Path

import pytest
from matplotlib.image import imread

from raymat.data.describe import describe
from raymat.data.readers import load_crystals
from raymat.errors import RunError
from raymat.reports.data_figures import description_figure, save_description_figure, table_position


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


def test_picture_shows_target_and_elements(tmp_path: Path) -> None:
    found = describe(load_crystals("delta", target="bulk_modulus"), "log10_bulk_modulus")
    figure = description_figure(found)
    histogram, table = figure.axes[:2]
    assert histogram.get_xlabel() == "log10_bulk_modulus (log10(GPa))"
    assert sum(bar.get_height() for bar in histogram.patches) == 71
    texts = [text.get_text() for text in table.texts]
    assert texts.count("1") == 71
    assert "U" in texts
    save_description_figure(found, tmp_path / "d.png")
    assert imread(tmp_path / "d.png").shape[1] > 1000


def test_without_a_target_the_cells_are_shown() -> None:
    figure = description_figure(describe(load_crystals("delta")))
    assert figure.axes[0].get_xlabel() == "atoms per cell"


def test_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"d\.png: cannot be written \(No such file"):
        save_description_figure(describe(load_crystals("delta")), tmp_path / "none" / "d.png")
