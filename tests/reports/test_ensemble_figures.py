"""Pictures of an ensemble: what is drawn, from the figure itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ensemble_run import N_ROWS, write_ensemble_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raymat.errors import DataError, RunError
from raymat.reports.ensemble_figures import (
    binned_spread,
    calibration_figure,
    save_ensemble_figures,
)
from raymat.reports.ensemble_results import read_results
from raymat.reports.member_curve_figure import member_curve_figure

AREA_ROUNDING = 6e-4  # legends show three decimals


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    write_ensemble_run(folder)
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    write_ensemble_run(folder, task="classification")
    return folder


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [one for one in axes.get_lines() if str(one.get_label()).startswith(label)]
    assert len(found) == 1, [one.get_label() for one in axes.get_lines()]
    return tuple(np.atleast_1d(np.asarray(data, float)) for data in found[0].get_data())


def read(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / name).read_text(encoding="utf-8"))


def test_areas_in_the_legend_are_those_of_the_run(run: Path) -> None:
    axes = calibration_figure(read_results(run)).axes[0]
    shown = [float(text.rsplit(": ", 1)[1]) for text in texts(axes)]
    stored = read(run, "calibration.json")
    areas = [stored["before"], *(method["scores"] for method in stored["methods"].values())]
    expected = [scores["miscalibration_area"] for scores in areas]
    assert shown == pytest.approx(expected, abs=AREA_ROUNDING)
    assert shown[0] > 2 * shown[1]
    assert texts(axes)[1].startswith(
        f"std × {stored['methods']['std_scaling']['fitted']['factor']:.2f}"
    )
    assert [axes.get_xlabel(), axes.get_ylabel()] == [
        "expected share in the interval",
        "observed share in the interval",
    ]


def test_calibration_curve_passes_through_the_coverage(run: Path) -> None:
    axes = calibration_figure(read_results(run)).axes[0]
    expected, observed = line(axes, "as predicted")
    stored = read(run, "calibration.json")["before"]
    for level in (50, 90, 95):
        found = float(np.interp(level / 100, expected, observed))
        assert found == pytest.approx(stored[f"coverage_{level}"], abs=0.01)


def test_error_against_spread(run: Path) -> None:
    axes = calibration_figure(read_results(run)).axes[1]
    factor = read(run, "calibration.json")["methods"]["std_scaling"]["fitted"]["factor"]
    before, after = line(axes, "RMSE of a bin, std as"), line(axes, "RMSE of a bin, std ×")
    assert after[0] == pytest.approx(factor * before[0])
    assert np.array_equal(after[1], before[1])
    assert axes.get_xlabel() == "std (log10(GPa))"
    assert axes.get_ylabel() == "absolute error (log10(GPa))"
    rank = read(run, "calibration.json")["before"]["spearman"]
    assert axes.get_title() == f"Error against spread: rank correlation {rank:.2f}"


def test_bins_of_the_spread() -> None:
    std = np.concatenate([np.full(60, 2.0), np.full(60, 1.0)])
    errors = np.concatenate([np.full(30, 3.0), np.full(30, 5.0), np.full(60, 0.5)])
    found = binned_spread(std, errors)
    assert found[0].tolist() == [1.0] * 3 + [2.0] * 3
    assert np.square(found[1]).mean() == pytest.approx(np.square(errors).mean())
    assert [len(v) for v in binned_spread(std[:7], errors[:7])] == [1, 1]


def test_parity_shows_the_test_rows(run: Path) -> None:
    axes = calibration_figure(read_results(run)).axes[2]
    places = np.asarray(axes.collections[0].get_offsets())
    rows = pd.read_parquet(run / "predictions.parquet").query("part == 'test'")
    assert len(places) == N_ROWS
    assert sorted(places[:, 1]) == pytest.approx(sorted(rows["mean"]))
    error = np.abs(rows["target"] - rows["mean"]).mean()
    assert axes.get_title().startswith(f"Parity: MAE {error:.3g}")
    assert axes.get_xlabel() == "log10_G_VRH (log10(GPa))"


def test_member_curves(run: Path) -> None:
    figure = member_curve_figure(read_results(run))
    curve, metrics = pd.read_csv(run / "member_curve.csv"), read(run, "metrics.json")
    names = [
        "MAE (log10(GPa))",
        "NLL (nats)",
        "miscalibration area",
        "coverage of the 90 % interval",
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == names
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    mae = figure.axes[0]
    size, value = line(mae, "draws")
    assert size.tolist() == curve["n_members"].tolist()
    assert value == pytest.approx(curve["mae"].to_numpy())
    single, best = metrics["members"]["test_mae_mean"], metrics["test"]["mae"]
    assert f"average member: {single:.4f}" in texts(mae)
    change = f"{100 * (best / single - 1):+.1f}".replace("-", "−")
    assert f"ensemble: {best:.4f} ({change} %)" in texts(mae)
    assert line(mae, "ensemble")[0].tolist() == [30]
    assert [tick.get_text() for tick in mae.get_xticklabels()] == ["1", "2", "5", "10", "20", "30"]


def test_scores_after_scaling_are_marked(run: Path) -> None:
    figure = member_curve_figure(read_results(run))
    after = read(run, "calibration.json")["after"]
    for axes, score in zip(
        figure.axes[1:], ("nll", "miscalibration_area", "coverage_90"), strict=True
    ):
        assert line(axes, "after std scaling")[1].tolist() == [after[score]]
    assert not any("after" in text for text in texts(figure.axes[0]))


def test_few_members_do_not_hide_the_others(run: Path) -> None:
    """The NLL of two members' spread is far above all others; it is told instead of drawn."""
    axes = member_curve_figure(read_results(run)).axes[1]
    curve = pd.read_csv(run / "member_curve.csv").set_index("n_members")["nll"]
    assert curve[2] > 10 * curve[10]
    assert axes.get_ylim()[1] < 5 * curve[5]
    assert axes.get_title().startswith("above the frame: ")
    assert " for 2" in axes.get_title()


def test_weights_move_the_mark_and_not_the_curve(run: Path, tmp_path: Path) -> None:
    write_ensemble_run(tmp_path)
    metrics = read(tmp_path, "metrics.json")
    metrics["test"]["mae"] *= 0.5
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    weighted, equal = (member_curve_figure(read_results(p)).axes[0] for p in (tmp_path, run))
    assert line(weighted, "ensemble")[1] == pytest.approx(0.5 * line(equal, "ensemble")[1])
    assert np.array_equal(line(weighted, "draws")[1], line(equal, "draws")[1])


def test_classes_have_a_reliability_diagram(classes: Path) -> None:
    figure = calibration_figure(read_results(classes))
    top, bottom = figure.axes
    rows = pd.read_parquet(classes / "predictions.parquet").query("part == 'test'")
    first = rows[rows["mean"] < 1 / 15]
    predicted, share = (data[0] for data in top.containers[0].lines[0].get_data())
    assert predicted == pytest.approx(first["mean"].mean())
    assert share == pytest.approx(first["target"].mean())
    assert sum(bar.get_height() for bar in bottom.patches) == N_ROWS
    ece = read(classes, "calibration.json")["before"]["ece"]
    assert top.get_legend().get_title().get_text().startswith(f"ECE {ece:.3f}")
    assert bottom.get_xlabel() == "predicted probability of class 1"
    curves = member_curve_figure(read_results(classes))
    assert [axes.get_ylabel() for axes in curves.axes][1:] == [
        "Brier score",
        "expected calibration error",
    ]


def test_titles_tell_what_was_scored(run: Path) -> None:
    figures: list[Figure] = [
        f(read_results(run)) for f in (calibration_figure, member_curve_figure)
    ]
    for figure in figures:
        expected = "log10_G_VRH: 30 members, 400 test crystals (random split)"
        assert figure.get_suptitle().startswith(expected)


def test_files(classes: Path, tmp_path: Path) -> None:
    files = save_ensemble_figures(classes, folder=tmp_path)
    assert [file.name for file in files] == [
        "calibration.png", "calibration.svg", "member_curve.png", "member_curve.svg",
    ]  # fmt: skip
    assert sorted(tmp_path.iterdir()) == sorted(files)
    first = files[1].read_bytes()
    assert b"<svg" in first
    assert files[0].read_bytes().startswith(b"\x89PNG")
    save_ensemble_figures(classes, folder=tmp_path)
    assert files[1].read_bytes() == first


def test_what_cannot_be_drawn(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        save_ensemble_figures(tmp_path)
    (tmp_path / "run.json").write_text('{"command": "tune"}', encoding="utf-8")
    with pytest.raises(RunError, match="a tune run, not an ensemble run"):
        save_ensemble_figures(tmp_path)
    (tmp_path / "run.json").write_text('{"command": "ensemble"}', encoding="utf-8")
    with pytest.raises(RunError, match=r"no metrics\.json; the run is not finished"):
        save_ensemble_figures(tmp_path)
    write_ensemble_run(tmp_path, n_members=3)
    (tmp_path / "calibration.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="its results cannot be read"):
        save_ensemble_figures(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        save_ensemble_figures(classes, folder=tmp_path / "none")


def test_score_that_is_not_defined_is_said_and_not_drawn(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    curve = pd.read_csv(folder / "member_curve.csv")
    curve[["nll", "nll_std"]] = np.nan
    curve.to_csv(folder / "member_curve.csv", index=False)
    _, nll, area, _ = member_curve_figure(read_results(folder)).axes
    (said,) = [text.get_text() for text in nll.texts]
    assert said == "NLL (nats): not defined for these members and test rows"
    assert not nll.lines
    assert area.lines
