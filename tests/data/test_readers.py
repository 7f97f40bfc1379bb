import gzip
import hashlib
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import cif_table, cif_text, matbench_json, rock_salt, write_folder
from pymatgen.core import Structure

from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.data.structure_parser import parse_cell, parse_cif, quiet_pymatgen
from raymat.errors import DataError

EXACT = 1e-12  # the same parser made both numbers


def test_csv_of_cif_gives_every_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    cif_table(8).to_csv(path, index=False)
    loaded = load_crystals(str(path), target="y")
    assert loaded.crystals.material_ids.tolist() == [f"c-{i}" for i in range(8)]
    np.testing.assert_allclose(loaded.crystals.target("y"), np.linspace(1, 2, 8))
    assert loaded.crystals[0].atomic_numbers.tolist() == [11, 17]
    source = loaded.source
    assert (source.name, source.path) == ("small", str(path))
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source.n_rows, source.n_used, source.n_rejected) == (8, 8, 0)
    assert loaded.rejected.columns.tolist() == ["material_id", "reason"]


def test_row_numbers_stand_in_for_missing_ids(tmp_path: Path) -> None:
    path = tmp_path / "noid.csv"
    cif_table(3).drop(columns="material_id").to_csv(path, index=False)
    assert load_crystals(str(path)).crystals.material_ids.tolist() == ["row-0", "row-1", "row-2"]


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    cif_table(3).assign(material_id=["0010", "0011", ""]).to_csv(path, index=False)
    assert load_crystals(str(path)).crystals.material_ids.tolist() == ["0010", "0011", "row-2"]


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_matbench_json_keeps_its_names_and_sites(tmp_path: Path, ending: str) -> None:
    structures = [rock_salt(5.0), rock_salt(6.3, "K")]
    text = matbench_json(structures, [1.25, 0.75])
    path = tmp_path / f"matbench.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    loaded = load_crystals(str(path), target="log10(G_VRH)")
    assert loaded.source.name == "matbench"
    assert loaded.crystals.material_ids.tolist() == ["mb-test-000", "mb-test-001"]
    assert loaded.crystals.target("log10(G_VRH)").tolist() == [1.25, 0.75]
    assert loaded.crystals[1].to_structure() == structures[1]


def test_json_records_with_cif(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    path.write_text(cif_table(3).to_json(orient="records"))
    assert len(load_crystals(str(path), target="y").crystals) == 3


def test_csv_of_pymatgen_dictionaries_as_text(tmp_path: Path) -> None:
    path = tmp_path / "dicts.csv"
    pd.DataFrame({"structure": [json.dumps(rock_salt().as_dict())]}).to_csv(path, index=False)
    assert load_crystals(str(path)).crystals[0].to_structure() == rock_salt()


def test_cgcnn_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    loaded = load_crystals(str(folder))
    assert loaded.source.name == "sample"
    assert loaded.crystals.material_ids.tolist()[:2] == ["0000", "0001"]
    assert loaded.crystals.target("target").tolist() == [1.5 + i for i in range(6)]
    assert load_crystals(str(folder), target="gap").crystals.target("gap")[0] == 1.5


def test_folder_hash_follows_every_cif(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    before = load_crystals(str(folder)).source.sha256
    (folder / "0003.cif").write_text(cif_text(rock_salt(9.0)))
    assert load_crystals(str(folder)).source.sha256 != before


def test_folder_with_a_missing_and_a_broken_cif(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    (folder / "0001.cif").unlink()
    (folder / "0004.cif").write_text("data_x\nloop_\n_atom_site_label\n")
    loaded = load_crystals(str(folder), max_rejected=0.5)
    assert loaded.rejected["material_id"].tolist() == ["0001", "0004"]
    assert loaded.rejected["reason"][0] == "unreadable CIF: no file 0001.cif"
    assert loaded.rejected["reason"][1].startswith("unreadable CIF: ")


def test_folder_whose_listing_has_a_header(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    listing = folder / "id_prop.csv"
    listing.write_text("id,band_gap\n" + listing.read_text())
    loaded = load_crystals(str(folder), target="band_gap")
    assert loaded.source.notes == (
        "id_prop.csv: its first line (id, band_gap) is taken as names of columns",
    )
    assert len(loaded.rejected) == 0
    assert loaded.crystals.target("band_gap").tolist() == [1.5 + i for i in range(6)]
    with pytest.raises(DataError, match="no column 'Band_Gap'; did you mean 'band_gap'"):
        load_crystals(str(folder), target="Band_Gap")


@pytest.mark.parametrize("first", ["0000,n/a", "gone,1.0"])
def test_a_first_line_that_is_no_header(tmp_path: Path, first: str) -> None:
    folder = write_folder(tmp_path / "sample")
    lines = (folder / "id_prop.csv").read_text().splitlines()
    (folder / "id_prop.csv").write_text("\n".join([first, *lines[1:]]))
    loaded = load_crystals(str(folder), target="y", max_rejected=0.5)
    assert "header" not in loaded.rejected["reason"][0]


def test_parsed_cif_equals_pymatgen_sites_in_order() -> None:
    given = Structure.from_spacegroup(
        "P6_3mc",
        rock_salt().lattice.hexagonal(3.82, 6.26),
        ["Zn", "S"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]],
    )
    text = cif_text(given)
    parsed = parse_cif(text)
    with quiet_pymatgen():
        expected = Structure.from_str(text, fmt="cif")
    assert not isinstance(parsed, str)
    assert parsed.atomic_numbers.tolist() == list(expected.atomic_numbers)
    np.testing.assert_allclose(parsed.frac_coords, expected.frac_coords, atol=EXACT)
    np.testing.assert_allclose(parsed.lattice, expected.lattice.matrix, atol=EXACT)


@pytest.mark.data
def test_golden_cif_files_read_as_pymatgen_reads_them(shared: Path) -> None:
    files = sorted((shared / "spec" / "golden" / "cif").glob("*.cif"))
    assert len(files) == 16
    for file in files:
        with quiet_pymatgen():
            expected = Structure.from_file(file)
            parsed = parse_cif(file.read_text())
        assert not isinstance(parsed, str), f"{file.name}: {parsed}"
        assert parsed.atomic_numbers.tolist() == list(expected.atomic_numbers)
        np.testing.assert_allclose(parsed.frac_coords, expected.frac_coords, atol=EXACT)


def test_oxidation_states_and_deuterium_count_as_their_element() -> None:
    structure = rock_salt()
    structure.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    content = structure.as_dict()
    content["sites"][0]["species"][0]["element"] = "D"
    parsed = parse_cell(content)
    assert not isinstance(parsed, str)
    assert parsed.atomic_numbers.tolist() == [1, 17]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("not a cif at all", "unreadable CIF: "),
        ("{broken json", "unreadable structure: JSONDecodeError"),
        ('{"sites": []}', "unreadable structure: KeyError 'lattice'"),
        ('{"sites": 3}', "unreadable structure: TypeError"),
        ("", "structure is missing"),
        (None, "structure is missing"),
        (float("nan"), "structure is missing"),
    ],
)
def test_unreadable_cells_say_why(cell: object, reason: str) -> None:
    with quiet_pymatgen():
        found = parse_cell(cell)
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_pymatgen_warnings_do_not_leak(tmp_path: Path) -> None:
    path = tmp_path / "warn.csv"
    table = cif_table(3)
    table["cif"] = table["cif"].str.replace("0.50000000", "0.3333", regex=False)
    table.to_csv(path, index=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_crystals(str(path))
    assert [str(w.message) for w in caught if "ymatgen" in w.filename] == []


def test_missing_file_suggests_a_sibling(tmp_path: Path) -> None:
    cif_table(2).to_csv(tmp_path / "elastic.csv", index=False)
    with pytest.raises(DataError, match=r"no such file.*did you mean 'elastic\.csv'"):
        load_crystals(str(tmp_path / "elastc.csv"))


def test_misspelt_builtin_name() -> None:
    with pytest.raises(DataError, match="no built-in data set; did you mean 'delta'"):
        load_crystals("dleta")


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet", "empty.json", "empty.json.gz"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name}: the file is empty"):
        load_crystals(str(tmp_path / name))


def test_header_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "header.csv"
    path.write_text("material_id,cif,y\n")
    with pytest.raises(DataError, match="the source is empty"):
        load_crystals(str(path), target="y")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("bad.json", b"{", "not a readable JSON file"),
        ("bad.json.gz", b"no gzip", "not a readable JSON file"),
        ("odd.json", b'{"a": 1}', "expected a list of records, or 'columns'"),
        ("unfit.json", b'{"columns": ["a"], "data": [[1, 2]]}', "do not fit"),
        ("bad.csv", b'a,b\n1,2\n3,"4\n5,6,7,8\n', "not a readable CSV file"),
        ("bytes.csv", b"\xff\xfea,b", r"not a readable CSV file \(its bytes are no text"),
        ("zeros.csv", b"a,b\n\x00,1", r"not a readable CSV file \(it holds zero bytes"),
        ("crystals.xyz", b"2", r"none of the rows can be used: .*: unreadable xyz"),
        ("crystals.doc", b"2", r"cannot tell what '\.doc' is; expected a table \(\.parquet"),
        ("plain.csv", b"material_id,y\nA,1\n", "no structure column; expected 'cif'"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_crystals(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_folder_without_crystals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no files with crystals \(it is empty\); expected \.cif"):
        load_crystals(str(tmp_path))


def test_wrong_column_suggests_a_numeric_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    cif_table(3).rename(columns={"y": "log10_G_VRH"}).to_csv(path, index=False)
    with pytest.raises(DataError, match="no column 'log10_G'; did you mean 'log10_G_VRH'"):
        load_crystals(str(path), target="log10_G")


def test_a_third_of_the_rows_broken(tmp_path: Path) -> None:
    table = cif_table(20).astype({"y": object})
    table.loc[[2, 11], "cif"] = "nonsense"
    table.loc[5, "y"] = None
    table.loc[7, "y"] = "inf"
    table.loc[9, "y"] = "n/a yet"
    table.loc[15, "material_id"] = "c-1"
    path = tmp_path / "broken.csv"
    table.to_csv(path, index=False)
    with pytest.raises(
        TooManyRejectedError,
        match=r"6 of 20 rows cannot be used \(more than --max-rejected 0\.05\): "
        r"unreadable CIF \(2\).*raise --max-rejected",
    ) as caught:
        load_crystals(str(path), target="y")
    assert len(caught.value.rejected) == 6
    loaded = load_crystals(str(path), target="y", max_rejected=0.3)
    assert len(loaded.crystals) == 14
    assert loaded.rejected["material_id"].tolist() == ["c-2", "c-5", "c-7", "c-9", "c-11", "c-1"]
    kinds = [reason.split(": ")[0] for reason in loaded.rejected["reason"]]
    assert kinds == [
        "unreadable CIF",
        "target is missing",
        "target is infinite",
        "target is not a number",
        "unreadable CIF",
        "duplicate id",
    ]


def test_no_usable_row_is_an_error_whatever_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    cif_table(3).assign(cif="x").to_csv(path, index=False)
    with pytest.raises(DataError, match="none of the rows can be used: 3 of 3"):
        load_crystals(str(path), max_rejected=1.0)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "target", "n"),
    [
        ("elastic", "log10_G_VRH", 8981),
        ("mp_properties", "is_metal", 31272),
        ("li_candidates", None, 19073),
        ("perov5", "heat_all", 6367),
    ],
)
def test_shared_data_read_whole_and_fast(
    shared: Path, name: str, target: str | None, n: int
) -> None:
    start = time.perf_counter()
    loaded = load_crystals(str(shared / "data" / f"{name}.parquet"), target=target)
    seconds = time.perf_counter() - start
    assert (loaded.source.n_used, loaded.source.n_rejected) == (n, 0)
    assert loaded.crystals.n_sites.tolist() == loaded.crystals.properties["n_sites"].tolist()
    assert seconds < 10.0  # 0.8 s on one idle core for the largest; far off means a lost fast path
