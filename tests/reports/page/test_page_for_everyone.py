"""The page by keyboard, by screen reader, on a phone, in the dark and on paper."""

import base64
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from browser import WHY_NOT, Browser
from comparison_run import write_run as write_comparison
from conftest import PROJECT
from contributions_run import write_contributions_run
from explanation_run import write_series
from search_run import write_search_run

sys.path.append(str(PROJECT / "tests" / "reports"))

from screening_run import lithium_table, write_screening_run

from raymat.reports.page.build import build_page
from raymat.reports.page.parts import RunView, Section
from raymat.reports.page.render import render
from raymat.reports.page.screening import reason_chart

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.filterwarnings("default"),  # of Selenium
]
PHONE = 390
READABLE = 4.5  # contrast of text and ground, WCAG 2.2, AA
# Text whose color is too near to that of the ground behind it, or none; disabled buttons aside.
PALE_TEXT = """
const read = (color) => {
  const [r, g, b, a = 1] = color.match(/[0-9.]+/g).map(Number);
  return { rgb: [r, g, b], a };
};
const light = ({ rgb }) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (e) => {
  for (let at = e; at; at = at.parentElement) {
    const found = read(getComputedStyle(at).backgroundColor);
    if (found.a === 1) return found;
  }
  return read("rgb(255, 255, 255)");
};
const bad = [];
for (const e of document.querySelectorAll("body *")) {
  const hasText = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!hasText || e.disabled || e.closest("script, [hidden]") || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const [x, y] = [light(read(e.closest("svg") ? style.fill : style.color)), light(ground(e))];
  const contrast = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  if (contrast < arguments[0]) bad.push(`${contrast.toFixed(1)} ${e.tagName} ${e.textContent.trim().slice(0, 40)}`);
}
return bad;
"""  # noqa: E501


def write_screening(folder: Path) -> None:
    folder.mkdir()
    write_screening_run(folder, lithium_table())
    (folder / "run.json").write_text('{"command": "screen", "status": "complete"}')


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five kinds of runs with long names."""
    folder = tmp_path_factory.mktemp("page")
    write_search_run(folder / "tune-cgcnn-of-a-long-name-20250301-101500")
    write_contributions_run(folder / "contributions-of-crystals-20250301-101500")
    write_screening(folder / "screen-lithium_metal-20250301-101500")
    write_series(folder / "explain-3-properties-20250301-101500", "band_gap", "efermi")
    write_comparison(folder / "compare-everything-20250301-101500")
    page = folder / "page.html"
    page.write_text(build_page(sorted(p for p in folder.iterdir() if p.is_dir()))[0], "utf-8")
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def test_tables_can_be_sorted_and_searched_without_a_mouse(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("return [...document.querySelectorAll('figure.table th')].every((th) =>"
                       " th.scope === 'col' && th.querySelector('button'))")  # fmt: skip
    assert browser.run("return [...document.querySelectorAll('input')].every((i) =>"
                       " i.getAttribute('aria-label'))")  # fmt: skip
    sorts = "[...document.querySelectorAll('figure.table')][0].querySelectorAll('th')"
    press = f"{sorts}[1].querySelector('button').click()"
    told = f"return [...{sorts}].map((th) => th.getAttribute('aria-sort'))"
    assert set(browser.run(told)) == {None}
    browser.run(press)
    assert browser.run(told)[:3] == [None, "ascending", None]
    browser.run(press)
    assert browser.run(told)[:3] == [None, "descending", None]
    assert browser.run("return [...document.images].every((image) => image.alt)")
    assert browser.run("return document.documentElement.lang") == "en"


def test_short_tables_have_no_search_box(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = (
        "return [...document.querySelectorAll('figure.table')].map((f) => [window.raymat"
        ".data[f.id].rows.length, f.querySelector('.find').getClientRects().length > 0])"
    )
    told = browser.run(rows)
    assert all(is_shown == (n > 8) for n, is_shown in told)
    assert {is_shown for _, is_shown in told} == {True, False}


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_stands_out_from_its_ground(page: Path, is_dark: bool) -> None:
    browser = Browser(is_dark=is_dark)
    try:
        browser.open(page)
        assert browser.run(PALE_TEXT, READABLE) == []
    finally:
        browser.close()


def test_phone_scrolls_downward_only(page: Path) -> None:
    browser = Browser(width=500)
    try:
        size = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.open(page)
        widths = browser.run("return [window.innerWidth, document.documentElement.scrollWidth]")
        assert widths == [PHONE, PHONE]
        assert browser.console() == []
    finally:
        browser.close()


def test_charts_that_were_never_seen_are_printed(browser: Browser, page: Path) -> None:
    """They are drawn when the browser has nothing else to do."""
    browser.driver.get(page.as_uri())
    n = browser.run("return document.querySelectorAll('figure.chart').length")
    deadline = time.monotonic() + 60
    while browser.run("return Object.keys(window.raymat.views).length") < n:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert browser.run("return window.scrollY") == 0
    pdf = base64.b64decode(browser.driver.print_page())
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 5


CONTROL = 2  # among the modifiers of an event in DevTools
DOMAIN = (
    "const v = Object.entries(window.raymat.data).find(([, p]) => p.title === arguments[0])[0];"
)
SCALE = f"{DOMAIN} return window.raymat.views[v].scale('x').domain()"


def test_scatter_plot_is_enlarged_and_shown_whole_again(browser: Browser, page: Path) -> None:
    browser.open(page)
    title = "Predictions of the test rows"
    whole = browser.run(SCALE, title)
    find = f"""{DOMAIN}
        const chart = document.querySelector(`#${{v}} .content svg, #${{v}} .content canvas`);
        chart.scrollIntoView({{ block: "center" }});
        const box = chart.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    """

    def turn_wheel(**keys: int) -> None:
        x, y = browser.run(find, title)
        event = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -300, **keys}
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.5)

    turn_wheel()
    assert browser.run(SCALE, title) == whole  # the wheel alone scrolls the page
    turn_wheel(modifiers=CONTROL)
    low, high = browser.run(SCALE, title)
    assert whole[0] < low < high < whole[1]
    browser.run(
        f"{DOMAIN} document.querySelector(`#${{v}} .tools button`).click();"
        " return new Promise((done) => setTimeout(done, 500))",
        title,
    )
    assert browser.run(SCALE, title) == whole


def test_long_reasons_are_read_to_their_end(browser: Browser, tmp_path: Path) -> None:
    reason = (
        "an element of which the training crystals of both ensembles have none, 'Pu' \"or\" <Np>"
    )
    table = pd.DataFrame({"reason": [reason, "metallic"], "excluded": [3, 2]})
    view = RunView("run", "screen", "complete", sections=[Section("a", [reason_chart(table)])])
    page = tmp_path / "page.html"
    page.write_text(render([view], "long"), "utf-8")
    browser.open(page)
    lines = browser.texts(
        "figure.chart .role-axis-label text tspan, figure.chart .role-axis-label text"
    )
    assert not any("…" in line for line in lines)
    assert "".join(reason.split()) in "".join("".join(lines).split())
    assert browser.console() == []
