"""Tables as people and programs write them: ids, separators, encodings, logarithms, units."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import array_table, cif_table, cif_text, rock_salt, write_folder

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.shards import iter_shards
from raymat.data.survey import survey
from raymat.data.table_reader import CsvFile
from raymat.errors import DataError, did_you_mean
from raymat.sources.files.importing import ImportRequest, import_crystals

WRITTEN = ["NaN", "NA", "null", "None", "nan", "007", "1e5", "1E10", "True", "2020-01-02", "-"]
"""Ids and formulas that a parser takes for something else; NaN is sodium nitride, for one."""


def write(table: pd.DataFrame, path: Path, kind: str) -> str:
    """Write a table as one of the kinds that hold ids, without its index."""
    if kind == "csv":
        table.to_csv(path / "t.csv", index=False)
    elif kind == "json":
        (path / "t.json").write_text(table.to_json(orient="records"))
    else:
        table.to_parquet(path / "t.parquet", index=False)
    return str(path / f"t.{kind}")


def every_reading(source: str, tmp_path: Path) -> list[CrystalSet]:
    """Give what load_crystals, shards and an import read."""
    shard = next(iter_shards(source, size=10_000))
    out = tmp_path / "imported.parquet"
    out.unlink(missing_ok=True)
    import_crystals(ImportRequest(source, out, tmp_path / "rejected.csv"))
    return [load_crystals(source).crystals, shard.crystals, load_crystals(str(out)).crystals]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("column", ["material_id", "id", "MP-ID", "Matbench id", "name"])
def test_ids_and_formulas_stay_as_they_are_written(tmp_path: Path, kind: str, column: str) -> None:
    table = cif_table(len(WRITTEN)).rename(columns={"material_id": column})
    table[column], table["formula"] = WRITTEN, WRITTEN
    for crystals in every_reading(write(table, tmp_path, kind), tmp_path):
        assert crystals.material_ids.tolist() == WRITTEN
        assert crystals.properties["formula"].tolist() == WRITTEN
        assert crystals.target("y").tolist() == pytest.approx(table["y"].tolist())


def test_ids_of_a_list_and_of_a_property_table_stay_as_they_are_written(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "listed", n=len(WRITTEN))
    for file, name in zip(sorted(folder.glob("*.cif")), WRITTEN, strict=True):
        file.rename(folder / f"{name}.cif")
    lines = "".join(f"{name},{i}\n" for i, name in enumerate(WRITTEN))
    (folder / "id_prop.csv").write_text(lines)
    assert load_crystals(str(folder)).crystals.material_ids.tolist() == WRITTEN
    (folder / "id_prop.csv").unlink()
    (tmp_path / "p.csv").write_text(f"name,gap\n{lines}")
    out = tmp_path / "o.parquet"
    import_crystals(
        ImportRequest(str(folder), out, tmp_path / "r.csv", properties=tmp_path / "p.csv")
    )
    crystals = load_crystals(str(out)).crystals
    found = dict(zip(crystals.material_ids, crystals.target("gap"), strict=True))
    assert found == {name: float(i) for i, name in enumerate(WRITTEN)}


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_an_empty_id_is_missing(tmp_path: Path, kind: str) -> None:
    table = cif_table(4)
    table["material_id"] = ["a", "", None, "  "]
    source = write(table, tmp_path, kind)
    loaded = load_crystals(source)
    assert loaded.crystals.material_ids.tolist() == ["a", "row-1", "row-2", "row-3"]
    note = "3 crystals without an id are called after their rows, such as row-1"
    assert loaded.source.notes == (note,)
    assert survey(source, target=None, on_rejected=print).source.notes == (note,)


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"id": ["x", "y", "z"]}, "column 'id'"),
        ({"mp_id": ["x", "y", "z"], "id": [1, 2, 3]}, "column 'mp_id'"),
        ({"id": [17, 4, 5]}, "column 'id'"),
        ({"ID": ["x", "y", "z"], "name": ["x", "y", "z"]}, "column 'ID'"),
        ({"name": ["x", "y", "y"], "entry_id": ["p", "q", "r"]}, "column 'entry_id'"),
        ({"": ["x", "y", "z"]}, "the first column, which has no name"),
    ],
)
def test_the_usual_names_of_ids(
    tmp_path: Path, columns: dict[str, list[object]], taken: str
) -> None:
    table = cif_table(3).drop(columns="material_id")
    table = pd.DataFrame({**columns, **table})
    loaded = load_crystals(write(table, tmp_path, "csv"))
    assert loaded.source.notes == (f"ids are those of {taken}",)
    wanted = next(cells for name, cells in columns.items() if not name or repr(name) in taken)
    assert loaded.crystals.material_ids.tolist() == list(map(str, wanted))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, ""),
        ({"id": [1.5, 2.5, 3.5]}, " ('id' holds no unique ids)"),
        ({"name": ["rutile", "rutile", "anatase"]}, " ('name' holds no unique ids)"),
        ({"name": [1, 2, 3]}, " ('name' holds no unique ids)"),
        ({"": [0, 1, 2]}, ""),
        ({"gap": [1, 2, 3]}, ""),
    ],
)
def test_row_numbers_serve_only_with_a_word(
    tmp_path: Path, columns: dict[str, list[object]], why: str
) -> None:
    table = cif_table(3).drop(columns="material_id").assign(**columns)
    table = pd.DataFrame({**columns, **table[["cif", "y"]]})
    for kind in ("csv", "json", "parquet"):
        loaded = load_crystals(write(table, tmp_path, kind))
        assert loaded.crystals.material_ids.tolist() == ["row-0", "row-1", "row-2"]
        (note,) = loaded.source.notes
        assert note == f"no column with ids{why}: crystals are called after their rows, row-0"


def test_material_id_comes_first_and_is_no_news(tmp_path: Path) -> None:
    table = cif_table(3).assign(id=["x", "y", "z"])
    loaded = load_crystals(write(table, tmp_path, "csv"))
    assert loaded.crystals.material_ids.tolist() == ["c-0", "c-1", "c-2"]
    assert loaded.source.notes == ()


def test_ids_in_the_index_of_pandas(tmp_path: Path) -> None:
    table = cif_table(3).set_index("material_id")
    for name in ("material_id", "mp_id", None):
        table.index.name = name
        table.to_parquet(tmp_path / "i.parquet")
        found = load_crystals(str(tmp_path / "i.parquet")).crystals
        assert found.material_ids.tolist() == ["c-0", "c-1", "c-2"]
        assert found.properties.columns.tolist() == ["y"]


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (pa.array([7.0, None, 8.0]), ["7", "row-1", "8"]),
        (pa.array([b"a", b"b", b"c"]), ["a", "b", "c"]),
        (pa.array(["a", "b", "c"]).dictionary_encode(), ["a", "b", "c"]),
        (pa.array([dt.date(2020, 1, d) for d in (1, 2, 3)]), None),
        (pa.array([dt.datetime(2020, 1, d) for d in (1, 2, 3)]), None),
        (pa.array([True, False, None]), ["True", "False", "row-2"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_ids_of_other_types(tmp_path: Path, cells: pa.Array, wanted: list[str] | None) -> None:
    table = pa.table({"material_id": cells, "cif": cif_table(3)["cif"].tolist()})
    pq.write_table(table, tmp_path / "t.parquet")
    found = load_crystals(str(tmp_path / "t.parquet")).crystals.material_ids.tolist()
    assert found == wanted if wanted else found[2].startswith("2020-01-03")


FORMS = {
    "semicolons": {"sep": ";"},
    "tabs": {"sep": "\t"},
    "decimal commas": {"sep": ";", "decimal": ","},
    "UTF-16": {"sep": "\t", "decimal": ",", "encoding": "utf-16"},
    "a byte order mark": {"encoding": "utf-8-sig"},
    "Latin-1": {"sep": ";", "encoding": "latin-1"},
}


@pytest.mark.parametrize("form", FORMS)
def test_csv_of_other_countries(tmp_path: Path, form: str) -> None:
    table = cif_table(3).assign(note=["é", "über", "1,5 oder 2"])
    table.loc[1, "y"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False, **FORMS[form])
    for crystals in every_reading(str(tmp_path / "t.csv"), tmp_path):
        assert crystals.material_ids.tolist() == ["c-0", "c-1", "c-2"]
        np.testing.assert_array_equal(crystals.target("y"), [1.0, np.nan, 2.0])
        assert crystals.properties["note"].tolist() == ["é", "über", "1,5 oder 2"]


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["1,5", "2", "-3,25e2"], [1.5, 2.0, -325.0]),
        (["1,5", "NaN", "n/a"], [1.5, np.nan, np.nan]),
        (["1,5", "n.d.", "2"], ["1.5", "n.d.", "2"]),
        (["1.234,5", "2", "3"], ["1.234,5", "2", "3"]),  # thousands: not guessed
        (["1,5", "2.5", "3"], ["1,5", "2.5", "3"]),  # two kinds of commas: not guessed
        (["True", "false", "NA"], [True, False, np.nan]),
        (["NaN", "NaCl", "None"], ["NaN", "NaCl", "None"]),  # words beside words
    ],
)
def test_cells_between_semicolons(tmp_path: Path, cells: list[str], wanted: list[object]) -> None:
    text = "".join(f"c-{i};{cell}\n" for i, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"material_id;y\n{text}")
    found = CsvFile.open(tmp_path / "t.csv").table()["y"]
    pd.testing.assert_series_equal(
        found.astype(object), pd.Series(wanted, dtype=object), check_names=False
    )


def test_commas_between_cells_are_no_decimal_ones(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('material_id,y\na,"1,5"\nb,"2,5"\n')
    assert CsvFile.open(tmp_path / "t.csv").table()["y"].tolist() == ["1,5", "2,5"]


@pytest.mark.parametrize(
    "lines",
    [
        "{}.cif,{}\n", "{};{}\n", "{}\t{}\n", "{} {}\n", "{}.CIF ; {}\n", "\ufeff{},{}\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("point", [".", ","])
@pytest.mark.parametrize("header", ["", "id{}target\n"])
def test_id_prop_as_people_write_it(tmp_path: Path, lines: str, point: str, header: str) -> None:
    separator = lines.lstrip("\ufeff").split("{}")[1].removeprefix(".cif").removeprefix(".CIF")
    if point == "," and separator == ",":
        point = "."
    folder = write_folder(tmp_path / "listed")
    bare = lines.lstrip("\ufeff")
    text = "".join(bare.format(f"{i:04}", f"{1.5 + i}".replace(".", point)) for i in range(6))
    start = "\ufeff" if lines.startswith("\ufeff") else ""
    (folder / "id_prop.csv").write_text(start + header.format(separator) + text, encoding="utf-8")
    crystals = load_crystals(str(folder), target="target").crystals
    assert crystals.material_ids.tolist() == [f"{i:04}" for i in range(6)]
    assert crystals.target("target").tolist() == [1.5 + i for i in range(6)]


def test_a_list_with_several_named_columns_gives_the_one_that_is_asked_for(tmp_path: Path) -> None:
    """The second column was called as the target, whatever its header said."""
    folder = write_folder(tmp_path / "listed", n=3)
    (folder / "id_prop.csv").write_text("id,K,G\n0000,1,10\n0001,2,20\n0002,3,30\n")
    assert load_crystals(str(folder), target="G").crystals.target("G").tolist() == [10, 20, 30]


def moduli(values: list[object], name: str = "G_VRH") -> pd.DataFrame:
    return cif_table(len(values)).drop(columns="y").assign(**{name: values})


@pytest.mark.parametrize("name", ["G_VRH", "G_VRH (GPa)"])
def test_a_logarithm_is_computed_from_what_is_there(tmp_path: Path, name: str) -> None:
    values = [10.0, 100.0, 1000.0, 0.0, -3.0, None, 5000.0]
    source = write(moduli(values, name), tmp_path, "csv")
    loaded = load_crystals(source, target="log10_G_VRH", max_rejected=0.9)
    assert loaded.crystals.target("log10_G_VRH").tolist() == [1.0, 2.0, 3.0]
    assert loaded.rejected["reason"].tolist() == [
        "target out of bounds: G_VRH is 0, which has no logarithm",
        "target out of bounds: G_VRH is -3, which has no logarithm",
        "target is missing: NaN or empty",
        "target out of bounds: 5000, but G_VRH lies between 0 and 2000 GPa",
    ]
    note = f"log10_G_VRH is computed from column '{name}' (GPa)"
    assert loaded.source.notes == (note,)
    found = survey(source, target="log10_G_VRH", on_rejected=print).source
    assert (found.notes, found.n_used) == ((note,), 3)


@pytest.mark.parametrize(
    ("target", "column"),
    [
        ("log10_K_VRH", "K_VRH"),
        ("log10_K_Voigt", "K_Voigt"),
        ("log10_bulk_modulus", "bulk_modulus"),
        ("log10_shear_modulus", "shear_modulus"),
    ],
)
def test_every_logarithm_is_computed(tmp_path: Path, target: str, column: str) -> None:
    source = write(moduli([10.0, 100.0], column), tmp_path, "json")
    assert load_crystals(source, target=target).crystals.target(target).tolist() == [1.0, 2.0]


def test_a_logarithm_that_is_there_is_taken(tmp_path: Path) -> None:
    table = moduli([10.0, 100.0]).assign(log10_G_VRH=[0.5, 0.6])
    loaded = load_crystals(write(table, tmp_path, "csv"), target="log10_G_VRH")
    assert loaded.crystals.target("log10_G_VRH").tolist() == [0.5, 0.6]
    assert loaded.source.notes == ()


def test_an_import_keeps_what_a_logarithm_is_computed_from(tmp_path: Path) -> None:
    source = write(moduli([10.0, 100.0]), tmp_path, "csv")
    request = ImportRequest(
        source, tmp_path / "o.parquet", tmp_path / "r.csv", target="log10_G_VRH"
    )
    with pytest.raises(DataError, match="no column 'log10_G_VRH', but 'G_VRH'; leave it out here"):
        import_crystals(request)


def with_unit(path: Path, name: str, unit: str, values: list[float]) -> str:
    table = pa.Table.from_pandas(moduli(values, name), preserve_index=False)
    index = table.schema.get_field_index(name)
    field = table.schema.field(index).with_metadata({"unit": unit})
    pq.write_table(table.cast(table.schema.set(index, field)), path / "u.parquet")
    return str(path / "u.parquet")


@pytest.mark.parametrize("target", ["K_VRH", "log10_K_VRH"])
def test_a_target_in_another_unit_is_refused(tmp_path: Path, target: str) -> None:
    """It was taken as GPa: the file's own word was not read but by an import."""
    message = r"column 'K_VRH.*' is in kbar, raymat keeps K_VRH in GPa; `raymat data import` with"
    for source in (
        with_unit(tmp_path, "K_VRH", "kbar", [100.0, 200.0]),
        write(moduli([100.0, 200.0], "K_VRH (kbar)"), tmp_path, "csv"),
    ):
        with pytest.raises(DataError, match=message):
            load_crystals(source, target=target)
        assert len(load_crystals(source).crystals) == 2


def test_the_unit_that_raymat_keeps_is_no_news(tmp_path: Path) -> None:
    source = with_unit(tmp_path, "K_VRH", "GPa", [100.0, 200.0])
    assert load_crystals(source, target="K_VRH").source.notes == ()


def test_a_unit_that_raymat_does_not_know_is_named(tmp_path: Path) -> None:
    source = with_unit(tmp_path, "hardness", "HV", [10.0, 20.0])
    assert load_crystals(source, target="hardness").source.notes == (
        "raymat knows no unit of 'hardness': its numbers are taken as they are (HV)",
    )


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("log10_g_vrh", "log10_G_VRH"),
        ("LOG10_G_VRH", "log10_G_VRH"),
        ("band_Gap", "band_gap"),
        ("log10_k_vhr", "log10_K_VRH"),
    ],
)
def test_another_case_is_the_closest_word(word: str, hint: str) -> None:
    known = ["log10_K_VRH", "log10_G_VRH", "band_gap", "K_VRH", "G_VRH"]
    assert did_you_mean(word, known) == f"; did you mean '{hint}'?"


def test_a_logarithm_that_could_be_computed_is_offered(tmp_path: Path) -> None:
    table = moduli([10.0, 100.0]).assign(log10_K_VRH=[1.0, 2.0])
    with pytest.raises(DataError, match="no column 'log10_g_vrh'; did you mean 'log10_G_VRH'"):
        load_crystals(write(table, tmp_path, "csv"), target="log10_g_vrh")


def arrays(**columns: object) -> pa.Table:
    """Give the standard columns of three crystals, some of them replaced or added."""
    cells = [rock_salt(5.0 + i) for i in range(3)]
    made = {
        "material_id": ["a", "b", "c"],
        "lattice": [s.lattice.matrix.ravel().tolist() for s in cells],
        "atomic_numbers": [list(s.atomic_numbers) for s in cells],
        "frac_coords": [s.frac_coords.ravel().tolist() for s in cells],
    }
    return pa.table({**made, **columns})


def duplicate_columns() -> pa.Table:
    table = arrays(y=[1.0, 2.0, 3.0])
    return table.append_column("y", pa.array([4.0, 5.0, 6.0]))


def foreign_index() -> pa.Table:
    table = arrays(y=[1.0, 2.0, 3.0])
    facts = {"index_columns": ["y"], "columns": [], "column_indexes": [], "pandas_version": "9"}
    return table.replace_schema_metadata({"pandas": json.dumps(facts)})


FINE = {
    "an index of pandas": foreign_index,
    "broken metadata of pandas": lambda: arrays(y=[1.0, 2.0, 3.0]).replace_schema_metadata(
        {"pandas": "{broken", "other": b"\xff\xfe"}
    ),
    "categories": lambda: arrays(y=pa.array([1.0, 2.0, 3.0]).dictionary_encode()),
    "decimals": lambda: arrays(y=pa.array([1, 2, 3]).cast(pa.decimal128(20, 0))),
    "views of lists": lambda: arrays(
        y=[1.0, 2.0, 3.0],
        atomic_numbers=pa.array([[11, 17]] * 3, pa.list_view(pa.int64())),
    ),
    "an extension type": lambda: arrays(
        y=[1.0, 2.0, 3.0],
        extra=pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 3, pa.binary(16))),
    ),
    "nested properties": lambda: arrays(
        y=[1.0, 2.0, 3.0], extra=pa.array([{"a": [1]}, None, {"a": []}])
    ),
    "maps": lambda: arrays(
        y=[1.0, 2.0, 3.0],
        extra=pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    ),
    "years beyond those of pandas": lambda: arrays(
        y=[1.0, 2.0, 3.0], extra=pa.array([2**40] * 3, pa.timestamp("s"))
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_parquet_of_other_programs(tmp_path: Path, name: str) -> None:
    pq.write_table(FINE[name](), tmp_path / "t.parquet", store_schema=True)
    loaded = load_crystals(str(tmp_path / "t.parquet"), target="y")
    assert loaded.crystals.material_ids.tolist() == ["a", "b", "c"]
    assert loaded.crystals.target("y").tolist() == [1.0, 2.0, 3.0]
    shards = list(iter_shards(str(tmp_path / "t.parquet"), size=2, target="y"))
    assert [len(shard.crystals) for shard in shards] == [2, 1]


REFUSED = {
    "two columns of a name": (duplicate_columns, "several columns are called 'y'"),
    "ids that are lists": (
        lambda: arrays(material_id=[["a"], ["b"], ["c"]]),
        "column 'material_id' holds list<.*>; ids are text or numbers",
    ),
    "a lattice of words": (lambda: arrays(lattice=["a", "b", "c"]), "must hold lists of numbers"),
    "a lattice of structs": (
        lambda: arrays(lattice=[{"a": 1.0}] * 3),
        "must hold lists of numbers",
    ),
    "a target of dates": (
        lambda: arrays(y=pa.array([dt.datetime(2020, 1, 1)] * 3)),
        "column 'y' holds text",
    ),
    "a target of lists": (lambda: arrays(y=[[1.0], [2.0], [3.0]]), "column 'y' holds text"),
    "a target of structs": (lambda: arrays(y=[{"a": 1.0}] * 3), "column 'y' holds text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parquet_that_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    pq.write_table(make(), tmp_path / "t.parquet")
    for read in (
        lambda source: load_crystals(source, target="y"),
        lambda source: list(iter_shards(source, target="y")),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read(str(tmp_path / "t.parquet"))
        assert "\n" not in str(caught.value)


def test_lists_of_wrong_lengths_are_rejected_rows(tmp_path: Path) -> None:
    table = arrays(atomic_numbers=[[11], [11, 17], None], lattice=[[1.0] * 9, [1.0] * 8, [0.0] * 9])
    pq.write_table(table, tmp_path / "t.parquet")
    (shard,) = iter_shards(str(tmp_path / "t.parquet"))
    assert shard.rejected["reason"].tolist() == [
        "unreadable structure: 1 atoms but 6 coordinates",
        "unreadable structure: lattice has 8 numbers, not 9",
        "unreadable structure: 0 atoms but 6 coordinates",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9" * 400, "target is infinite"),
        ("1e400", "target is infinite"),
        ("[" * 50_000 + "]" * 50_000, None),
        ('{"a": 1}', "target is not a number"),
        ("true", None),
    ],
)
def test_json_cells_that_are_no_numbers(tmp_path: Path, text: str, reason: str | None) -> None:
    records = json.loads(cif_table(3).to_json(orient="records"))
    lines = [json.dumps(record) for record in records]
    lines[1] = lines[1].replace(f'"y": {records[1]["y"]}', f'"y": {text}')
    assert text in lines[1]
    (tmp_path / "t.json").write_text(f"[{','.join(lines)}]")
    if text.startswith("["):
        with pytest.raises(DataError, match=r"t\.json: not a readable JSON file \(.*nested"):
            load_crystals(str(tmp_path / "t.json"), target="y")
        return
    loaded = load_crystals(str(tmp_path / "t.json"), target="y", max_rejected=0.5)
    if reason is None:
        assert loaded.crystals.target("y")[1] == 1.0
    else:
        assert [r.split(": ")[0] for r in loaded.rejected["reason"]] == [reason]


@pytest.mark.parametrize("digits", [310, 400])
def test_csv_cells_of_many_digits(tmp_path: Path, digits: int) -> None:
    folder = write_folder(tmp_path / "listed", n=2)
    (folder / "id_prop.csv").write_text(f"0000,{'9' * digits}\n0001,{'8' * digits}\n")
    cif_table(2).assign(y=["9" * digits] * 2).to_csv(tmp_path / "t.csv")
    for source in (folder, tmp_path / "t.csv"):
        with pytest.raises(DataError, match="target is infinite"):
            load_crystals(str(source), target="y")


@pytest.mark.parametrize("column", ["structure", "cif"])
def test_structures_nested_without_end_are_rejected_rows(tmp_path: Path, column: str) -> None:
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    table = pd.DataFrame({"material_id": ["a", "b"], column: [deep, cif_text(rock_salt())]})
    table.to_csv(tmp_path / "t.csv", index=False)
    loaded = load_crystals(str(tmp_path / "t.csv"), max_rejected=0.5)
    assert loaded.rejected["material_id"].tolist() == ["a"]
    assert loaded.rejected["reason"][0].startswith("unreadable ")


def test_halves_of_characters_can_be_written(tmp_path: Path) -> None:
    records = json.loads(cif_table(3).to_json(orient="records"))
    records[0]["material_id"], records[1]["formula"] = "a\ud800", "b\udfff"
    (tmp_path / "t.json").write_text(json.dumps(records))
    for crystals in every_reading(str(tmp_path / "t.json"), tmp_path):
        assert crystals.material_ids[0] == "a?"
        assert crystals.properties["formula"][1] == "b?"
        crystals.properties.to_parquet(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"material_id,y,y,cif\na,1,2,x\n", "several columns are called 'y'"),
        ("t.csv", b"material_id,cif\na,b,c\nd,e,f\n", "more cells than its header has names"),
        ("t.csv", b"material_id,cif\na,b\nc,d,e\n", "line 3 has 3 cells, those before it 2"),
        ("t.csv", b'material_id,cif\na,"b\nc,d\n', "a quotation mark is opened and never closed"),
        ("t.csv", b"PK\x03\x04\x00\x00", "it holds zero bytes, no text"),
        ("t.csv.gz", b"\x1f\x8b\x08\x00\x00", "its compressed bytes are damaged or end too early"),
        ("t.json.gz", b"\x1f\x8b\x08\x00\x00", "not a readable JSON file"),
        ("t.json", b'{"columns": ["a", "a"], "data": [[1, 2]]}', "several columns are called 'a'"),
        ("t.json", b'{"columns": 3, "data": [[1]]}', "do not fit"),
        ("t.json", b'{"columns": [["a"]], "index": 5, "data": [[1]]}', "no structure column"),
        ("t.json", b"[1, 2]", "expected a list of records"),
        ("t.json", b"9" * 5000, "not a readable JSON file"),
        ("t.json", b"\xff\xfe", "not a readable JSON file"),
    ],
)
def test_tables_that_are_refused_in_our_words(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (load_crystals, lambda source: list(iter_shards(source))):
        with pytest.raises(DataError, match=message) as caught:
            read(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_truncated_table_is_refused(tmp_path: Path) -> None:
    table = cif_table(50)
    for name in ("t.csv.gz", "t.json.gz"):
        if "csv" in name:
            table.to_csv(tmp_path / name, index=False)
        else:
            table.to_json(tmp_path / name, orient="records")
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"{name}: not a readable"):
            load_crystals(str(tmp_path / name))


def test_array_table_is_what_is_read(twelve_crystals: CrystalSet, tmp_path: Path) -> None:
    """The names of ids are tried for arrays, too."""
    table = array_table(twelve_crystals).rename(columns={"material_id": "entry_id"})
    source = write(table, tmp_path, "parquet")
    loaded = load_crystals(source)
    assert loaded.crystals.material_ids.tolist() == twelve_crystals.material_ids.tolist()
    assert loaded.source.notes == ("ids are those of column 'entry_id'",)
    assert loaded.crystals.properties.shape == (12, 0)
