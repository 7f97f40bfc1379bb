"""The page of explanation runs: numbers as in the files, and what is there of unfinished runs."""

import json
from functools import partial

import page_parts
import pandas as pd
import pytest
from explanation_run import HIGH, LOW, write_begun, write_finished, write_series

from raymat.reports.page.build import MAKERS, build_page, view_of
from raymat.reports.page.explanations import REPLACED, sections
from raymat.reports.page.parts import Chart, Picture, Table
from raymat.reports.page.run_files import RunFiles

parts_of = partial(page_parts.parts_of, sections)
texts_of = partial(page_parts.texts_of, sections)


@pytest.fixture
def finished(tmp_path):
    return write_finished(tmp_path / "run")


def test_bars_are_the_shares_of_the_summary(finished):
    rows = parts_of(finished, Chart)["Periods in explanations"].rows
    summary = pd.read_csv(finished / "summary.csv")
    nodes = summary[summary["kind"] == "node"]
    assert rows["share"].tolist() == nodes["share"].tolist()
    assert rows["training_share"].tolist() == nodes["training_share"].tolist()
    low = rows[rows["class"] == "low"].set_index("period")
    assert low["count"].to_dict() == {1: 0, 2: 0, 3: 0, 4: 6, 5: 3, 6: 0, 7: 0}


def test_class_without_explanations_has_no_shares(finished):
    """A bar or a cell of 0 % would be a finding."""
    lines = (finished / "explanations.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["target_class"] == 0]
    (finished / "explanations.jsonl").write_text("".join(kept), encoding="utf-8")
    summary = pd.read_csv(finished / "summary.csv")
    summary.loc[summary["target_class"] == 1, ["count", "share", "ratio"]] = 0
    summary.to_csv(finished / "summary.csv", index=False)
    found = parts_of(finished, Chart)
    bars, cells = found["Periods in explanations"], found["Periods that are joined"]
    shares = bars.rows.groupby("class")["share"]
    assert shares.count().to_dict() == {"high": 0, "low": 7}
    assert "There are no explanations of high." in bars.caption
    (heads,) = cells.spec["datasets"].values()
    assert [head["text"] for head in heads] == ["low", "high: no explanations"]
    assert "There are no explanations of high." in cells.caption


def test_heat_map_has_every_pair_of_the_summary(finished):
    chart = parts_of(finished, Chart)["Periods that are joined"]
    rows = chart.rows[chart.rows["count"] > 0]
    pairs = rows[["class", "a", "b", "count"]].to_numpy().tolist()
    assert pairs == [["low", 4, 4, 3], ["low", 4, 5, 3], ["high", 1, 2, 2]]
    assert (chart.rows["a"] <= chart.rows["b"]).all()
    (heads,) = chart.spec["datasets"].values()
    assert [head["text"] for head in heads] == ["low", "high"]


def test_tables_say_counts_scores_graphs_and_trends(finished):
    tables = parts_of(finished, Table)
    counts = tables["How many were found"].rows
    assert counts[["class", "asked", "found", "given up", "attempts"]].to_numpy().tolist() == [
        ["low", 3, 3, 0, 3],
        ["high", 3, 2, 1, 7],
    ]
    scores = tables["Scores of the classifiers"].rows.iloc[0]
    assert (scores["classifier"], scores["AUC"], scores["AUC from"]) == ("period-0", 0.9, 0.8)
    assert (scores["accuracy, low"], scores["agrees with full"]) == (0.8, 0.7)
    graphs = tables["All explanations"].rows
    assert graphs["seed"].tolist() == [e.seed for e in (*LOW, *HIGH)]
    assert graphs["edges by labels"].tolist() == ["4-4, 4-5"] * 3 + ["1-2"] * 2
    assert graphs[["nodes", "edges"]].iloc[0].tolist() == [3, 2]
    assert tables["Trends"].rows["verdict"].tolist() == ["found"]
    assert "Of 1 published trends: 1 found." in texts_of(finished)
    assert "band_gap: high is above 0.597 eV." in texts_of(finished)


def test_poor_classifier_is_told_and_the_figures_are_not_repeated(tmp_path):
    folder = write_finished(tmp_path / "run", accuracy_0=0.9, accuracy_1=0.3)
    (note,) = (text for text in texts_of(folder) if text.startswith("Mistrust"))
    assert "period-0 is right on 60% of the test rows only" in note
    assert texts_of(folder, warnings=True) == []


def test_pictures_stand_once(finished):
    for name in ("labels-period", "edges-period"):
        (finished / f"{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    view = view_of(RunFiles.open(finished))
    pictures = [p for s in view.sections for p in s.parts if isinstance(p, Picture)]
    assert [picture.file.name for picture in pictures] == ["motifs-period.svg"]
    assert {"labels-group", "labels-period", "edges-group", "motifs-period"} <= REPLACED


def test_interrupted_run_shows_what_its_log_has(tmp_path):
    folder = write_begun(tmp_path / "run")
    tables, charts = parts_of(folder, Table), parts_of(folder, Chart)
    counts = tables["How many were found"].rows
    assert counts[["class", "asked", "found", "attempts"]].to_numpy().tolist() == [
        ["low", 3, 3, 4],
        ["high", 3, 0, 0],
    ]
    assert counts["mean p"].iloc[0] == pytest.approx(0.9)
    assert tables["Scores of the classifiers"].rows["validation AUC"].tolist() == [0.88]
    rows = charts["Periods in explanations"].rows
    assert rows["share"].sum() == pytest.approx(1.0)
    assert rows["training_share"].isna().all()
    assert len(tables["All explanations"].rows) == len(LOW)
    assert texts_of(folder, warnings=True) == []
    assert build_page([folder])[1] == []


def test_run_that_has_hardly_begun_has_a_page(tmp_path):
    folder = write_begun(tmp_path / "run")
    (folder / "events.jsonl").write_text("")
    assert texts_of(folder) == [
        "No classifier is trained yet.",
        "band_gap: high is above 0.597 eV.",
        "There is no explanation by period yet.",
    ]


def test_torn_files_leave_the_rest(finished):
    lines = (finished / "explanations.jsonl").read_text()
    (finished / "explanations.jsonl").write_text(lines[:-20])
    assert texts_of(finished, warnings=True) == [
        "explanations.jsonl: 1 of 5 lines cannot be read and are left out."
    ]
    assert len(parts_of(finished, Table)["All explanations"].rows) == 4
    summary = (finished / "summary.csv").read_text()
    (finished / "summary.csv").write_text(summary[:-3])
    assert len(texts_of(finished, warnings=True)) == 2
    assert "Periods that are joined" in parts_of(finished, Chart)


def test_lines_that_are_no_explanations_are_left_out(finished):
    with (finished / "explanations.jsonl").open("a") as file:
        for edges in ([[0, 9]], 3):  # a node that is not there; no edges
            odd = {**LOW[0].to_dict(), "edges": edges, "labels": "period", "target_class": 0}
            file.write(json.dumps(odd) + "\n")
    assert texts_of(finished, warnings=True) == [
        "explanations.jsonl: 2 lines are no explanations and are left out."
    ]


def test_odd_tables_leave_the_rest(finished):
    (finished / "summary.csv").write_text("labels,kind,count\nperiod,node,3\n")
    (finished / "trends.csv").write_text("trend\nhigh\n")
    told = texts_of(finished, warnings=True)
    assert told == [
        "This part cannot be shown: 'target_class'",
        "This part cannot be shown: 'verdict'",
    ]
    assert len(parts_of(finished, Table)["All explanations"].rows) == len(LOW) + len(HIGH)


def test_damaged_metrics_are_taken_from_the_log(finished):
    (finished / "metrics.json").write_text('{"target": ')
    (told,) = texts_of(finished, warnings=True)
    assert "metrics.json cannot be read" in told
    assert "Periods in explanations" in parts_of(finished, Chart)
    assert parts_of(finished, Table)["How many were found"].rows["found"].tolist() == [3, 2]


def test_series_joins_the_tables_and_says_where_the_runs_are(tmp_path):
    folder = write_series(tmp_path / "run", "band_gap", "efermi", "e_above_hull")
    tables = parts_of(folder, Table)
    assert tables["Runs of the series"].rows["folder"].tolist() == ["band_gap", "efermi"]
    assert tables["Runs of the series"].rows["explanations"].tolist() == [5, 5]
    assert str(folder) in tables["Runs of the series"].caption
    for title in ("Scores of the classifiers", "How many were found", "All explanations"):
        assert set(tables[title].rows["property"]) == {"band_gap", "efermi"}
    assert texts_of(folder)[0] == "e_above_hull has not begun, or its folder e_above_hull is gone."
    titles = [section.title for section in sections(RunFiles.open(folder))]
    assert {"band_gap: high is above 0.597 eV", "efermi: high is above 0.597 eV"} <= set(titles)


def test_damaged_run_of_a_series_leaves_the_others(tmp_path):
    folder = write_series(tmp_path / "run", "band_gap", "efermi", "e_above_hull")
    (folder / "band_gap" / "run.json").write_text("{")
    (folder / "metrics.json").write_text('{"left_out": {"e_above_hull": "<b>constant</b>"}}')
    told = texts_of(folder, warnings=True)
    assert told[0].startswith("band_gap cannot be shown: ")
    assert told[1] == "e_above_hull is left out: <b>constant</b>"
    assert parts_of(folder, Table)["Runs of the series"].rows["property"].tolist() == ["efermi"]
    page, warnings = build_page([folder])
    assert len(warnings) == 2
    assert "<b>constant" not in page


def test_page_knows_the_command():
    assert MAKERS["explain"] == (sections,)
