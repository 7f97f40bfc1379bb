from pathlib import Path

import pytest
from matplotlib.image import imread

from raymat.data.describe import describe
from raymat.data.readers import load_crystals
from raymat.errors import DataError
from raymat.reports.data_figures import description_figure, save_description_figure


def test_picture_shows_target_and_elements(tmp_path: Path) -> None:
    found = describe(load_crystals("delta", target="log10_bulk_modulus"), "log10_bulk_modulus")
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
    with pytest.raises(DataError, match=r"d\.png: cannot be written \(No such file"):
        save_description_figure(describe(load_crystals("delta")), tmp_path / "none" / "d.png")
