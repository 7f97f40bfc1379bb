"""The page of a data set: what stands in it, and what lies beside it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raymat.data import describe as describe_module
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.describe import describe
from raymat.data.readers import load_crystals
from raymat.data.writers import write_crystals
from raymat.errors import DataError
from raymat.reports.data_page import save_data_page


def parts_of(page: Path) -> dict[str, dict]:
    """Give what the page's charts and tables show, by title."""
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return {part["title"]: part for part in json.loads(found[1]).values() if "title" in part}


def frame(part: dict) -> pd.DataFrame:
    return pd.DataFrame(part["rows"], columns=part["columns"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, twelve_crystals: CrystalSet) -> Path:
    """96 crystals with gaps, many of them exactly zero, some of them the same structure."""
    rng = np.random.default_rng(3)
    rows = [twelve_crystals[k % 12] for k in range(96)]
    stretched = [
        Crystal(f"m-{k}", c.lattice * (1 + 0.04 * (k // 12)), c.atomic_numbers, c.frac_coords)
        for k, c in enumerate(rows)
    ]
    gaps = np.where(np.arange(96) % 3 == 0, 0.0, np.abs(rng.normal(3.0, 0.5, 96)))
    path = tmp_path_factory.mktemp("data") / "gaps.parquet"
    write_crystals(CrystalSet.from_crystals(stretched, pd.DataFrame({"band_gap": gaps})), path)
    return path


def test_the_numbers_of_a_page(source: Path, tmp_path: Path) -> None:
    described = describe(load_crystals(str(source), target="band_gap"), "band_gap")
    page, *beside = save_data_page(described, tmp_path)
    assert page == tmp_path / "gaps.html"
    assert {file.name for file in beside} == {
        f"gaps-{name}" for name in ("elements.csv", "elements.png", "elements.svg",
                                    "duplicates.csv")
    }  # fmt: skip
    parts = parts_of(page)
    whole, others = parts["band_gap (eV)"], parts["band_gap (eV), other than zero"]
    assert frame(whole)["crystals"].sum() == 96
    assert frame(others)["crystals"].sum() == 64
    assert frame(parts["Atoms per cell"])["crystals"].sum() == 96
    assert frame(parts["Volume per atom"])["crystals"].sum() == 96
    systems = frame(parts["Crystal systems"]).set_index("name")["crystals"]
    assert systems.to_dict()["cubic"] == 96
    assert systems.sum() == 96
    assert set(frame(parts["Space groups"])["name"]) == {"225", "227", "221"}
    leaks = frame(parts["What each split would leak"]).set_index("split")
    assert leaks.loc["random", "test rows"] == leaks.loc["random", "formula in training"]
    twins = pd.read_csv(tmp_path / "gaps-duplicates.csv")
    assert twins["group"].nunique() == len(described.duplicates.groups) > 0
    assert len(frame(parts["Crystals that are one and the same"])) == len(twins)
    counts = pd.read_csv(tmp_path / "gaps-elements.csv", keep_default_na=False)
    assert dict(zip(counts["element"], counts["crystals"], strict=True)) == described.elements
    text = page.read_text(encoding="utf-8")
    assert "peak at exactly zero: 32 of 96 values (33.3%)" in text
    assert "the other values have one mode" in text
    assert "http://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL).replace(
        "http://www.w3.org", ""
    )


def test_without_a_target_or_a_twin(tmp_path: Path) -> None:
    page, *_ = save_data_page(describe(load_crystals("delta")), tmp_path)
    parts = parts_of(page)
    assert "Quantiles" in parts
    assert "Crystals that are one and the same" not in parts
    assert "duplicates: none" in page.read_text(encoding="utf-8")
    assert "<h3>Target</h3>" not in page.read_text(encoding="utf-8")


def test_too_many_crystals_without_a_space_group(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(describe_module, "MOST_SEARCHED", 10)
    described = describe(load_crystals("delta"))
    assert described.spacegroups is None
    page, *_ = save_data_page(described, tmp_path)
    assert "The source states no space group" in page.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    described = describe(load_crystals("delta"))
    with pytest.raises(DataError, match=r"delta-elements\.png: cannot be written"):
        save_data_page(described, tmp_path / "none")
