"""The page of contributions: its numbers are those of the run's tables."""

from pathlib import Path

import pandas as pd
import pytest
from contributions_run import SITES, write_contributions_run
from page_parts import part, parts, titles

from raymat.reports.page import pictures
from raymat.reports.page.build import build_page
from raymat.reports.page.parts import Note, Picture


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contributions_run(tmp_path_factory.mktemp("page") / "finished")


def test_everything_is_there_once(run: Path) -> None:
    assert titles(run) == [
        "Warnings of the log",
        *("Periodic table", "Most frequent elements", "All elements"),
        *("What the nearest neighbors change", "All pairs"),
        *("Element map", "Site map"),
    ]
    page, warnings = build_page([run])
    assert warnings == []
    assert "103 sites from " in page
    assert "/models/linear" in page


def test_histograms_count_every_site_once(run: Path) -> None:
    rows = part(run, "Most frequent elements").rows
    counted = rows.groupby("element")["sites"].sum()
    assert counted.to_dict() == {**SITES}
    sites = pd.read_parquet(run / "contributions.parquet")
    for symbol, own in sites.groupby("element")["contribution"]:
        bars = rows[rows["element"] == symbol]
        assert bars["from"].min() <= own.min()
        assert own.max() <= bars["to"].max() + 1e-9
        inside = own.between(bars["from"].iloc[0], bars["to"].iloc[0], inclusive="left")
        assert int(inside.sum()) == bars["sites"].iloc[0]
    assert (rows["base"] - rows["top"]).between(0.0, 0.9).all()


def test_elements_stand_by_their_means(run: Path) -> None:
    assert part(run, "All elements").rows["element"].tolist() == ["Os", "Fe", "Li", "O"]
    assert part(run, "All elements").rows["mean"].is_monotonic_decreasing


def test_scale_of_both_signs_lies_around_zero(run: Path) -> None:
    color = part(run, "What the nearest neighbors change").spec["encoding"]["color"]
    assert color["scale"]["domain"] == [-2.0, 2.0]
    assert color["title"] == "mean contribution to formation_energy_per_atom (eV/atom)"


def test_rare_pairs_are_in_the_table_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymat.reports.page.contributions.FEWEST_SITES", 20)
    shown = [p for p in parts(run) if getattr(p, "title", "").startswith("What the nearest")]
    assert set(shown[0].rows["element"]) == {"O", "Li"}  # type: ignore[union-attr]
    assert set(part(run, "All pairs").rows["element"]) == {"O", "Li", "Fe"}


def test_run_at_work_has_nothing_to_show(tmp_path: Path) -> None:
    run = write_contributions_run(tmp_path / "run", is_complete=False)
    assert titles(run) == ["Warnings of the log"]
    assert build_page([run])[1] == []


@pytest.mark.parametrize("name", ["elements.csv", "pairs.csv", "contributions.parquet"])
def test_damaged_table_is_told_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    run = write_contributions_run(tmp_path / "run")
    (run / name).write_text("element\n")
    warnings = build_page([run])[1]
    assert warnings
    assert all("This part cannot be shown" in text and name in text for text in warnings)
    assert "Site map" in titles(run)


def test_large_picture_is_shown_as_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_contributions_run(tmp_path / "run")
    monkeypatch.setattr(pictures, "MOST_BYTES", 50)
    assert any(isinstance(p, Note) and "too large for this page" in p.text for p in parts(run))
    (run / "site_map.png").write_bytes(b"\x89PNG")
    (shown,) = [p for p in parts(run) if isinstance(p, Picture)]
    assert shown.file.name == "site_map.png"
    assert "data:image/png;base64," in build_page([run])[0]
