"""The page of an ensemble: its charts hold the numbers of the files, in whatever state."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from page_parts import part, parts, parts_once, titles
from search_run import cut

sys.path.append(str(PROJECT / "tests" / "reports"))

from ensemble_run import N_ROWS, write_ensemble_run

from raymat.ensembles import SHARED_ERRORS
from raymat.ensembles.members import MAX_ATTEMPTS
from raymat.reports.page import spread
from raymat.reports.page.build import build_page
from raymat.reports.page.ensemble import REPLACED
from raymat.reports.page.parts import Chart, Note, Picture, Table

MEMBERS = 30
CURVE_STEP = 0.02  # of the observed shares between two levels of the curve
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes."""
    folder = tmp_path_factory.mktemp("ensemble") / "finished"
    folder.mkdir()
    write_ensemble_run(folder, n_members=MEMBERS)
    finish(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def finish(folder: Path, *, n_ended: int = MEMBERS, failing: int = 0) -> None:
    """Write log and table of the members, of which the first `failing` failed once."""
    header = {"command": "ensemble", "status": "complete", "unit": "log10(GPa)"}
    write(folder / "run.json", header)
    events: list[dict[str, Any]] = [
        {"event": "ensemble_started", "members": MEMBERS, "n_train": 240, "done": 0}
    ]
    for member in range(n_ended):
        if member < failing:
            failed = {"event": "member_failed", "member": member, "attempt": 0, "seed": member}
            events.append({**failed, "error": "loss is not finite", "diverged": True})
        row = {"seed": member, "val_score": 0.07 + 0.001 * member, "time_s": 2.0, "host": "a"}
        events.append({"event": "member_started", "member": member, "attempt": 0, "seed": member})
        events.append({"event": "member_ended", "member": member, "row": row})
    log(folder, events)
    rows = [{"member": e["member"], **e["row"]} for e in events if e["event"] == "member_ended"]
    table = pd.DataFrame(rows).rename(columns={"val_score": "val_mae"})
    table.assign(weight=1 / MEMBERS, status="complete").to_parquet(folder / "members.parquet")


def log(folder: Path, events: list[dict[str, Any]]) -> None:
    told = [{"time": f"2026-01-01T00:{k // 60:02d}:{k % 60:02d}+00:00"} for k in range(len(events))]
    lines = [json.dumps({**e, **at}) for e, at in zip(events, told, strict=True)]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def warnings(run: Path) -> list[str]:
    return [p.text for p in parts(run) if isinstance(p, Note) and p.is_warning]


def test_page_says_what_the_spread_is_not(finished: Path) -> None:
    assert SHARED_ERRORS in build_page([finished])[0]


def test_scores_say_what_the_average_member_reaches(finished: Path) -> None:
    metrics = read(finished / "metrics.json")
    rows = part(finished, "Test scores").rows.set_index("model")
    assert rows.loc["ensemble", "mae"] == metrics["test"]["mae"]
    average = rows.loc["average member of the ensemble", "mae"]
    assert average == metrics["members"]["test_mae_mean"]


def test_predictions_are_read_without_those_of_the_members(finished: Path) -> None:
    rows = part(finished, "Predictions of the test rows").rows
    table = pd.read_parquet(finished / "predictions.parquet").query("part == 'test'")
    assert sorted(rows["prediction"]) == sorted(table["mean"])
    assert sorted(rows["std"]) == sorted(table["std"])
    assert "members" not in rows


def test_members_stand_in_a_table_the_best_first(finished: Path) -> None:
    rows = part(finished, "All members").rows
    assert rows["val_mae"].is_monotonic_increasing
    assert len(rows) == len(part(finished, "Scores of the members").rows) == MEMBERS
    assert rows["weight"].sum() == pytest.approx(1)


def test_scores_of_the_spread_are_those_of_the_file(finished: Path) -> None:
    stored = read(finished / "calibration.json")
    rows = part(finished, "Scores of the spread").rows
    assert rows.loc[0, "nll"] == stored["before"]["nll"]
    scaled = rows[rows["spread"].str.startswith("std scaling ×")].iloc[0]
    for name in ("nll", "miscalibration_area", "coverage_90", "sharpness"):
        assert scaled[name] == stored["after"][name]
    assert rows.iloc[-1]["coverage_90"] == 0.9


def test_calibration_curve_passes_through_the_coverage(finished: Path) -> None:
    stored = read(finished / "calibration.json")
    rows = part(finished, "Calibration curve").rows
    scores = {"as predicted": stored["before"], "std scaling": stored["after"]}
    for name, score in scores.items():
        curve = rows[rows["spread"] == name]
        for level in (50, 90, 95):
            found = np.interp(level / 100, curve["expected"], curve["observed"])
            assert found == pytest.approx(score[f"coverage_{level}"], abs=CURVE_STEP)


def test_bins_of_the_spread_hold_all_errors(finished: Path) -> None:
    rows = part(finished, "Error against spread").rows
    table = pd.read_parquet(finished / "predictions.parquet").query("part == 'test'")
    binned = rows[rows["kind"] == "RMSE of a bin, std as predicted"]
    square = np.square(table["target"] - table["mean"]).mean()
    assert np.square(binned["error"]).mean() == pytest.approx(square)
    assert (rows["kind"] == "a test crystal").sum() == N_ROWS


def test_many_errors_are_sampled_with_a_note(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "MOST_ROWS", 50)
    rows = part(run, "Error against spread").rows
    assert (rows["kind"] == "a test crystal").sum() == 50
    notes = [p.text for p in parts(run) if isinstance(p, Note)]
    assert f"The points are 50 of {N_ROWS} test rows, drawn at random." in notes


def test_curve_of_the_members_is_that_of_the_file(finished: Path) -> None:
    stored = pd.read_csv(finished / "member_curve.csv")
    rows = part(finished, "Mean absolute error").rows
    drawn = rows[rows["kind"] == "random draws of members"]
    assert drawn["value"].tolist() == stored["mae"].tolist()
    spread_of_draws = (drawn["high"] - drawn["value"]).to_numpy()
    assert spread_of_draws == pytest.approx(stored["mae_std"].fillna(0).to_numpy(), abs=1e-12)
    ensemble = rows[rows["kind"] == "the ensemble, as predicted"].iloc[0]
    assert ensemble["value"] == read(finished / "metrics.json")["test"]["mae"]


def test_likelihoods_of_a_few_members_are_told_not_drawn(finished: Path) -> None:
    chart = part(finished, "Negative log likelihood")
    assert chart.rows["n_members"].min() == 5
    assert "Not drawn: " in chart.caption
    assert " for 2 members" in chart.caption


def test_classes_have_a_reliability_curve(tmp_path: Path) -> None:
    write_ensemble_run(tmp_path, task="classification", n_members=5)
    write(tmp_path / "run.json", {"command": "ensemble", "task": "classification"})
    rows = part(tmp_path, "Reliability").rows
    assert rows["crystals"].sum() == N_ROWS
    assert ((rows["low"] <= rows["observed"]) & (rows["observed"] <= rows["high"])).all()
    assert "Brier score" in titles(tmp_path)
    assert warnings(tmp_path) == []


def test_an_ensemble_at_work_tells_of_the_members_so_far(tmp_path: Path) -> None:
    finish(tmp_path, n_ended=4, failing=1)
    (tmp_path / "members.parquet").unlink()
    write(tmp_path / "run.json", {"command": "ensemble", "status": "running"})
    assert set(titles(tmp_path)) == {"Scores of the members", "All members", "Failed attempts"}
    assert part(tmp_path, "All members").rows["member"].tolist() == [0, 1, 2, 3]
    assert part(tmp_path, "Failed attempts").rows["error"].tolist() == ["loss is not finite"]
    (note,) = [p.text for p in parts(tmp_path) if isinstance(p, Note)]
    assert note.startswith("4 of 30 members are trained, each on 240 crystals")
    assert "1 needed another attempt" in note


def test_members_that_failed_for_good_are_told(tmp_path: Path) -> None:
    write(tmp_path / "run.json", {"command": "ensemble", "status": "interrupted"})
    failed = {"event": "member_failed", "member": 0, "seed": 1, "error": "<b>no memory</b>"}
    events = [{**failed, "attempt": k} for k in range(MAX_ATTEMPTS)]
    log(tmp_path, [{"event": "ensemble_started", "members": 2}, *events])
    assert "1 failed for good" in next(p.text for p in parts(tmp_path) if isinstance(p, Note))
    assert len(part(tmp_path, "Failed attempts").rows) == MAX_ATTEMPTS
    page, _ = build_page([tmp_path])
    assert "<b>no memory" not in page


def test_an_ensemble_that_has_just_begun(tmp_path: Path) -> None:
    write(tmp_path / "run.json", {"command": "ensemble", "status": "running"})
    assert parts(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "lost", "kept"),
    [
        ("predictions.parquet", "Error against spread", "Scores of the spread"),
        ("calibration.json", "Scores of the spread", "All members"),
        ("metrics.json", "Test scores", "Calibration curve"),
        ("member_curve.csv", "Mean absolute error", "Calibration curve"),
        ("members.parquet", "", "All members"),
    ],
)
def test_a_damaged_file_costs_its_part_only(run: Path, name: str, lost: str, kept: str) -> None:
    if name.endswith("csv"):
        (run / name).write_bytes(b"\x00\xff\x00")
    else:
        cut(run / name)
    (warning,) = warnings(run)
    assert name in warning
    assert lost not in titles(run)
    assert kept in titles(run)


def test_figures_that_the_page_draws_itself_are_left_out(run: Path) -> None:
    for stem in (*REPLACED, "other"):
        (run / f"{stem}.svg").write_text(SVG, encoding="utf-8")
    assert [p.title for p in parts(run) if isinstance(p, Picture)] == ["Other"]
    cut(run / "calibration.json")  # now its figure is all there is
    shown = {p.title for p in parts(run) if isinstance(p, Picture)}
    assert shown == {"Calibration", "Member curve", "Other"}


def test_every_chart_reads_columns_that_its_rows_have(finished: Path) -> None:
    for chart in (p for p in parts_once(finished) if isinstance(p, Chart)):
        assert not chart.rows.empty
        used = set(_fields(chart.spec))
        assert used <= {*chart.rows, "end", "value"}, chart.title
    assert any(isinstance(p, Table) for p in parts_once(finished))


def _fields(spec: Any) -> list[str]:
    if isinstance(spec, list):
        return [name for own in spec for name in _fields(own)]
    if not isinstance(spec, dict):
        return []
    own = [spec["field"]] if isinstance(spec.get("field"), str) else []
    return own + [
        name for key, inner in spec.items() if key != "datasets" for name in _fields(inner)
    ]
