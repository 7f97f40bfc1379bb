"""The page of comparisons: numbers as in the files, and what is there of unfinished ones."""

import json
from functools import partial

import numpy as np
import page_parts
import pandas as pd
import pytest
from comparison_run import ROWS, differences, table, write_run

from raymat.reports.page.build import MAKERS, build_page, view_of
from raymat.reports.page.comparison import sections
from raymat.reports.page.comparison_charts import pair_rows
from raymat.reports.page.parts import Chart, Picture, Table
from raymat.reports.page.run_files import RunFiles

REPORT = """# Comparison plan.yaml

## log10_K_VRH (log10(GPa))

Data: `elastic` (800 rows, none rejected); all usable rows.

- repetition 0: 800 training rows <script>alert(1)</script>

| model |
| --- |

## How to read this

- MAE and RMSE: smaller is better.
- Bold: the best of a setting.
"""


parts_of = partial(page_parts.parts_of, sections)
texts_of = partial(page_parts.texts_of, sections)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_means_and_deviations_are_those_of_the_repetitions(run):
    rows = parts_of(run, Table)["Means over the repetitions"].rows.set_index(["model", "setting"])
    assert rows["mae"].tolist() == pytest.approx([0.105, 0.305, 0.085])
    assert rows["± mae"].tolist() == pytest.approx([0.01 / np.sqrt(2)] * 3)
    assert list(rows)[:5] == ["property", "unit", "n_train", "n_test", "repetitions"]
    assert parts_of(run, Table)["Every cell"].rows["mae"].tolist() == ROWS["mae"].tolist()


def test_bars_have_every_repetition_and_the_unit(run):
    chart = parts_of(run, Chart)["Test scores"]
    assert chart.rows["mae"].tolist() == ROWS["mae"].tolist()
    assert "test MAE (log10(GPa))" in json.dumps(chart.spec)
    assert "800 training and 100 test crystals, 2 repetitions" in chart.caption


def test_tuned_minus_default_is_drawn_where_both_are_there(run):
    rows = parts_of(run, Chart)["What tuning gained"].rows
    assert rows["model"].tolist() == ["cgcnn", "cgcnn"]
    assert rows["difference"].tolist() == pytest.approx([-0.02, -0.02])


def test_differences_have_their_intervals_and_no_pair_twice(run):
    found = differences()
    found.to_csv(run / "differences.csv", index=False)
    rows = parts_of(run, Chart)["Differences"].rows
    # that of graph against descriptor is that against the best the other way round
    assert rows["pair"].tolist() == ["cgcnn: tuned − default", "soap_svr − cgcnn, default"]
    assert rows["difference"].tolist() == pytest.approx([-0.02, 0.2])
    assert rows["told_apart"].tolist() == ["not estimated"] * 2  # of two repetitions
    assert len(parts_of(run, Table)["All pairs"].rows) == len(found) == 3
    assert "What tuning gained" not in parts_of(run, Chart)
    assert pair_rows(found)["bootstrap_low"].tolist() == pytest.approx([-0.02, 0.2])


def test_cost_is_that_of_the_chosen_model(run):
    rows = parts_of(run, Chart)["Training time and score"].rows
    assert rows["train_time_s"].tolist() == [12.0] * 3
    assert rows["mae"].tolist() == pytest.approx([0.105, 0.305, 0.085])


def test_several_sizes_have_a_learning_curve_with_its_slope(tmp_path):
    rows = table(*({"n_train": n, "mae": 10.0 * n**-0.5} for n in (100, 400, 1600)))
    run = write_run(tmp_path / "run", rows)
    curve = parts_of(run, Chart)["Learning curve"].rows
    assert curve[["n_train", "mae"]].to_numpy().tolist() == pytest.approx(
        np.array([[100, 1.0], [400, 0.5], [1600, 0.25]])
    )
    slopes = parts_of(run, Table)["Slopes of the learning curve"].rows
    assert slopes["slope"].tolist() == pytest.approx([-0.5])
    assert parts_of(run, Chart)["Test scores"].rows["n_train"].tolist() == [1600]


def test_one_size_has_no_learning_curve(run):
    assert "Learning curve" not in parts_of(run, Chart)


def test_classes_are_judged_by_their_auc(tmp_path):
    rows = table({"task": "classification", "auc": 0.9, "accuracy": 0.8, "mae": None, "unit": ""})
    charts = parts_of(write_run(tmp_path / "run", rows), Chart)
    assert charts["Test scores"].rows["auc"].tolist() == [0.9]
    assert "Longer is better" in charts["Test scores"].caption
    assert "test ROC AUC" in json.dumps(charts["Training time and score"].spec)


def test_unfinished_comparison_says_what_is_missing_and_failed(tmp_path):
    failed = [("a", "lost <img src=x onerror=alert(1)>"), ("cell-0", "done later")]
    run = write_run(tmp_path / "run", ROWS, cells=9, failed=failed)
    assert texts_of(run)[0] == (
        "6 of 9 cells are done, 1 failed; means and differences can still change."
    )
    cells = parts_of(run, Table)["Cells that failed"].rows
    assert cells.to_numpy().tolist() == [["a", "lost <img src=x onerror=alert(1)>"]]
    page, warnings = build_page([run])
    assert warnings == []
    assert "<img src=x" not in page


def test_log_stands_in_for_a_table_that_is_not_there_yet(run):
    (run / "comparison.csv").unlink()
    assert parts_of(run, Chart)["Test scores"].rows["mae"].tolist() == ROWS["mae"].tolist()


def test_comparison_without_a_result_has_a_page(tmp_path):
    run = write_run(tmp_path / "run", ROWS.iloc[:0], cells=4, failed=[("a", "too large")])
    assert texts_of(run)[-1] == "No cell has a result yet."
    assert list(parts_of(run, Table)) == ["Cells that failed"]


def test_torn_table_leaves_the_rest(run):
    text = (run / "comparison.csv").read_text()
    (run / "comparison.csv").write_text(text[:-9])
    assert texts_of(run, warnings=True) == [
        "comparison.csv ends in the middle of a row, which is left out."
    ]
    assert len(parts_of(run, Table)["Every cell"].rows) == len(ROWS) - 1


def test_numbers_that_are_none_leave_the_page_whole(tmp_path):
    rows = table(
        {"mae": np.nan, "train_time_s": 0.0, "n_train": 100}, {"mae": np.inf, "train_time_s": 0.0}
    )
    run = write_run(tmp_path / "run", rows)
    (run / "differences.csv").write_text("a,b\n1,2\n1,2,3\n")
    page, (warning,) = build_page([run])
    assert "differences.csv cannot be read" in warning
    assert "Test scores" in page
    assert "Training time and score" not in page


def test_report_is_told_in_paragraphs(run):
    (run / "comparison.md").write_text(REPORT)
    assert texts_of(run) == [
        "Data: elastic (800 rows, none rejected); all usable rows.",
        "Repetition 0: 800 training rows <script>alert(1)</script>",
        "MAE and RMSE: smaller is better.",
        "Bold: the best of a setting.",
        f"The whole report with its tables in text: {run / 'comparison.md'}",
    ]
    assert "<script>alert" not in build_page([run])[0]


def test_figures_of_the_run_are_not_repeated(run):
    for name in ("comparison-log10_K_VRH", "comparison-my_own-learning", "other"):
        (run / f"{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    view = view_of(RunFiles.open(run))
    pictures = [p for s in view.sections for p in s.parts if isinstance(p, Picture)]
    assert [picture.file.name for picture in pictures] == ["other.svg"]


def test_properties_have_sections_of_their_own(tmp_path):
    rows = pd.concat([ROWS, ROWS.assign(property="poisson_ratio", unit=np.nan)])
    titles = [s.title for s in sections(RunFiles.open(write_run(tmp_path / "run", rows)))]
    assert titles == ["Scores", "log10_K_VRH (log10(GPa))", "poisson_ratio", "Cells"]


def test_page_knows_the_command():
    assert MAKERS["compare"] == (sections,)
