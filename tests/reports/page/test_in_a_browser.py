"""The page in a real browser: it draws, sorts, searches, prints, and asks nobody for anything."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import WHY_NOT, Browser
from comparison_run import write_run as write_comparison
from conftest import PROJECT
from contributions_run import write_contributions_run
from explanation_run import write_finished as write_explanations
from explanation_run import write_series
from search_run import write_search_run

sys.path.append(str(PROJECT / "tests" / "reports"))

from ensemble_run import write_ensemble_run
from screening_run import lithium_table, write_screening_run

from raymat.reports.page.build import build_page

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.filterwarnings("default"),  # of Selenium
]
BAD = "<img src=x onerror='window.hacked=1'>"
TRIALS, EPOCHS, TESTS = 60, 6, 80
TABLE = "Leaderboard"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    run = write_search_run(
        folder / "search", trials=TRIALS, epochs=EPOCHS, n_test=TESTS, formula=BAD, error=BAD
    )
    html, warnings = build_page([run])
    assert warnings == []
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    return page


def test_charts_draw_every_number(browser: Browser, page: Path) -> None:
    browser.open(page)
    points = browser.points()
    assert {"Learning curves", "Predictions of the test rows", "Values that were tried"} <= set(
        points
    )
    assert all(n == drawn > 0 for n, drawn in points.values())
    assert points["Predictions of the test rows"][0] == TESTS
    assert points["Course of the search"][0] == TRIALS
    assert len(browser.texts("figure.chart svg")) + len(browser.texts("figure.chart canvas")) > 0
    assert browser.console() == []
    assert browser.requests() == []


def test_nothing_in_a_run_is_executed(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("return window.hacked === undefined")
    assert any(BAD in text for text in browser.texts("td"))


def test_table_sorts_and_searches(browser: Browser, page: Path) -> None:
    browser.open(page)
    figure = "[...document.querySelectorAll('figure.table')].find((f) => f.textContent.includes(arguments[0]))"  # fmt: skip  # noqa: E501

    def column(number: int) -> list[str]:
        rows = f"[...{figure}.querySelectorAll('tbody tr')]"
        return list(browser.run(f"return {rows}.map((r) => r.cells[{number}].textContent)", TABLE))

    def click(number: int) -> None:
        browser.run(f"{figure}.querySelectorAll('th button')[{number}].click()", TABLE)

    scores = [float(text) for text in column(2) if text]
    assert scores == sorted(scores)
    assert len(column(0)) == 50  # a page of them
    click(0)
    assert column(0) == [f"{n:04d}" for n in range(50)]
    click(0)
    assert column(0)[0] == f"{TRIALS - 1:04d}"
    browser.run(
        f"const box = {figure}.querySelector('input'); box.value = 'failed';"
        " box.dispatchEvent(new Event('input'))",
        TABLE,
    )
    assert column(0) == ["0001"]


def test_numbers_can_be_downloaded(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = set(browser.texts("figure.chart .tools button"))
    assert names == {"SVG", "PNG", "CSV", "whole chart"}
    taken = browser.run(
        """
        const taken = [];
        const take = function () { taken.push([this.download, this.href]); };
        HTMLAnchorElement.prototype.click = take;
        document.querySelector("figure.chart .tools button:last-child").click();
        const read = async ([name, url]) => [name, await (await fetch(url)).text()];
        return Promise.all(taken.map(read));
        """
    )
    ((name, content),) = taken
    assert name.endswith(".csv")
    assert len(content.strip().splitlines()) > 2


def test_page_prints(browser: Browser, page: Path) -> None:
    browser.open(page)
    pdf = base64.b64decode(browser.driver.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000


@pytest.mark.parametrize(("width", "is_dark"), [(420, False), (1200, True)])
def test_phone_and_dark(page: Path, width: int, is_dark: bool) -> None:
    browser = Browser(width=width, is_dark=is_dark)
    try:
        browser.open(page)
        assert browser.console() == []
        wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0  # only tables and charts scroll sideways, within themselves
        ground = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 25, 29)" if is_dark else "rgb(255, 255, 255)")
    finally:
        browser.close()


def ensemble(folder: Path) -> None:
    folder.mkdir()
    write_ensemble_run(folder)
    write_header(folder, "ensemble")


def classes(folder: Path) -> None:
    folder.mkdir()
    write_ensemble_run(folder, task="classification")
    write_header(folder, "ensemble", task="classification")


def screening(folder: Path) -> None:
    folder.mkdir()
    write_screening_run(folder, lithium_table())
    write_header(folder, "screen", arguments={"criterion": {"rank": {"by": "lambda_crit_nm"}}})
    (folder / "metrics.json").write_text(json.dumps({"candidates": 407, "ranked": 400}))


def series(folder: Path) -> None:
    write_series(folder, "band_gap", "formation_energy_per_atom", "efermi")


def comparison(folder: Path) -> None:
    """Two of its cells are there as runs of their own."""
    write_comparison(folder)
    for name in ("log10_K_VRH-r0-nall-cgcnn-tuned", "log10_K_VRH-r1-nall-cgcnn-tuned"):
        write_search_run(folder / "cells" / name)


def write_header(folder: Path, command: str, **others: object) -> None:
    header = {"command": command, "status": "complete", **others}
    (folder / "run.json").write_text(json.dumps(header), encoding="utf-8")


KINDS: dict[str, Callable[[Path], object]] = {
    "tune": write_search_run,
    "ensemble": ensemble,
    "classes": classes,
    "screen": screening,
    "explain": write_explanations,
    "contributions": write_contributions_run,
    "series": series,
    "compare": comparison,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run(browser: Browser, tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / kind)
    html, warnings = build_page([tmp_path / kind])
    assert warnings == []
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    browser.open(page)
    points = browser.points()
    assert points
    assert all(n == drawn > 0 for n, drawn in points.values()), points
    assert browser.console() == []
    assert browser.requests() == []
    assert len(html) < 3_000_000
    pictures = browser.texts("figure.picture .tools")
    assert len(pictures) == {"explain": 1, "contributions": 3, "series": 2}.get(kind, 0)
    assert all("SVG" in tools for tools in pictures)


def test_several_runs_on_one_page(browser: Browser, tmp_path: Path) -> None:
    for kind, write in KINDS.items():
        write(tmp_path / kind)
    page = tmp_path / "page.html"
    page.write_text(build_page([tmp_path / kind for kind in KINDS])[0], encoding="utf-8")
    browser.open(page)
    assert browser.texts("nav tbody td:first-child") == list(KINDS)
    assert browser.console() == []
