"""Published values beside ours: which are compared, which are not, and what is said of the data."""

from typing import Any

import pandas as pd
import pytest
from comparison_rows import table

from raymat.errors import DataError
from raymat.reports.comparison_published import published_beside, published_text
from raymat.reports.comparison_statistics import summarise
from raymat.tuning.comparison_cells import ComparisonPlan
from raymat.tuning.comparison_plan import parse_plan

PUBLISHED = pd.DataFrame(
    [
        ("CGCNN Eq.5", "3402", "log10_bulk_modulus", "log10(GPa)", 2041, "test MAE", 0.054, "A"),
        ("CGCNN Eq.5", "3402", "log10_bulk_modulus", "log10(GPa)", 2041, "best", 0.05, "B"),
        ("coGN", "matbench", "log10_bulk_modulus", "log10(GPa)", 8790, "MAE", 0.0535, "C"),
        ("CGCNN Eq.5", "x", "log10_shear_modulus", "log10(GPa)", 2041, "test MAE", 0.087, "D"),
        ("CGCNN Eq.5", "x", "log10_bulk_modulus", "log10(GPa)", None, "test RMSE", 0.105, "E"),
    ],
    columns=["model", "dataset", "property", "unit", "n_train", "metric", "value", "source"],
)  # fmt: skip


def planned(prop: str = "log10_K_VRH", **changes: Any) -> ComparisonPlan:
    content = {
        "data": "somewhere/e.parquet",
        "properties": {prop: changes or None},
        "models": ["cgcnn"],
        "repetitions": 1,
        "budget": {"trials": 1, "epochs": 1},
    }
    return parse_plan(content, path="plan.yaml")


def published(*changes: dict[str, Any]) -> pd.DataFrame:
    first = dict(PUBLISHED.iloc[0])
    return pd.DataFrame([{**first, **change} for change in changes])


def test_published_values_beside_ours() -> None:
    summary = summarise(table({}, {"setting": "tuned", "mae": 0.09}, {"n_train": 50, "mae": 9.0}))
    found = published_beside(summary, PUBLISHED, planned(rows=1000))
    assert found["source"].tolist() == ["A", "C", "E"]
    first = found.iloc[0]
    assert (first["model"], first["default_mean"], first["tuned_mean"]) == ("cgcnn", 0.1, 0.09)
    assert first["published"] == 0.054
    expected = (
        "theirs: 3402, 2,041 training rows; ours: e.parquet, a random subset of 1,000 usable rows"
        " (seed 0), 800 training rows"
    )
    assert first["data_difference"] == expected
    assert pd.isna(found.iloc[1]["model"])
    assert (found.iloc[2]["default_mean"], found.iloc[2]["tuned_mean"]) == (0.2, 0.2)
    text = published_text(found)
    assert f"| 0.054 | CGCNN Eq.5 | 0.1000 | 0.09000 | cgcnn | {expected} | A |" in text
    assert "| 0.0535 | coGN | - | - | - | theirs: matbench, 8,790 training rows | C |" in text
    assert "training rows not stated" in text
    assert "not to be set beside ours" not in text
    assert "default settings or from those that the authors chose" in text


def test_a_setting_that_we_do_not_have_has_no_number() -> None:
    found = published_beside(summarise(table({"setting": "tuned"})), PUBLISHED, planned())
    assert pd.isna(found.iloc[0]["default_mean"])
    assert "| CGCNN Eq.5 | - | 0.1000 | cgcnn |" in published_text(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "DFT vs experiment", "metric": "MAE"}, "no model was tested"),
        ({"metric": "RMSE", "dataset": "whole data set"}, "not over test rows alone"),
        ({"metric": "MAE", "dataset": "1585 later MP crystals"}, "not on a random split"),
        ({"source": "leaderboard (hard labels for most)"}, "scores hard labels"),
    ],
)
def test_what_was_not_measured_on_test_rows_stands_apart(
    change: dict[str, Any], reason: str
) -> None:
    lines = published({}, {"value": 0.777, **change})
    found = published_beside(summarise(table({})), lines, planned())
    assert found["apart"].iloc[0] == ""
    assert reason in found["apart"].iloc[1]
    assert pd.isna(found["default_mean"].iloc[1])
    compared, apart = published_text(found).split("## Published, but not to be set beside ours")
    assert "0.777" not in compared
    assert "0.777" in apart
    assert reason in apart


def test_scores_of_validation_rows_are_left_out() -> None:
    lines = published({"metric": "stored best validation MAE"}, {"metric": "validation MAE"})
    assert published_beside(summarise(table({})), lines, planned()).empty


def test_a_restriction_of_their_data_that_ours_lacks() -> None:
    summary = summarise(table({"property": "band_gap", "unit": "eV"}))
    lines = published({"property": "band_gap", "unit": "eV", "dataset": "MP (9 ids, gap > 0)"})

    def difference(**changes: Any) -> str:
        found = published_beside(summary, lines, planned("band_gap", **changes))
        return str(found.iloc[0]["data_difference"])

    words = "theirs has only crystals with band_gap above 0, ours has others, too"
    assert words in difference()
    assert words in difference(where={"band_gap": {"at_least": 0}})
    assert words in difference(where={"band_gap": {"below": 3}})
    same = difference(where={"band_gap": {"above": 0}})
    assert words not in same
    assert "usable rows with band_gap above 0" in same


def test_missing_soap_numbers_are_told() -> None:
    summary = summarise(table({}))
    words = "Abenza's thesis (its tables 4 and 6) is missing from our sources"
    assert words in published_text(published_beside(summary, PUBLISHED, planned()))
    lines = published({"model": "SOAP-SVR"})
    assert words not in published_text(published_beside(summary, lines, planned()))


def test_a_published_value_in_another_unit() -> None:
    summary = summarise(table({"unit": "GPa"}))
    with pytest.raises(DataError, match=r"CGCNN Eq\.5 is in 'log10\(GPa\)', ours in 'GPa'"):
        published_beside(summary, PUBLISHED, planned())


@pytest.mark.data
def test_the_collected_published_values(shared: Any) -> None:
    lines = pd.read_csv(shared / "spec" / "published.csv")
    units = {
        "efermi": "eV",
        "band_gap": "eV",
        "log10_G_VRH": "log10(GPa)",
        "poisson_ratio": "",
        "formation_energy_per_atom": "eV/atom",
    }
    rows = table(
        *({"property": p, "unit": u, "model": m} for m in ("cgcnn", "megnet", "schnet")
          for p, u in units.items())
    )  # fmt: skip
    content = {
        "data": "mp.parquet",
        "properties": list(units),
        "models": ["cgcnn"],
        "repetitions": 1,
        "budget": {"trials": 1, "epochs": 1},
    }
    found = published_beside(summarise(rows), lines, parse_plan(content, path="p"))
    assert set(found["property"]) == set(units)
    fermi = found[found["property"] == "efermi"]
    assert 0.363 in fermi["published"].tolist()
    assert set(found["model"].dropna()) == {"cgcnn", "megnet", "schnet"}
    assert found["source"].notna().all()
    apart = found[found["apart"] != ""]
    assert set(apart["published_model"]) >= {"DFT vs experiment", "CGCNN Eq.5"}
    assert apart["model"].isna().all()
    gaps = found[found["published_dataset"].str.contains("gap > 0") & found["model"].notna()]
    assert len(gaps) == 2
    assert gaps["data_difference"].str.contains("band_gap above 0, ours has others").all()
