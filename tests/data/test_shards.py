from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import array_table, cif_table, cif_text, rock_salt, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.facts import DataSource
from raymat.data.files import tables
from raymat.data.readers import load_crystals
from raymat.data.shards import Shard, iter_shards, open_shards
from raymat.data.structure_parser import parse_cif
from raymat.errors import DataError

DUPLICATE = "duplicate id: an earlier row has this material_id"


def cubes(ids: Collection[str | None], bad: Collection[int] = ()) -> pd.DataFrame:
    """Give one cube a row with its number as a property; `bad` rows hold NaN coordinates."""
    crystals = [
        Crystal("x", np.eye(3) * (3.0 + 0.01 * i), np.array([3, 9], np.uint8), np.zeros((2, 3)))
        for i in range(len(ids))
    ]
    for i, crystal in enumerate(crystals):
        crystal.frac_coords[1] = np.nan if i in bad else 0.5
    table = array_table(CrystalSet.from_crystals(crystals))
    return table.assign(material_id=list(ids), number=np.arange(len(ids)))


def write_parquet(table: pd.DataFrame, path: Path, row_group: int | None = None) -> str:
    columns = {name: pa.array(table[name].tolist(), from_pandas=True) for name in table}
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    return str(path)


def ids_of(shards: Collection[Shard]) -> list[list[str]]:
    return [shard.crystals.material_ids.tolist() for shard in shards]


def rejected_of(shards: Collection[Shard]) -> list[tuple[str, str]]:
    tables = [shard.rejected for shard in shards]
    return [(m, r) for t in tables for m, r in zip(t["material_id"], t["reason"], strict=True)]


def assert_equals_whole(source: str, size: int) -> None:
    """Compare shards, one behind the other, with the source loaded at once."""
    whole = load_crystals(source, max_rejected=1.0)
    shards = list(iter_shards(source, size=size))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.n_rows for shard in shards[:-1]] == [size] * (len(shards) - 1)
    kept = [material_id for ids in ids_of(shards) for material_id in ids]
    assert kept == whole.crystals.material_ids.tolist()
    for name in ("lattices", "n_sites", "atomic_numbers", "frac_coords"):
        joined = np.concatenate([getattr(shard.crystals, name) for shard in shards])
        np.testing.assert_array_equal(joined, getattr(whole.crystals, name), err_msg=name)
    properties = pd.concat([shard.crystals.properties for shard in shards], ignore_index=True)
    pd.testing.assert_frame_equal(properties, whole.crystals.properties)
    expected = whole.rejected
    assert rejected_of(shards) == list(
        zip(expected["material_id"], expected["reason"], strict=True)
    )
    facts = open_shards(source).facts
    assert facts.counted(len(rejected_of(shards))) == whole.source


@pytest.mark.parametrize("row_group", [3, 7, 100])
def test_parquet_shards_do_not_depend_on_row_groups(tmp_path: Path, row_group: int) -> None:
    ids = [f"m-{i}" for i in range(23)]
    source = write_parquet(cubes(ids, bad=[4]), tmp_path / "c.parquet", row_group)
    shards = list(iter_shards(source, size=5))
    assert ids_of(shards) == [ids[:4], *[ids[k : k + 5] for k in (5, 10, 15, 20)]]
    assert shards[1].crystals.properties["number"].tolist() == [5, 6, 7, 8, 9]
    assert_equals_whole(source, 5)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_every_kind_of_source_equals_its_whole(tmp_path: Path, size: int) -> None:
    table = cif_table(9)
    table.loc[3, "cif"] = "broken"
    table.loc[[6, 7], "material_id"] = [None, "c-1"]
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_json(tmp_path / "t.json", orient="records")
    table.to_parquet(tmp_path / "t.parquet")
    folder = write_folder(tmp_path / "listed")
    (folder / "0002.cif").unlink()
    for source in ("t.csv", "t.csv.gz", "t.json", "t.parquet", "listed"):
        assert_equals_whole(str(tmp_path / source), size)


def test_a_built_in_set() -> None:
    assert open_shards("delta").facts.n_rows == 71
    assert_equals_whole("delta", 30)


def test_rows_without_an_id_are_called_after_their_row_in_the_source(tmp_path: Path) -> None:
    named = cubes(["a", None, "row-0", None])
    for table, expected in (
        (named, [["a", "row-1"], ["row-0", "row-3"]]),
        (named.drop(columns="material_id"), [["row-0", "row-1"], ["row-2", "row-3"]]),
    ):
        source = write_parquet(table, tmp_path / "n.parquet")
        assert ids_of(list(iter_shards(source, size=2))) == expected
        assert ids_of(list(iter_shards(source, size=2, skip=[0]))) == expected[1:]


def test_whole_number_ids_are_the_same_beside_a_gap(tmp_path: Path) -> None:
    numbers = pd.Series([7, 8, None, 7], dtype=object)
    source = write_parquet(cubes(["x"] * 4).assign(material_id=numbers), tmp_path / "i.parquet")
    assert pq.read_schema(source).field("material_id").type == pa.int64()
    shards = list(iter_shards(source, size=2))
    assert ids_of(shards) == [["7", "8"], ["row-2"]]
    assert rejected_of(shards) == [("7", DUPLICATE)]
    assert_equals_whole(source, 2)


def test_pandas_index_is_no_property(tmp_path: Path) -> None:
    table = cubes(["a", "b", "c"])
    table.index = pd.Index([5, 6, 7])
    table.to_parquet(tmp_path / "x.parquet")
    for shard in iter_shards(str(tmp_path / "x.parquet"), size=2):
        assert shard.crystals.properties.columns.tolist() == ["number"]


def test_an_id_is_met_again_in_a_later_shard(tmp_path: Path) -> None:
    ids = ["a", "b", "c", "a", "d", "b", "b"]
    source = write_parquet(cubes(ids, bad=[1]), tmp_path / "d.parquet")
    shards = list(iter_shards(source, size=2))
    # the first *usable* row of b is row 5
    assert ids_of(shards) == [["a"], ["c"], ["d", "b"], []]
    assert rejected_of(shards)[1:] == [("a", DUPLICATE), ("b", DUPLICATE)]
    assert_equals_whole(source, 2)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=14),
    bad=st.sets(st.integers(0, 13)),
    size=st.integers(1, 5),
    skip=st.sets(st.integers(0, 14)),
)
def test_skipping_changes_no_other_shard(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    bad: set[int],
    size: int,
    skip: set[int],
) -> None:
    path = tmp_path_factory.mktemp("skip") / "s.parquet"
    source = write_parquet(cubes(names, bad=bad), path, row_group=4)
    expected = [shard for shard in iter_shards(source, size=size) if shard.number not in skip]
    resumed = list(iter_shards(source, size=size, skip=skip))
    assert [shard.number for shard in resumed] == [shard.number for shard in expected]
    assert ids_of(resumed) == ids_of(expected)
    assert rejected_of(resumed) == rejected_of(expected)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first row of everything that is parsed."""
    rows: list[int] = []

    def watch(original: Callable[..., object]) -> Callable[..., object]:
        def watched(*args: object, first_row: int = 0, **options: object) -> object:
            rows.append(first_row)
            return original(*args, first_row=first_row, **options)

        return watched

    for name in ("read_table", "read_structure_table"):
        monkeypatch.setattr(tables, name, watch(getattr(tables, name)))
    return rows


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_skipped_shards_are_not_parsed(tmp_path: Path, parsed: list[int], ending: str) -> None:
    table = cif_table(10)
    path = tmp_path / f"t.{ending}"
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path, index=False)
    shards = iter_shards(str(path), size=2, skip={0, 1, 3})
    parsed.clear()  # the look at the columns
    assert [shard.number for shard in shards] == [2, 4]
    assert parsed == [4, 8]
    assert list(iter_shards(str(path), size=2, skip=range(5))) == []
    assert open_shards(str(path)).facts.n_rows == 10
    assert set(parsed[2:]) == {0}


def test_a_skipped_shard_is_read_where_it_decides_on_a_duplicate(
    tmp_path: Path, parsed: list[int]
) -> None:
    ids = ["a", "b", "c", "d", "a", "e"]
    source = write_parquet(cubes(ids), tmp_path / "t.parquet")
    shards = iter_shards(source, size=2, skip={0, 1})
    parsed.clear()
    assert rejected_of(list(shards)) == [("a", DUPLICATE)]
    assert parsed == [0, 4]


def test_a_shard_without_a_usable_row_is_empty(tmp_path: Path) -> None:
    source = write_parquet(cubes(["a", "b", "c", "d"], bad=[2, 3]), tmp_path / "b.parquet")
    empty = list(iter_shards(source, size=2))[1]
    assert (len(empty.crystals), len(empty.rejected), empty.n_rows) == (0, 2, 2)
    assert empty.crystals.properties.columns.tolist() == ["number"]
    assert empty.rejected["reason"][0].startswith("not finite: ")


def test_all_rows_bad_is_no_error_here(tmp_path: Path) -> None:
    source = write_parquet(cubes(["a", "b", "c"], bad=[0, 1, 2]), tmp_path / "b.parquet")
    assert [len(shard.rejected) for shard in iter_shards(source, size=2)] == [2, 1]


def write_plain(folder: Path) -> Path:
    folder.mkdir()
    for name in ("b.cif", "a.cif", "C.CIF"):
        (folder / name).write_text(cif_text(rock_salt(5.0 + 0.1 * ord(name[0]))))
    (folder / "bad.cif").write_text("no")
    (folder / ".hidden.cif").write_text("no")
    (folder / "notes.txt").write_text("no")
    (folder / "sub.cif").mkdir()
    return folder


def test_a_plain_folder_of_cif_files(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain")
    assert open_shards(str(folder)).facts.n_rows == 4
    shards = list(iter_shards(str(folder), size=2))
    assert ids_of(shards) == [["C", "a"], ["b"]]
    assert rejected_of(shards)[0][0] == "bad"
    assert rejected_of(shards)[0][1].startswith("unreadable CIF: ")
    assert shards[0].crystals.properties.shape == (2, 0)
    expected = parse_cif((folder / "a.cif").read_text())
    assert not isinstance(expected, str)
    np.testing.assert_array_equal(shards[0].crystals[1].lattice, expected.lattice)


def test_hash_of_a_plain_folder_follows_names_and_contents(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain")
    facts = open_shards(str(folder)).facts
    assert (facts.name, facts.path, facts.n_rows) == ("plain", str(folder), 4)
    seen = {facts.sha256}
    (folder / "notes.txt").write_text("changed")
    assert open_shards(str(folder)).facts.sha256 in seen
    (folder / "bad.cif").write_text("yes")
    seen.add(open_shards(str(folder)).facts.sha256)
    (folder / "bad.cif").rename(folder / "worse.cif")
    seen.add(open_shards(str(folder)).facts.sha256)
    assert len(seen) == 3


def test_files_of_a_folder_are_opened_when_their_shard_is_due(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "listed", n=6)
    shards = iter_shards(str(folder), size=2)
    assert next(shards).crystals.target("target").tolist() == [1.5, 2.5]
    (folder / "0003.cif").unlink()
    assert rejected_of([next(shards)]) == [("0003", "unreadable CIF: no file 0003.cif")]


def test_a_listing_with_a_header(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "listed")
    listing = folder / "id_prop.csv"
    listing.write_text("id,band_gap\n" + listing.read_text())
    assert_equals_whole(str(folder), 3)
    shards = list(iter_shards(str(folder), size=3))
    assert shards[0].crystals.target("band_gap").tolist() == [1.5, 2.5, 3.5]


def test_facts_become_a_data_source(tmp_path: Path) -> None:
    source = write_parquet(cubes(["a", "b", "c"]), tmp_path / "f.parquet")
    counted = open_shards(source).facts.counted(1)
    assert counted == DataSource(
        name="f", path=source, sha256=counted.sha256, n_rows=3, n_used=2, n_rejected=1
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, "no such file or folder, and no built-in data set"),
        ("empty.parquet", b"", "the file is empty"),
        ("bad.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("crystals.doc", b"2", r"cannot tell what '\.doc' is"),
        ("header.csv", b"material_id,cif\n", r"the source is empty \(no rows\)"),
        ("plain.csv", b"material_id,y\nA,1\n", "no structure column; expected 'cif'"),
        ("odd.json", b'{"a": 1}', "expected a list of records"),
    ],
)
def test_unusable_sources_are_refused_at_once(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for function in (open_shards, iter_shards):
        with pytest.raises(DataError, match=message) as caught:
            function(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_parquet_that_holds_no_structures_or_no_rows_is_refused_at_once(tmp_path: Path) -> None:
    table = cubes(["a", "b"])
    plain = write_parquet(table[["material_id", "number"]], tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"p\.parquet: no structure column; expected 'cif'"):
        iter_shards(plain)
    words = write_parquet(table.assign(atomic_numbers=[["Li"], ["F"]]), tmp_path / "w.parquet")
    with pytest.raises(DataError, match=r"must hold lists of numbers, found list<.*string>"):
        iter_shards(words)
    good = write_parquet(table, tmp_path / "g.parquet")
    pq.write_table(pq.read_table(good).slice(0, 0), tmp_path / "z.parquet")
    with pytest.raises(DataError, match=r"z\.parquet: the source is empty \(no rows\)"):
        iter_shards(str(tmp_path / "z.parquet"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no files with crystals \(it is empty\)"):
        iter_shards(str(tmp_path))


def damage(path: Path, row_group: int, column: int) -> None:
    """Overwrite the pages of one column in one row group."""
    chunk = pq.ParquetFile(path).metadata.row_group(row_group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def test_damage_in_the_middle_names_file_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    source = write_parquet(cubes([f"m-{i}" for i in range(30)]), path, row_group=10)
    damage(path, row_group=1, column=1)
    shards = iter_shards(source, size=10)
    assert next(shards).n_rows == 10
    message = r"d\.parquet: rows 10 to 19 of 30 cannot be read \(.+\); the file is damaged"
    with pytest.raises(DataError, match=message) as caught:
        next(shards)
    assert "\n" not in str(caught.value)


def test_damaged_ids_are_found_before_the_first_shard(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    source = write_parquet(cubes([f"m-{i}" for i in range(30)]), path, row_group=10)
    damage(path, row_group=2, column=0)
    with pytest.raises(DataError, match=r"d\.parquet: rows \d+ to 29 of 30 cannot be read"):
        iter_shards(source, size=10)


def test_text_that_is_no_utf8_names_its_rows(tmp_path: Path) -> None:
    table = pq.read_table(write_parquet(cubes(["a", "b", "c"]), tmp_path / "u.parquet"))
    text = pa.array([b"fine", b"\xff\xfe", b"fine"]).view(pa.string())
    pq.write_table(table.append_column("formula", text), tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"rows 0 to 2 of 3 cannot be read \(.*UTF8.*\)"):
        list(iter_shards(str(tmp_path / "u.parquet"), size=3))


def test_a_cut_off_parquet_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    source = write_parquet(cubes([f"m-{i}" for i in range(30)]), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file"):
        iter_shards(source)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """One row group of 10,000 rows with 2 kB of text each: 20 MB, of which little is held."""
    rng = np.random.default_rng(0)
    row = cubes(["x"])
    n, text = 10_000, 2_000
    columns = {name: row[name].tolist() * n for name in row}
    columns["material_id"] = [f"m-{i}" for i in range(n)]
    columns["note"] = [rng.bytes(text // 2).hex() for _ in range(n)]
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    del columns
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in iter_shards(str(path), size=200)]
    assert len(held) == 50
    assert max(held) < 10e6  # two shards are 1 MB, a page of a column is another


@pytest.mark.data
def test_lithium_candidates_in_shards_equal_the_whole(shared: Path) -> None:
    source = str(shared / "data" / "li_sample.parquet")
    assert open_shards(source).facts.n_rows == 300
    assert_equals_whole(source, 128)
