"""Pictures of a comparison: what is drawn, from the figure itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from raymat.errors import DataError, RunError
from raymat.reports.comparison_figures import (
    bar_figure,
    learning_curve_figure,
    save_bar_figure,
    save_learning_curves,
)

SCALE = {"default": 2.0, "tuned": 1.0}
MAE = {"cgcnn": 0.08, "megnet": 0.07, "soap_svr": 0.11}


def result_rows(
    *, repetitions: int = 3, sizes: tuple[int, ...] = (500, 2000, 7000), **changes: Any
) -> pd.DataFrame:
    found = [
        {
            "property": "log10_K_VRH", "unit": "log10(GPa)", "model": model, "setting": setting,
            "repetition": repetition, "n_train": n, "n_test": 900,
            "mae": mae * (n / 7000) ** -0.3 * (1 + 0.02 * repetition) * SCALE[setting],
            "rmse": 2 * mae, "r2": 0.9, "train_time_s": 1000 * mae, "featurize_time_s": 1.0,
            "n_parameters": 100_000, "model_bytes": 400_000, "device": "cpu", **changes,
        }
        for model, mae in MAE.items()
        for setting in ("default", "tuned")
        for repetition in range(repetitions)
        for n in sizes
    ]  # fmt: skip
    return pd.DataFrame(found)


def widths(figure: Figure, panel: int) -> list[float]:
    return [bar.get_width() + bar.get_x() for bar in figure.axes[panel].patches]


def test_five_panels_of_the_largest_training_size() -> None:
    figure = bar_figure(result_rows(), "log10_K_VRH")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "MAE (log10(GPa))", "RMSE (log10(GPa))", "R²", "training time (s)", "parameters",
    ]  # fmt: skip
    assert [axes.get_xscale() for axes in figure.axes] == ["linear"] * 3 + ["log"] * 2
    expected = [2 * 1.02 * 0.08, 1.02 * 0.08, 2 * 1.02 * 0.07, 1.02 * 0.07, 2 * 1.02 * 0.11]
    assert widths(figure, 0)[:5] == pytest.approx(expected)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(MAE)
    points = figure.axes[0].collections
    assert sum(len(p.get_offsets()) for p in points if len(p.get_offsets()) == 3) == 3 * 6
    assert "7,000 training and 900 test crystals, 3 repetitions" in figure.get_suptitle()


def test_texts_stay_inside_and_apart() -> None:
    """What a reader would complain about: clipped or overlapping numbers."""
    figure = bar_figure(result_rows(), "log10_K_VRH")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)
        overlaps = [a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k]]
        assert not any(overlaps)
        own = axes.get_window_extent(renderer)
        assert all(box.x1 <= own.x1 + 2 for box in boxes), axes.get_xlabel()


def test_default_and_tuned_differ_in_grey() -> None:
    figure = bar_figure(result_rows(), "log10_K_VRH")
    default, tuned = figure.axes[0].patches[:2]
    grey = [
        float(np.dot(bar.get_facecolor()[:3], (0.299, 0.587, 0.114))) for bar in (default, tuned)
    ]
    assert grey[0] - grey[1] > 0.25
    assert default.get_hatch()
    assert not tuned.get_hatch()


def test_model_colors_differ_in_marker_too() -> None:
    figure = learning_curve_figure(result_rows(), "log10_K_VRH")
    handles = figure.legends[0].legend_handles
    looks = {(to_rgb(h.get_color()), h.get_marker()) for h in handles}
    assert len(looks) == len({marker for _, marker in looks}) == len(MAE)


def test_one_repetition_has_no_whiskers() -> None:
    figure = bar_figure(result_rows(repetitions=1, sizes=(7000,)), "log10_K_VRH")
    assert not figure.axes[0].collections
    assert "1 repetition" in figure.get_suptitle()


def test_odd_values_are_drawn() -> None:
    rows = result_rows(repetitions=2, sizes=(7000,))
    rows.loc[rows["model"] == "cgcnn", "r2"] = -40.0
    rows.loc[rows["model"] == "megnet", ["n_parameters", "train_time_s"]] = 0.0
    rows.loc[(rows["model"] == "soap_svr") & (rows["setting"] == "tuned"), "mae"] = np.nan
    figure = bar_figure(rows, "log10_K_VRH")
    assert figure.axes[2].get_xlim()[0] > -2
    assert "-40.0" in [text.get_text() for text in figure.axes[2].texts]
    assert "-" in [text.get_text() for text in figure.axes[0].texts]


def test_classes_have_their_own_panels() -> None:
    scores = {"auc": 0.95, "accuracy": 0.9, "accuracy_0": 0.8, "accuracy_1": 0.7}
    rows = result_rows(sizes=(7000,), task="classification", unit="", **scores)
    labels = [axes.get_xlabel() for axes in bar_figure(rows, "log10_K_VRH").axes]
    assert labels[:3] == ["ROC AUC", "accuracy of class 0", "accuracy of class 1"]


def test_learning_curves_show_their_slopes() -> None:
    figure = learning_curve_figure(result_rows(), "log10_K_VRH")
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "test MAE (log10(GPa))"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["500", "2,000", "7,000"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 6
    assert labels[1].startswith("cgcnn, tuned: -0.300 (-0.300 to -0.300)")
    ticks = [t.get_text() for t in axes.get_yticklabels()]
    assert all("^" not in tick for tick in ticks)


def test_two_sizes_have_a_curve_without_a_slope() -> None:
    figure = learning_curve_figure(result_rows(sizes=(500, 7000)), "log10_K_VRH")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "cgcnn, default"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_files(tmp_path: Path, ending: str) -> None:
    bars, curves = tmp_path / f"bars.{ending}", tmp_path / f"curves.{ending}"
    save_bar_figure(result_rows(), "log10_K_VRH", bars)
    save_learning_curves(result_rows(), "log10_K_VRH", curves)
    if ending == "png":
        assert imread(bars).shape[1] > 2000
    else:
        assert "<svg" in curves.read_text(encoding="utf-8")
    assert sorted(tmp_path.iterdir()) == [bars, curves]


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    rows = result_rows(sizes=(7000,))
    with pytest.raises(
        RunError, match="no results of the property 'log10_K'; did you mean 'log10_K_"
    ):
        save_bar_figure(rows, "log10_K", tmp_path / "a.png")
    with pytest.raises(RunError, match=r"cannot draw a '\.pdf' file; name a \.png or \.svg file"):
        save_bar_figure(rows, "log10_K_VRH", tmp_path / "a.pdf")
    with pytest.raises(RunError, match="a learning curve needs several training sizes"):
        save_learning_curves(rows, "log10_K_VRH", tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be written"):
        save_bar_figure(rows, "log10_K_VRH", tmp_path / "none" / "a.png")
