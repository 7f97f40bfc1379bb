"""The page of a data set in a real browser: every chart is drawn, nobody is asked for anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import WHY_NOT, Browser

from raymat.data.describe import describe
from raymat.data.readers import load_crystals
from raymat.reports.data_page import save_data_page

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.filterwarnings("default"),  # of Selenium
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def test_every_chart_is_drawn(browser: Browser, tmp_path: Path) -> None:
    described = describe(load_crystals("delta", target="bulk_modulus"), "bulk_modulus")
    page, *_ = save_data_page(described, tmp_path)
    browser.open(page)
    points = browser.points()
    assert set(points) == {
        "bulk_modulus", "Atoms per cell", "Volume per atom", "Crystal systems",
        "Space groups",
    }  # fmt: skip
    assert all(n == drawn > 0 for n, drawn in points.values())
    width = browser.run("return document.querySelector('figure.picture img').naturalWidth")
    assert width > 100
    assert browser.console() == []
    assert browser.requests() == []


@pytest.mark.data
@pytest.mark.parametrize("target", ["formation_energy_per_atom", "band_gap"])
def test_real_data(browser: Browser, tmp_path: Path, shared: Path, target: str) -> None:
    source = str(shared / "data" / "mp_sample.parquet")
    page, *_ = save_data_page(describe(load_crystals(source, target=target), target), tmp_path)
    browser.open(page)
    assert all(n == drawn > 0 for n, drawn in browser.points().values())
    words = " ".join(browser.texts("p.note"))
    assert ("peak at exactly zero" in words) == (target == "band_gap")
    assert browser.console() == []
