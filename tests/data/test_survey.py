"""One pass over a source finds what loading it finds, however the rows are cut."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import array_table, cif_table, write_folder

from raymat.data import survey as survey_module
from raymat.data.crystals import CrystalSet
from raymat.data.readers import TooManyRejectedError, load_crystals, reason_counts
from raymat.data.survey import Survey, survey
from raymat.data.writers import writing_rejected
from raymat.errors import DataError


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "_ROWS_AT_ONCE", 5)


def survey_all(source: Path, target: str | None = None) -> tuple[Survey, pd.DataFrame]:
    listed: list[pd.DataFrame] = [pd.DataFrame(columns=["material_id", "reason"])]
    found = survey(str(source), target=target, on_rejected=listed.append)
    return found, pd.concat(listed[1:] or listed, ignore_index=True)


@pytest.fixture
def broken(tmp_path: Path, twelve_crystals: CrystalSet) -> Path:
    """36 rows: targets of all kinds, twice the same id, and a lattice without volume."""
    table = pd.concat([array_table(twelve_crystals)] * 3, ignore_index=True)
    table["material_id"] = [f"m-{i}" for i in range(36)]
    table["y"] = np.linspace(1.0, 2.0, 36)
    table.loc[[3, 17], "y"] = [np.nan, np.inf]
    table.loc[30, "material_id"] = "m-4"
    table.loc[33, "material_id"] = "m-17"  # the first row of this id has no usable target
    table["lattice"] = [[0.0] * 9 if i == 20 else cell for i, cell in enumerate(table["lattice"])]
    table.to_parquet(tmp_path / "broken.parquet")
    return tmp_path / "broken.parquet"


@pytest.mark.parametrize("target", [None, "y"])
def test_it_finds_what_loading_finds(broken: Path, target: str | None) -> None:
    loaded = load_crystals(str(broken), target=target, max_rejected=1.0)
    found, listed = survey_all(broken, target)
    assert found.source == loaded.source
    assert found.reasons == reason_counts(loaded.rejected)
    pd.testing.assert_frame_equal(listed, loaded.rejected)
    pd.testing.assert_frame_equal(found.first, loaded.rejected)


def test_only_the_first_rejected_rows_are_kept(broken: Path, monkeypatch) -> None:
    monkeypatch.setattr(survey_module, "SHOWN_ROWS", 2)
    found, listed = survey_all(broken, "y")
    assert (len(found.first), len(listed)) == (2, 4)
    with pytest.raises(TooManyRejectedError, match=r"4 of 36 rows cannot be used \(more than"):
        found.check_share("x", 0.05)
    found.check_share("x", 0.2)


def test_none_of_the_rows(tmp_path: Path) -> None:
    table = cif_table(7).assign(cif="x")
    table.to_csv(tmp_path / "t.csv", index=False)
    found, _ = survey_all(tmp_path / "t.csv")
    with pytest.raises(TooManyRejectedError, match="none of the rows can be used: 7 of 7"):
        found.check_share("x", 1.0)


def test_a_target_may_be_text_in_some_shards_only(tmp_path: Path) -> None:
    table = cif_table(12)
    table["y"] = ["unknown"] * 6 + ["1.5"] * 6
    table.to_csv(tmp_path / "t.csv", index=False)
    loaded = load_crystals(str(tmp_path / "t.csv"), target="y", max_rejected=1.0)
    found, _ = survey_all(tmp_path / "t.csv", "y")
    assert found.reasons == reason_counts(loaded.rejected) == {"target is not a number": 6}
    table.assign(y="unknown").to_csv(tmp_path / "text.csv", index=False)
    with pytest.raises(DataError, match=r"column 'y' holds text \('unknown'\), not numbers"):
        survey_all(tmp_path / "text.csv", "y")
    with pytest.raises(DataError, match="no column 'z'"):
        survey_all(tmp_path / "t.csv", "z")


def test_a_folder_needs_its_list_for_a_target_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cifs")
    listed, _ = survey_all(folder, "any_name")
    assert listed.source.n_rows == 6
    (folder / "id_prop.csv").unlink()
    plain, _ = survey_all(folder)
    assert plain.source.n_rows == listed.source.n_rows
    with pytest.raises(DataError, match=r"no column 'y'; the source holds structures only: put an"):
        survey_all(folder, "y")


def test_a_list_that_grows_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rejected.csv"
    with pytest.raises(AttributeError), writing_rejected(path) as add:
        add(None)
    assert list(tmp_path.iterdir()) == []
    with writing_rejected(path) as add:
        add(pd.DataFrame({"material_id": ["a"], "reason": ['b, "c"']}))
    assert pd.read_csv(path).values.tolist() == [["a", 'b, "c"']]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0] * 6 + [1] * 6, ("0", "1")),
        (["metal"] * 11 + ["glass"], ("glass", "metal")),  # the second word is in the last shard
        ([0, 1] * 5 + [0, 7], None),
        (["x"] * 6 + ["1.5"] * 6, None),
    ],
)
def test_a_class_is_found_as_loading_finds_it(tmp_path: Path, values, names) -> None:
    cif_table(12).assign(phase=values).to_csv(tmp_path / "t.csv", index=False)
    loaded = load_crystals(str(tmp_path / "t.csv"), target="phase", max_rejected=1.0)
    found, listed = survey_all(tmp_path / "t.csv", "phase")
    assert found.prop == loaded.prop
    assert found.prop.names == names
    pd.testing.assert_frame_equal(listed, loaded.rejected)


def test_three_classes_are_refused_whatever_the_shards(tmp_path: Path) -> None:
    cif_table(12).assign(y=["a"] * 6 + ["b"] * 5 + ["c"]).to_csv(tmp_path / "t.csv", index=False)
    for read in (
        lambda path: survey_all(path, "y"),
        lambda path: load_crystals(str(path), target="y"),
    ):
        with pytest.raises(DataError, match=r"column 'y' holds 3 classes \(a, b, c\)"):
            read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.arange(12.0), ""),
        ([0, 1] * 6, ""),
        ([3.0] * 12, r"the 12 usable targets are all equal \(3\), so there is nothing to learn"),
        ([0.1 + 0.2, 0.3] * 6, "are all equal"),
        ([1e-120, 2e-120] * 6, "differ by 1e-120 at most, too little to compute with"),
        (
            np.arange(9.0),
            "9 usable rows are too few to train on: the default split needs at least 10",
        ),
    ],
)
def test_what_nothing_can_be_learned_of(tmp_path: Path, values, problem: str) -> None:
    cif_table(len(values)).assign(y=values).to_csv(tmp_path / "t.csv", index=False)
    found, _ = survey_all(tmp_path / "t.csv", "y")
    assert re.search(problem, found.unlearnable)
    assert bool(found.unlearnable) == bool(problem)
