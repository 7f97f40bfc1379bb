import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from raymat.data.crystals import CrystalSet
from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.data.writers import (
    atomic_file,
    read_own_csv,
    write_crystals,
    write_csv,
    write_rejected,
    writing_rejected,
)
from raymat.errors import DataError


def assert_same(one: CrystalSet, other: CrystalSet) -> None:
    for name in ("material_ids", "lattices", "offsets", "atomic_numbers", "frac_coords"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    pd.testing.assert_frame_equal(one.properties, other.properties)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    crystals = load_crystals("delta").crystals
    write_crystals(crystals, tmp_path / "d.parquet")
    assert_same(load_crystals(str(tmp_path / "d.parquet")).crystals, crystals)


def test_layout_and_units(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    named = CrystalSet(
        **{**vars(twelve_crystals), "properties": pd.DataFrame({"band_gap": np.arange(12.0)})}
    )
    write_crystals(named, tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.names == [
        "material_id", "lattice", "atomic_numbers", "frac_coords", "band_gap",
    ]  # fmt: skip
    assert str(schema.field("lattice").type) == "fixed_size_list<element: double>[9]"
    assert str(schema.field("frac_coords").type).endswith("float>")  # these lose nothing
    assert schema.field("band_gap").metadata[b"unit"] == b"eV"


@pytest.mark.data
def test_shared_sample_round_trip(tmp_path: Path, shared: Path) -> None:
    crystals = load_crystals(str(shared / "data" / "mp_sample.parquet")).crystals
    write_crystals(crystals, tmp_path / "s.parquet")
    assert_same(load_crystals(str(tmp_path / "s.parquet")).crystals, crystals)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.csv: cannot be written \(.*No such file|directory"):
        write_rejected(pd.DataFrame(), tmp_path / "none" / "r.csv")


def test_no_space_left_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No space left on device"), atomic_file(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_rejected_file_always_has_its_header(tmp_path: Path) -> None:
    write_rejected(load_crystals("delta").rejected, tmp_path / "rejected.csv")
    assert (tmp_path / "rejected.csv").read_text() == "material_id,reason\n"


def test_rejection_error_travels_between_processes() -> None:
    error = TooManyRejectedError("m", rejected=pd.DataFrame({"reason": ["a"]}))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "m"
    assert json.loads(copy.rejected.to_json()) == {"reason": {"0": "a"}}


# --- CSV -----------------------------------------------------------------------------------------

TEXTS = ["=1+1", "+a", "-b", "@SUM(A1)", "\tx", "mp-1", "-1.5", "NaN", "001", "'quoted"]


def test_csv_has_no_formulas_and_reads_back_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "material_id": TEXTS,
            "formula": [None, *["NaN"] * 9],
            "=name": TEXTS[::-1],
            "number": [-1.5, np.nan, np.inf, -np.inf, 0.1 + 0.2, 1e-300, 1, 2, 3, -4],
            "flag": pd.array([True, None] * 5, dtype="boolean"),
        }
    )
    path = tmp_path / "table.csv"
    write_csv(table, path)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["material_id", "formula", "'=name", "number", "flag"]
    ids = [row[0] for row in rows]
    assert ids == ["'=1+1", "'+a", "'-b", "'@SUM(A1)", "'\tx", "mp-1", "-1.5", *TEXTS[-3:]]
    assert [float(row[3] or "nan") for row in rows][4:] == table["number"].tolist()[4:]
    assert rows[0][3] == "-1.5"
    found = read_own_csv(path)
    assert list(found) == list(table)
    assert found["material_id"].tolist() == TEXTS
    assert found["=name"].tolist() == TEXTS[::-1]
    assert found["formula"].tolist()[1:] == ["NaN"] * 9
    assert pd.isna(found["formula"][0])
    np.testing.assert_array_equal(found["number"], table["number"])
    assert found["flag"].tolist()[0] is True
    assert read_own_csv(path, usecols=["number"]).shape == (10, 1)


def test_rejected_rows_are_no_formulas(tmp_path: Path) -> None:
    reason = "=HYPERLINK(1)"
    write_rejected(pd.DataFrame({"material_id": ["=1"], "reason": [reason]}), tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text("utf-8") == f"material_id,reason\n'=1,'{reason}\n"
    with writing_rejected(tmp_path / "s.csv") as add:
        add(pd.DataFrame({"material_id": ["=1"], "reason": [reason]}))
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "r.csv").read_bytes()
