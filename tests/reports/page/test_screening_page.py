"""The page of a screening: its charts hold the numbers of the files, by whatever criterion."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from page_parts import part, parts, parts_once, titles
from search_run import cut, read_rows

sys.path.append(str(PROJECT / "tests" / "reports"))

from screening_run import as_dft, lithium_table, write_screening_run

from raymat.reports.page import screening, screening_charts, stability
from raymat.reports.page.build import build_page
from raymat.reports.page.parts import Chart, Note, Picture
from raymat.screening.lithium_interface import LITHIUM_SHEAR_GPA

EVIL = "</script><img src=x onerror=alert(1)>"
CURVE = pd.DataFrame(
    {
        "n_members": [2, 5, 10],
        "n_draws": 10,
        "p_s_high_mean": [0.2, 0.21, 0.22],
        "p_s_high_mean_std": [0.05, 0.02, 0.01],
        "p_s_high_deviation": [0.1, 0.05, 0.02],
        "p_s_high_largest": [0.5, 0.3, 0.1],
    }
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    found = lithium_table()
    as_dft(found, 2)
    found.loc[0, ["lambda_crit_nm", "lambda_crit_nm_std"]] = [np.inf, np.nan]
    found["band_gap"], found["note"] = 1.5, "given"
    return found


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Path:
    """A run that no test changes."""
    folder = tmp_path_factory.mktemp("screening") / "finished"
    folder.mkdir()
    write_screening_run(folder, table)
    rank = {"rank": {"by": "lambda_crit_nm"}, "passes": {"p_s_high": "chi_high < 0"}}
    header = {"command": "screen", "status": "complete", "arguments": {"criterion": rank}}
    metrics = {
        "criterion": "lithium_metal",
        "n_members": 50,
        "candidates": 407,
        "ranked": 400,
        "excluded": 7,
        "reasons": {"metallic (band gap 0)": 7},
        "filter_unknown": {"metallic (band gap 0)": 12, "unstable": 3},
    }
    write(folder / "run.json", header)
    write(folder / "metrics.json", metrics)
    CURVE.to_csv(folder / "probability_curve.csv", index=False)
    shard = {"event": "shard_ended", "shard": 0, "judged": 400, "excluded": 7}
    log(folder, [{"event": "screening_started", "candidates": 407, "shards": 1}, shard])
    return folder


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def log(folder: Path, events: list[dict[str, Any]]) -> None:
    lines = [json.dumps({**event, "time": "2026-01-01T00:00:00+00:00"}) for event in events]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def notes(run: Path, *, warning: bool = False) -> list[str]:
    return [p.text for p in parts(run) if isinstance(p, Note) and p.is_warning == warning]


def test_counts_of_the_candidates_and_reasons(finished: Path) -> None:
    rows = part(finished, "How many candidates").rows.set_index("what became of them")
    assert rows["candidates"].to_dict() == {"read": 407, "excluded": 7, "ranked": 400}
    assert rows.loc["excluded", "share"] == "1.7 %"
    assert part(finished, "Why candidates were excluded").rows["excluded"].tolist() == [7]
    reasons = part(finished, "Reasons").rows.set_index("reason")
    assert reasons.loc["metallic (band gap 0)"].tolist() == [7, 12]
    assert reasons.loc["unstable"].tolist() == [0, 3]
    assert len(part(finished, "Excluded candidates").rows) == 7


def test_ranked_candidates_begin_with_what_decides(finished: Path, table: pd.DataFrame) -> None:
    rows = part(finished, "Ranked candidates").rows
    decisive = ["lambda_crit_nm", "lambda_crit_nm_std", "p_s_low", "p_s_low_lo", "p_s_low_hi"]
    assert list(rows)[:8] == ["rank", "material_id", "formula", *decisive]
    assert {"band_gap", "in_domain", "source", "molar_volume_ratio"} <= set(rows)
    assert rows["material_id"].tolist() == table["material_id"].tolist()
    assert rows["p_s_high"].to_numpy() == pytest.approx(table["p_s_high"].to_numpy(), rel=1e-3)
    assert np.isposinf(rows.loc[0, "lambda_crit_nm"])


def test_what_has_no_bound_is_told_from_what_is_not_known(run: Path) -> None:
    page, _ = build_page([run])
    found = read_rows(page).values()
    (shown,) = [p for p in found if p.get("title") == "Ranked candidates"]
    first = dict(zip(shown["columns"], shown["rows"][0], strict=True))
    assert first["lambda_crit_nm"] == "inf"
    assert first["lambda_crit_nm_std"] is None


def test_a_long_ranking_is_cut_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "MOST_LISTED", 100)
    shown = part(run, "Ranked candidates")
    assert shown.rows["rank"].tolist() == list(range(1, 101))
    assert shown.caption.startswith("The best 100 of 400; all of them are in screening.csv.")


def test_columns_that_the_criterion_reads_come_before_other_given_ones(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "_MOST_GIVEN", 1)
    header = {"command": "screen", "arguments": {"criterion": {"columns": {"note": ""}}}}
    write(run / "run.json", header)
    rows = part(run, "Ranked candidates").rows
    assert "note" in rows
    assert "band_gap" not in rows


def test_best_candidates_with_their_intervals(finished: Path, table: pd.DataFrame) -> None:
    rows = part(finished, "Best candidates").rows
    high = rows[rows["probability"].str.endswith("2π/nm")].reset_index(drop=True)
    assert high["value"].tolist() == table["p_s_high"].head(15).tolist()
    assert high.loc[2, "low"] == high.loc[2, "value"] == high.loc[2, "high"]  # of DFT
    assert high.loc[0, "candidate"] == f"{table['formula'][0]} {table['material_id'][0]}"
    waves = part(finished, "Best candidates: mean critical wavelength")
    assert len(waves.rows) == 14
    assert table["material_id"][0] in waves.caption
    assert (waves.rows["low"] >= 0).all()


def test_a_ranking_in_which_nothing_passes_says_so(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    metrics["passing"] = {"p_s_low": 0, "p_s_high": 0}
    metrics["ranking"] = {"by": "lambda_crit_nm", "first": 1, "distinct": 400, "unknown": 0}
    write(run / "metrics.json", metrics)
    said = "No candidate passes: p_s_low and p_s_high are 0 for all 400 ranked."
    assert said in notes(run)
    assert "Best candidates" not in titles(run)
    assert "Best candidates: mean critical wavelength" in titles(run)
    metrics["ranking"] |= {"first": 400, "distinct": 1}
    write(run / "metrics.json", metrics)
    assert "All 400 share rank 1 (equal lambda_crit_nm): they are listed by id, not ranked." in (
        notes(run)
    )
    assert not any(title.startswith("Best candidates") for title in titles(run))
    assert "Ranked candidates" in titles(run)


def test_stability_diagram_has_every_candidate(finished: Path, table: pd.DataFrame) -> None:
    rows = part(finished, "Stability diagram").rows
    assert rows["ratio"].to_numpy() == pytest.approx(table["shear_gpa"] / LITHIUM_SHEAR_GPA)
    assert rows["molar_volume_ratio"].tolist() == table["molar_volume_ratio"].tolist()
    assert rows.loc[2, "kind"] == "DFT moduli"
    outside = (table["in_domain"] == False).sum()  # noqa: E712  (None is neither)
    assert (rows["kind"] == "outside the training domain").sum() == outside


def test_many_points_are_sampled_with_a_note(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "MOST_POINTS", 100)
    rows = part(run, "Stability diagram").rows
    assert len(rows) == 100
    assert any(text.startswith("The points are 100 of 400 candidates") for text in notes(run))


def test_histograms_count_every_candidate(finished: Path, table: pd.DataFrame) -> None:
    share = part(finished, "Probability of stability P_s at k = 2π/nm").rows
    assert share["candidates"].sum() == len(table)
    chi = part(finished, "Mean χ at k = 2π/nm")
    below = chi.rows[chi.rows["to"] <= 1e-9]
    assert below["candidates"].sum() == (table["chi_high"] < 0).sum()
    waves = part(finished, "Mean critical wavelength")
    assert waves.rows["candidates"].sum() == len(table) - 1
    assert "1 without bound are not drawn" in waves.caption


def test_probability_curve_is_that_of_the_file(finished: Path) -> None:
    mean = part(finished, "Mean probability").rows
    assert mean["mean"].tolist() == CURVE["p_s_high_mean"].tolist()
    assert mean["high"].tolist() == pytest.approx([0.25, 0.23, 0.23])
    away = part(finished, "Deviation with fewer members").rows
    assert away["deviation"].tolist() == [0.1, 0.05, 0.02, 0.5, 0.3, 0.1]


def test_another_criterion_has_its_own_columns(tmp_path: Path) -> None:
    n = 30
    share = np.linspace(1, 0, n)
    table = pd.DataFrame(
        {
            "rank": np.arange(1, n + 1),
            "material_id": [f"x-{k}" for k in range(n)],
            "formula": EVIL,
            "gap_ev": np.linspace(3, 1, n),
            "gap_ev_std": 0.1,
            "p_pass": share,
            "p_pass_lo": share * 0.9,
            "p_pass_hi": np.minimum(1, share * 1.1),
            "source": "ensemble",
            "in_domain": True,
        }
    )
    write_screening_run(tmp_path, table)
    write(tmp_path / "metrics.json", {"criterion": "wide_gap_soft", "candidates": n, "ranked": n})
    shown = titles(tmp_path)
    assert {"Best candidates", "P_pass", "Gap", "Ranked candidates"} <= set(shown)
    assert "Stability diagram" not in shown
    assert notes(tmp_path, warning=True) == []
    page, _ = build_page([tmp_path])
    assert EVIL not in page
    assert read_rows(page)


def test_an_interrupted_screening_tells_of_its_shards(tmp_path: Path) -> None:
    write(tmp_path / "run.json", {"command": "screen", "status": "interrupted"})
    ended = {"event": "shard_ended", "judged": 3, "excluded": 2}
    begun = {"event": "screening_started", "candidates": 20, "shards": 4}
    log(tmp_path, [begun, {**ended, "shard": 1}, {**ended, "shard": 0}, {**ended, "shard": 1}])
    (note,) = notes(tmp_path)
    assert note.startswith("2 of 4 shards have ended: of 20 candidates 6 are judged and 4 excluded")
    assert part(tmp_path, "Shards").rows["shard"].tolist() == [0, 1]


def test_nobody_left_to_rank(tmp_path: Path, table: pd.DataFrame) -> None:
    write_screening_run(tmp_path, table.head(0))
    assert "No candidate was left to rank." in notes(tmp_path)
    assert notes(tmp_path, warning=True) == []


@pytest.mark.parametrize(
    ("name", "lost", "kept"),
    [
        ("screening.parquet", "Ranked candidates", "Mean probability"),
        ("metrics.json", "How many candidates", "Ranked candidates"),
        ("probability_curve.csv", "Mean probability", "Stability diagram"),
    ],
)
def test_a_damaged_file_costs_its_part_only(run: Path, name: str, lost: str, kept: str) -> None:
    if name.endswith("csv"):
        (run / name).write_bytes(b"\x00\xff\x00")
    else:
        cut(run / name)
    (warning,) = notes(run, warning=True)
    assert name in warning
    assert lost not in titles(run)
    assert kept in titles(run)


def test_figures_that_the_page_draws_itself_are_left_out(run: Path) -> None:
    for stem in (*screening.REPLACED, "other"):
        svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
        (run / f"{stem}.svg").write_text(svg, encoding="utf-8")
    assert [p.title for p in parts(run) if isinstance(p, Picture)] == ["Other"]


def test_no_chart_has_a_number_that_json_cannot_say(finished: Path) -> None:
    for chart in (p for p in parts_once(finished) if isinstance(p, Chart)):
        numbers = chart.rows.select_dtypes("number")
        assert not np.isinf(numbers.to_numpy(np.float64)).any(), chart.title


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        (np.linspace(1.0, 20.0, 500), False),
        (np.geomspace(1.0, 40.0, 500), True),
        (np.append(np.linspace(1.0, 20.0, 2000), 400.0), True),  # one far out, as of a soft solid
        (np.append(np.geomspace(1.0, 40.0, 2000), 0.0), True),  # one that a logarithm cannot show
        (
            np.append(np.geomspace(1.0, 400.0, 100), np.zeros(9)),
            False,
        ),  # as many cannot be left out
        (np.linspace(-1.0, 400.0, 500), False),
    ],
)
def test_values_over_decades_are_drawn_on_a_logarithm(values: np.ndarray, is_log: bool) -> None:
    table = pd.DataFrame({"lambda_crit_nm": values, "lambda_crit_nm_std": 0.1})
    (chart,) = screening_charts.distributions(table, [], ["lambda_crit_nm"], {})
    x = chart.spec["layer"][0]["encoding"]["x"]
    assert (x["scale"].get("type") == "log") == is_log
    shown = int(chart.rows["candidates"].sum())
    told = re.search(r"([\d,]+) lie outside", chart.caption)
    assert shown + (int(told[1].replace(",", "")) if told else 0) == len(values)


def test_long_reasons_have_room() -> None:
    long = "an element of which the training crystals of both ensembles have none"
    table = pd.DataFrame({"reason": [long, "metallic"], "excluded": [3, 2]})
    chart = screening.reason_chart(table)
    axis = chart.spec["encoding"]["y"]["axis"]
    assert axis["labelLimit"] == 0
    lines = json.loads(axis["labelExpr"].removesuffix("[datum.label]"))
    assert " ".join(lines[long]) == long
    assert lines["metallic"] == ["metallic"]
    assert chart.spec["height"] > 2 * 26
