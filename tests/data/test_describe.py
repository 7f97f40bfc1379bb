from pathlib import Path

import numpy as np
import pytest
from builders import cif_table

from raymat.data import leakage
from raymat.data.describe import QUANTILES, describe
from raymat.data.readers import load_crystals
from raymat.errors import DataError


def test_numbers_of_delta() -> None:
    found = describe(load_crystals("delta", target="bulk_modulus"), "bulk_modulus")
    target = found.target
    assert target is not None
    assert (found.n_formulas, found.n_shared_formula) == (71, 0)
    assert len(found.elements) == 71
    assert set(found.elements.values()) == {1}
    assert next(iter(found.elements)) == "H"
    assert target.mean == pytest.approx(float(np.mean(target.values)))
    assert target.std == pytest.approx(float(np.std(target.values, ddof=1)))
    assert target.quantiles[0] == target.values.min()
    assert target.quantiles[QUANTILES.index(0.5)] == np.median(target.values)
    assert {k: leak.n_test for k, leak in found.leakage.items() if leak} == {
        "random": 7, "formula": 7, "chemical_system": 7, "kfold": 15,
    }  # fmt: skip


def test_small_and_partly_broken_set(tmp_path: Path) -> None:
    table = cif_table(8)
    table.loc[0, "cif"] = "x"
    table["y"] = [1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    table.to_csv(tmp_path / "t.csv", index=False)
    found = describe(load_crystals(str(tmp_path / "t.csv"), target="y", max_rejected=0.2), "y")
    assert found.reasons == {"unreadable CIF": 1}
    assert found.target is not None
    assert found.target.share_of_zeros == pytest.approx(2 / 7)
    assert found.n_shared_formula == 7
    assert found.leakage["random"] is None  # 7 crystals have no tenth


def test_space_groups_are_found_once_for_all_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(leakage, "_find_spacegroup", lambda _, row: asked.append(row) or 225)
    cif_table(20).to_csv(tmp_path / "t.csv", index=False)
    found = describe(load_crystals(str(tmp_path / "t.csv")))
    assert found.leakage["random"] == leakage.Leakage(2, 2, 2)
    assert found.leakage["kfold"] == leakage.Leakage(4, 4, 4)
    assert sorted(asked) == sorted(set(asked))


def test_target_that_was_not_checked(tmp_path: Path) -> None:
    table = cif_table(4)
    table.loc[1, "y"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="'y' holds NaN"):
        describe(load_crystals(str(tmp_path / "t.csv")), "y")
