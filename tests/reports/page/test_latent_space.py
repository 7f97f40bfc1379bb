"""The map of the latent space on the page, of searches and of ensembles."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from page_parts import part, titles
from search_run import cut, write_search_run

sys.path.append(str(PROJECT / "tests"))

from made_ensembles import make_ensemble, write_sixty

from raymat.reports.page.build import build_page

TARGET, ERROR = "Latent space, by target", "Latent space, by error"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search_run(tmp_path_factory.mktemp("page") / "finished")


def test_every_crystal_has_target_prediction_and_error(run: Path) -> None:
    predictions = pd.read_parquet(run / "predictions.parquet").set_index("material_id")
    shown = part(run, TARGET).rows.set_index("material_id")
    assert set(shown.index) == set(predictions.index)
    own = predictions.loc[shown.index]
    assert (shown["target"] == own["target"]).all()
    assert (shown["part"] == own["part"]).all()
    error = (own["prediction"] - own["target"]).abs()
    np.testing.assert_array_equal(shown["error"], error)
    assert part(run, ERROR).rows["error"].is_monotonic_increasing  # the worst on top
    assert shown["part"].tolist() == sorted(shown["part"], reverse=True)  # test after validation


def test_caption_says_what_a_map_means(run: Path) -> None:
    caption = part(run, TARGET).caption
    assert caption.startswith("120 of 300 crystals, drawn at random: 60 validation, 60 test.")
    assert "Only who is near whom means something" in caption
    assert "no errors of prediction" in part(run, ERROR).caption


def test_colors_leave_out_a_few_extremes(run: Path) -> None:
    color = part(run, ERROR).spec["encoding"]["color"]
    assert color["title"] == "absolute error (log10(GPa))"
    errors = part(run, ERROR).rows["error"]
    assert color["scale"]["domain"] == [0.0, pytest.approx(errors.quantile(0.98))]


def test_run_without_a_map_has_none(tmp_path: Path) -> None:
    run = write_search_run(tmp_path / "run")
    (run / "latent_map.parquet").unlink()
    assert TARGET not in titles(run)
    assert build_page([run])[1] == []


def test_damaged_map_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = write_search_run(tmp_path / "run")
    cut(run / "latent_map.parquet")
    (warning,) = build_page([run])[1]
    assert "latent_map.parquet cannot be read" in warning
    assert "Leaderboard" in titles(run)


@pytest.mark.parametrize("classes", [None, "median"])
def test_ensemble_shows_the_errors_of_its_mean(tmp_path: Path, classes: str | None) -> None:
    made = make_ensemble(tmp_path / "run", write_sixty(tmp_path / "sixty.parquet"), classes=classes)
    shown = part(made.path, TARGET).rows.set_index("material_id")
    predictions = made.predictions.set_index("material_id").loc[shown.index]
    assert (shown["prediction"] == predictions["mean"]).all()
    assert "Places are those of one member" in part(made.path, TARGET).caption
    color = part(made.path, TARGET).spec["encoding"]["color"]
    assert color["type"] == ("quantitative" if classes is None else "nominal")
