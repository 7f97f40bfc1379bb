"""The report of a comparison, written from a run directory made by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raymat.errors import DataError, RunError
from raymat.reports import comparison_report
from raymat.reports.comparison_log import read_data_facts, read_rows
from raymat.reports.comparison_report import missing_cells, read_errors, write_report
from raymat.tuning.comparison_cells import ComparisonPlan
from raymat.tuning.comparison_plan import parse_plan

SIZES: list[Any] = [20, "all"]
MAE = {("soap_svr", 20): 0.5, ("soap_svr", "all"): 0.25, ("cgcnn", 20): 0.4, ("cgcnn", "all"): 0.2}
N_TEST = 6
COMMAND = "raymat compare --plan plan.yaml"


def planned(prop: str, **changes: Any) -> ComparisonPlan:
    content = {
        "data": "delta",
        "properties": [prop],
        "models": ["soap_svr", "cgcnn"],
        "settings": ["default"],
        "repetitions": 2,
        "training_sizes": SIZES,
        "budget": {"trials": 1, "epochs": 1},
        **changes,
    }
    return parse_plan(content, path="plan.yaml")


def write_run(folder: Path, plan: ComparisonPlan) -> pd.DataFrame:
    """Write what a report reads: the cells' predictions and the log; give the rows."""
    rows, events = [], inputs_events(plan)
    for cell in plan.cells():
        size = "all" if cell.n_train is None else cell.n_train
        error = MAE[cell.model, size]
        table = pd.DataFrame(
            {
                "material_id": [f"c-{cell.repetition}-{k}" for k in range(N_TEST + 1)],
                "part": ["test"] * N_TEST + ["train"],
                "target": 1.0,
                "prediction": [1.0 + error * (-1) ** k for k in range(N_TEST)] + [9.0],
            }
        )
        path = folder / "cells" / cell.name
        path.mkdir(parents=True)
        table.to_parquet(path / "predictions.parquet")
        rows.append(
            {
                "model": cell.model, "property": cell.property, "unit": "eV",
                "setting": cell.setting, "repetition": cell.repetition,
                "n_train": cell.n_train or 57, "n_test": N_TEST, "mae": error, "rmse": error,
                "r2": 0.5, "train_time_s": 1.0, "featurize_time_s": 1.0, "n_parameters": 10,
                "model_bytes": 100, "device": "cpu", "task": "regression", "training_size": size,
                "first_mae": error, "n_trials": 1, "n_trials_complete": 1,
            }
        )  # fmt: skip
        events.append({"event": "cell_ended", "cell": cell.name, "row": rows[-1]})
    write_log(folder, events)
    return pd.DataFrame(rows)


def inputs_events(plan: ComparisonPlan) -> list[dict[str, Any]]:
    """Give what the log says of the rows of every repetition and training size."""
    data = {"name": "delta", "n_rows": 71, "n_rejected": 2, "sha256": "0123456789abcdef"}
    return [
        {
            "event": "inputs", "target": prop.name, "data": data, "repetition": repetition,
            "split": {"rows": {"train": size or 57, "validation": 7, "test": N_TEST}},
            "leakage": {"n_test": N_TEST, "n_formula": 3, "n_formula_spacegroup": 1},
            "unseen_elements": {"Xe": 2} if repetition else {}, "threshold": None,
        }
        for repetition in range(plan.repetitions)
        for size in sorted(plan.training_sizes, key=lambda size: size or 0)
        for prop in plan.properties
    ]  # fmt: skip


def write_log(folder: Path, events: list[dict[str, Any]]) -> None:
    time = "2026-01-01T00:00:00+00:00"
    lines = "".join(json.dumps({**event, "time": time}) + "\n" for event in events)
    (folder / "events.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second or two, and most tests are about the text."""
    monkeypatch.setattr(comparison_report, "_draw", lambda *_: [])


def test_everything_is_written(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    written = write_report(plan, rows, tmp_path, command=COMMAND)
    pictures = [
        f"comparison-gap{what}.{kind}" for what in ("", "-learning") for kind in ("png", "svg")
    ]
    assert sorted(written) == sorted(["comparison.md", "differences.csv", "slopes.csv", *pictures])
    for name in written:
        assert (tmp_path / name).stat().st_size > 0
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith("# Comparison plan.yaml\n")
    assert COMMAND in text
    assert "`delta` (71 rows, 2 of them rejected, SHA-256 0123456789ab); all usable rows." in text
    assert "## gap (eV)" in text
    pairs = pd.read_csv(tmp_path / "differences.csv", dtype={"training_size": str})
    best = pairs[pairs["comparison"] == "against the best"].set_index("training_size")
    assert best["difference"].to_dict() == pytest.approx({"20": 0.1, "all": 0.05})
    assert set(best["model"]) == {"soap_svr"}
    assert set(best["n_rows"]) == {2 * N_TEST}
    slopes = pd.read_csv(tmp_path / "slopes.csv")
    assert set(slopes["model"]) == {"soap_svr", "cgcnn"}
    assert (slopes["n_sizes"] == 2).all()


def test_report_reads_a_table_that_went_through_csv(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    rows.to_csv(tmp_path / "comparison.csv", index=False)
    again = pd.read_csv(tmp_path / "comparison.csv")
    pd.testing.assert_frame_equal(
        read_errors(again, tmp_path, plan).drop(columns="training_size"),
        read_errors(rows, tmp_path, plan).drop(columns="training_size"),
    )


def test_errors_are_those_of_the_test_rows(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    errors = read_errors(rows, tmp_path, plan)
    assert len(errors) == len(rows) * N_TEST
    for row in rows.to_dict("records"):
        keys = ["model", "repetition", "training_size"]
        own = errors[(errors[keys] == [row[key] for key in keys]).all(axis=1)]
        assert own["absolute_error"].to_numpy() == pytest.approx(row["mae"])
        assert set(own["material_id"]) == {f"c-{row['repetition']}-{k}" for k in range(N_TEST)}


def test_name_of_a_property_that_no_file_can_have(tmp_path: Path) -> None:
    plan = planned("energy (eV/atom)", training_sizes=["all"])
    written = write_report(plan, write_run(tmp_path, plan), tmp_path, command=COMMAND)
    (picture,) = (name for name in written if name.endswith(".png"))  # one size: no learning curve
    assert re.fullmatch(r"comparison-energy_eV_atom_[_a-z0-9]+\.png", picture)
    assert (tmp_path / picture).exists()


def test_predictions_that_are_missing(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    (tmp_path / "cells" / plan.cells()[3].name / "predictions.parquet").unlink()
    with pytest.raises(RunError, match=r"predictions\.parquet: missing, .*; run the cell again"):
        write_report(plan, rows, tmp_path, command=COMMAND)


@pytest.mark.usefixtures("no_figures")
def test_rows_of_every_repetition_are_told(tmp_path: Path) -> None:
    """Of all training sizes those of the largest, which the tables are about."""
    plan = planned("gap")
    write_report(plan, write_run(tmp_path, plan), tmp_path, command=COMMAND)
    lines = (tmp_path / "comparison.md").read_text(encoding="utf-8").splitlines()
    leakage = (
        "leakage: 3 of 6 test rows share a reduced formula with training rows, 1 also the space"
        " group"
    )
    counts = "57 training, 7 validation, 6 test rows"
    assert [line for line in lines if line.startswith("- repetition")] == [
        f"- repetition 0: {counts}; {leakage}; training rows have every element of the test rows",
        f"- repetition 1: {counts}; {leakage}; test rows with an element that no training row has:"
        " Xe in 2",
    ]


@pytest.mark.usefixtures("no_figures")
def test_rows_that_a_model_cannot_read_are_told(tmp_path: Path) -> None:
    """`rejected.csv` also lists those of the data, and of other properties."""
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    listed = pd.DataFrame({"property": ["gap"] * 5 + ["other"]}).assign(material_id="a", reason="b")
    listed.to_csv(tmp_path / "rejected.csv", index=False)
    write_report(plan, rows, tmp_path, command=COMMAND)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "all usable rows; 3 left out for all models because one cannot read them." in text


def test_threshold_of_classes_is_told(tmp_path: Path) -> None:
    plan = planned("gap")
    events = [{**event, "threshold": 0.25} for event in inputs_events(plan)]
    write_log(tmp_path, events)
    line = read_data_facts(plan, tmp_path).repetitions["gap"][0]
    assert line.endswith("; class 1 lies above 0.25")


# --- what is not finished ------------------------------------------------------------------------


def test_unfinished_comparison_has_a_report(tmp_path: Path) -> None:
    """One model has one training size only, the other has none."""
    plan = planned("gap")
    rows = write_run(tmp_path, plan).iloc[:1]
    written = write_report(plan, rows, tmp_path, command=COMMAND)
    assert "comparison-gap.png" in written
    assert not [name for name in written if "learning" in name]
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert (
        f"**Unfinished: {len(plan.cells()) - 1} of {len(plan.cells())} cells are missing**" in text
    )
    assert "| soap_svr | default (1 of 2 repetitions) |" in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_any_number_of_cells_has_a_report(tmp_path: Path, n: int) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan).sample(n, random_state=n)
    write_report(plan, rows, tmp_path, command=COMMAND)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert f"Unfinished: {len(plan.cells()) - n} of {len(plan.cells())} cells are missing" in text
    assert len(missing_cells(plan, rows)) == len(plan.cells()) - n


def test_run_of_which_the_log_tells_nothing(tmp_path: Path) -> None:
    plan = planned("gap")
    facts = read_data_facts(plan, tmp_path)
    assert (facts.sources, facts.repetitions) == ({"gap": "`delta`"}, {"gap": ()})
    rows = read_rows(plan, tmp_path)
    assert write_report(plan, rows, tmp_path, command=COMMAND) == ["comparison.md"]
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "Unfinished: 8 of 8 cells are missing" in text
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.md"]  # no temporary file


def test_rows_come_from_the_log_in_the_order_of_the_plan(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    log = tmp_path / "events.jsonl"
    log.write_text("".join(reversed(log.read_text(encoding="utf-8").splitlines(keepends=True))))
    pd.testing.assert_frame_equal(read_rows(plan, tmp_path), rows)


def test_a_row_of_no_cell(tmp_path: Path) -> None:
    plan = planned("gap")
    rows = write_run(tmp_path, plan)
    with pytest.raises(RunError, match=r"'megnet', .* belongs to no cell of plan\.yaml"):
        write_report(plan, rows.assign(model="megnet"), tmp_path, command=COMMAND)


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    plan = planned("gap")
    (tmp_path / "comparison.md").mkdir()
    with pytest.raises(DataError, match=r"comparison\.md: cannot be written"):
        write_report(plan, pd.DataFrame(), tmp_path, command=COMMAND)


def test_log_that_tells_nothing_of_the_data(tmp_path: Path) -> None:
    plan = planned("gap")
    facts = read_data_facts(plan, tmp_path)  # there is no log yet
    assert facts.sources == {"gap": "`delta`"}
    assert facts.left_out == {}
    assert facts.repetitions == {"gap": ()}
