"""Every format gives the same crystals, and says why where there is none."""

import gzip
import json
import sqlite3
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.data import atomic_numbers

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.files.formats import format_of
from raymat.data.files.texts import parse_text
from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.errors import DataError
from raymat.sources.files.importing import Imported, ImportRequest, import_crystals

SAME = 1e-6  # Å, and fractional: files hold eight digits


def run(source: Path | str, out: Path, **options: object) -> Imported:
    """Import in this process."""
    rejected = out.with_name(f"{out.stem}-rejected.csv")
    return import_crystals(ImportRequest(str(source), out, rejected, **options))  # type: ignore[arg-type]


def imported(source: Path | str, out: Path, **options: object) -> CrystalSet:
    run(source, out, **options)
    return load_crystals(str(out)).crystals


def to_atoms(crystal: Crystal) -> Atoms:
    return Atoms(
        numbers=crystal.atomic_numbers,
        cell=crystal.lattice,
        scaled_positions=crystal.frac_coords,
        pbc=True,
    )


def write_cif(crystal: Crystal, path: Path) -> None:
    crystal.to_structure().to(str(path))


def assert_same(found: CrystalSet, wanted: CrystalSet) -> None:
    """Compare by id, whatever the order."""
    assert sorted(found.material_ids) == sorted(wanted.material_ids)
    rows = {name: row for row, name in enumerate(wanted.material_ids)}
    for row, name in enumerate(found.material_ids):
        one, other = found[row], wanted[rows[name]]
        assert one.atomic_numbers.tolist() == other.atomic_numbers.tolist()
        np.testing.assert_allclose(one.lattice, other.lattice, atol=SAME)
        shifts = one.frac_coords - other.frac_coords
        np.testing.assert_allclose(shifts - np.round(shifts), 0.0, atol=SAME)


def test_nested_folder_of_several_formats(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep" / "SrTiO3").mkdir(parents=True)
    write_cif(tiny_crystals[0], folder / "NaCl.cif")
    tiny_crystals[1].to_structure().to(str(folder / "deep" / "Si.vasp"), fmt="poscar")
    (folder / "CsCl.json").write_text(tiny_crystals[2].to_structure().to_json())
    tiny_crystals[3].to_structure().to(str(folder / "deep" / "SrTiO3" / "POSCAR"), fmt="poscar")
    (folder / "README.md").write_text("crystals")
    (folder / ".hidden.cif").write_text("data_x")
    found = run(folder, tmp_path / "o.parquet")
    assert found.notes == ["1 other file passed over: README.md"]
    assert_same(load_crystals(str(tmp_path / "o.parquet")).crystals, tiny_crystals)


def test_extended_xyz_brings_ids_and_properties(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    frames = [to_atoms(tiny_crystals[row]) for row in range(4)]
    for row, atoms in enumerate(frames):
        atoms.info.update(material_id=tiny_crystals.material_ids[row], gap=0.5 * row, good=row > 1)
    ase.io.write(tmp_path / "all.extxyz", frames)
    found = imported(tmp_path / "all.extxyz", tmp_path / "o.parquet")
    assert_same(found, tiny_crystals)
    assert found.properties["gap"].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert found.properties["good"].tolist() == [False, False, True, True]


def test_frames_without_ids_are_numbered_from_0(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    ase.io.write(tmp_path / "run.xyz", [to_atoms(tiny_crystals[0])] * 3, format="extxyz")
    found = imported(tmp_path / "run.xyz", tmp_path / "o.parquet")
    assert found.material_ids.tolist() == ["run-0", "run-1", "run-2"]
    found = imported(tmp_path / "run.xyz", tmp_path / "p.parquet", ids="path")
    assert found.material_ids.tolist() == ["run.xyz#0", "run.xyz#1", "run.xyz#2"]


def test_compressed_file_and_one_longer_than_a_worker_is_given(
    tmp_path: Path, tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [to_atoms(tiny_crystals[row % 4]) for row in range(40)]
    ase.io.write(tmp_path / "run.xyz", frames, format="extxyz")
    whole = imported(tmp_path / "run.xyz", tmp_path / "o.parquet")
    (tmp_path / "run.xyz.gz").write_bytes(gzip.compress((tmp_path / "run.xyz").read_bytes()))
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", 1000)
    monkeypatch.setattr("raymat.data.files.documents._SECTION", 2000)
    for number, name in enumerate(("run.xyz", "run.xyz.gz")):
        assert_same(imported(tmp_path / name, tmp_path / f"{number}.parquet"), whole)


@pytest.mark.parametrize("whole", [1 << 20, 100])
def test_cif_of_many_blocks(
    tmp_path: Path, tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", whole)
    texts = ["# written by hand\ndata_global\n_publ_author_name 'nobody'\n"]
    for row in range(4):
        text = str(tiny_crystals[row].to_structure().to(fmt="cif"))
        head, body = text.split("data_", 1)
        texts.append(f"{head}data_{tiny_crystals.material_ids[row]}\n{body.split(chr(10), 1)[1]}")
    (tmp_path / "all.cif").write_text("".join(texts))
    assert_same(imported(tmp_path / "all.cif", tmp_path / "o.parquet"), tiny_crystals)


@pytest.mark.parametrize("whole", [1 << 20, 100])
def test_cif_with_a_block_of_remarks_is_called_after_its_file(
    tmp_path: Path, tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", whole)
    text = str(tiny_crystals[0].to_structure().to(fmt="cif"))
    (tmp_path / "mine.cif").write_text(f"data_global\n_publ_author_name 'nobody'\n{text}")
    found = imported(tmp_path / "mine.cif", tmp_path / "o.parquet")
    assert found.material_ids.tolist() == ["mine"]


@pytest.mark.parametrize("section", [1 << 20, 100])
@pytest.mark.parametrize("whole", [1 << 20, 100])
def test_file_of_one_structure_is_called_after_itself_however_long(
    tmp_path: Path,
    tiny_crystals: CrystalSet,
    monkeypatch: pytest.MonkeyPatch,
    whole: int,
    section: int,
) -> None:
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", whole)
    monkeypatch.setattr("raymat.data.files.documents._SECTION", section)
    folder = tmp_path / "s"
    folder.mkdir()
    write_cif(tiny_crystals[0], folder / "mine.cif")
    ase.io.write(folder / "frame.xyz", to_atoms(tiny_crystals[1]), format="extxyz")
    ase.io.write(folder / "two.xyz", [to_atoms(tiny_crystals[1])] * 2, format="extxyz")
    (folder / "words.xyz").write_text("no number of atoms\n" * 10)
    (folder / "remarks.cif").write_text("data_global\n_publ_author_name 'nobody'\n" * 10)
    found = run(folder, tmp_path / "o.parquet", max_rejected=1.0)
    ids = load_crystals(str(tmp_path / "o.parquet")).crystals.material_ids
    assert sorted(ids) == ["frame", "mine", "two-0", "two-1"]
    assert found.rejected["material_id"].tolist() == ["remarks", "words"]


def write_database(path: Path, crystals: CrystalSet) -> Path:
    with ase.db.connect(path, use_lock_file=False) as database:
        for row in range(len(crystals)):
            pairs = {"mp": f"mp-{row}", "gap": 0.25 * row, "note": "made"}
            database.write(to_atoms(crystals[row]), pairs)
    return path


@pytest.mark.parametrize("ending", ["db", "json"])
def test_ase_database(tmp_path: Path, tiny_crystals: CrystalSet, ending: str) -> None:
    path = write_database(tmp_path / f"a.{ending}", tiny_crystals)
    before = path.read_bytes()
    found = imported(path, tmp_path / "o.parquet", ids="mp")
    assert found.material_ids.tolist() == ["mp-0", "mp-1", "mp-2", "mp-3"]
    assert found.properties.columns.tolist() == ["gap", "note"]
    assert found.properties["gap"].tolist() == [0.0, 0.25, 0.5, 0.75]
    np.testing.assert_allclose(found[3].frac_coords, tiny_crystals[3].frac_coords, atol=SAME)
    rows = list(ase.db.connect(path, use_lock_file=False).select())
    unique = imported(path, tmp_path / "p.parquet")
    assert unique.material_ids.tolist() == [row.unique_id for row in rows]
    assert path.read_bytes() == before


def test_other_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE a (b)")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"not a readable ASE database \(no such table: systems\)"):
        run(path, tmp_path / "o.parquet")
    assert path.read_bytes() == before


def test_pymatgen_records_with_properties(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for row in range(4):
        structure = tiny_crystals[row].to_structure().as_dict()
        record = {"material_id": tiny_crystals.material_ids[row], "y": row, "structure": structure}
        (folder / f"r{row}.json").write_text(json.dumps(record))
    found = imported(folder, tmp_path / "o.parquet")
    assert_same(found, tiny_crystals)
    assert found.properties["y"].tolist() == [0, 1, 2, 3]


def test_single_pymatgen_file(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    (tmp_path / "NaCl.json").write_text(tiny_crystals[0].to_structure().to_json())
    found = imported(tmp_path / "NaCl.json", tmp_path / "o.parquet")
    assert_same(found, tiny_crystals.take(np.array([0])))


BROKEN = {
    "molecule.xyz": ("1\nwater\nO 0 0 0\n", "no cell: a molecule"),
    "slab.xyz": (
        '1\nLattice="4 0 0 0 4 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T F"\nCu 0 0 0\n',
        "not periodic: pbc is T T F",
    ),
    "short.xyz": ('3\nLattice="4 0 0 0 4 0 0 0 9"\nCu 0 0 0\n', "unreadable xyz: the file ends"),
    "words.xyz": ("two\n", "unreadable xyz: frame 0 begins with 'two'"),
    "dummy.xyz": ('1\nLattice="4 0 0 0 4 0 0 0 9"\nQq 0 0 0\n', "unreadable xyz: KeyError"),
    "wide.xyz": (
        '1\nLattice="4 0 0 0 4 0 0 0 9" Properties=species:S:1:pos:R:99999999999\nCu 0 0 0\n',
        "unreadable xyz: its Properties name more than 999 columns",
    ),
    "old.vasp": ("x\n1\n5 0 0\n0 5 0\n0 0 5\n1\nDirect\n0 0 0\n", "does not name its elements"),
    "many.vasp": (
        "x\n1\n5 0 0\n0 5 0\n0 0 5\nNa\n99999999999\nDirect\n0 0 0\n",
        "unreadable POSCAR: it counts more atoms than it has lines",
    ),
    "minus.vasp": (
        "x\n1\n5 0 0\n0 5 0\n0 0 5\nNa Cl\n1 -1\nDirect\n0 0 0\n",
        "unreadable file: StructureError",
    ),
    "cut.vasp": ("x\n1\n5 0 0\n", "unreadable POSCAR: "),
    "half.cif": ("data_x\n_cell_length_a 4\nloop_\n_atom_site_label\n", "unreadable CIF: "),
    "empty.cif": ("", "unreadable CIF: "),
    "list.json": ("[1]", "expected a pymatgen dictionary, not a int"),
    "none.json": ("{}", "unreadable structure: KeyError"),
    "deep.json": ('{"a":' + "[" * 100_000, "unreadable structure: RecursionError"),
    "bytes.cif": ("data_x\n\ufffd\udcff\n", "unreadable CIF: "),
}


def test_what_is_broken_is_listed_with_its_reason(
    tmp_path: Path, tiny_crystals: CrystalSet
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name, (text, _) in BROKEN.items():
        (folder / name).write_bytes(text.encode("utf-8", errors="surrogateescape"))
    write_cif(tiny_crystals[0], folder / "good.cif")
    (folder / "gone.cif").symlink_to(tmp_path / "nothing.cif")
    found = run(folder, tmp_path / "o.parquet", max_rejected=1.0)
    reasons = dict(zip(found.rejected["material_id"], found.rejected["reason"], strict=False))
    for name, (_, words) in BROKEN.items():
        assert words in reasons[Path(name).stem], name
    assert reasons["gone"] == "unreadable CIF: no file gone.cif"
    assert found.source.n_used == 1
    listed = pd.read_csv(tmp_path / "o-rejected.csv")
    assert listed["reason"].tolist() == found.rejected["reason"].tolist()


POSCAR = "c\n{scale}\n{edge} 0 0\n0 {edge} 0\n0 0 {edge}\n{names}\n{counts}\n{atoms}\n"
CUBE = {"scale": "1", "edge": "5", "names": "Na Cl", "counts": "1 1"}
DIRECT = "Direct\n0 0 0\n.5 .5 .5"
XYZ = '{n}\nLattice="5 0 0 0 5 0 0 0 5" {words}\n{atoms}\n'
PAIR = "Na 0 0 0\nCl 2.5 2.5 2.5"


def poscar(atoms: str = DIRECT, **changed: str) -> str:
    return POSCAR.format(**{**CUBE, **changed}, atoms=atoms)


# Text, and the elements of the crystal or the words of the refusal.
STATED = {
    "plain.vasp": (poscar(), "Na Cl"),
    "windows.vasp": (poscar().replace("\n", "\r\n"), "Na Cl"),
    "potcar.vasp": (poscar(names="Na_pv/3f7 Cl/a09"), "Na Cl"),
    "deuterium.vasp": (poscar(names="Na D"), "Na H"),
    "selective.vasp": (
        poscar("Selective\nDirect\n0 0 0 T T T\n.5 .5 .5 F F F\n\n0 0 0\n0 0 0"),
        "Na Cl",
    ),
    "volume.vasp": (poscar("Cartesian\n0 0 0\n.5 .5 .5", scale="-125", edge="1"), "Na Cl"),
    "names.vasp": (poscar(names="Na Cl K"), "contradicts itself: 3 elements are named, 2"),
    "counts.vasp": (poscar(counts="1 1 1"), "contradicts itself: 2 elements are named, 3"),
    "fewer.vasp": (poscar(counts="1 3"), "its counts sum to 4, fewer coordinates follow"),
    "more.vasp": (poscar(names="Na", counts="1"), "its counts sum to 1, more coordinates follow"),
    "order.vasp": (
        poscar("Direct\n0 0 0 Cl\n.5 .5 .5 Na"),
        "an atom counted as Na is called Cl in its line",
    ),
    "group.vasp": (poscar(names="Na OH"), "unknown element: 'OH' is no element"),
    "earth.vasp": (poscar(names="RE Cl"), "unknown element: 'RE' is no element"),
    "plain.xyz": (XYZ.format(n=2, words="", atoms=PAIR), "Na Cl"),
    "marked.xyz": ("\ufeff" + XYZ.format(n=2, words="", atoms=PAIR), "Na Cl"),
    "said.xyz": (XYZ.format(n=2, words="formula=ClNa nsites=2", atoms=PAIR), "Na Cl"),
    "deuterium.xyz": (XYZ.format(n=1, words="", atoms="D 0 0 0"), "H"),
    "more.xyz": (XYZ.format(n=1, words="", atoms=PAIR), "after the atoms that frame 0 counts"),
    "earth.xyz": (XYZ.format(n=1, words="", atoms="RE 0 0 0"), "unknown element: 'RE'"),
    "dummy.xyz": (XYZ.format(n=1, words="", atoms="X 0 0 0"), "unknown element: 'X'"),
    "number.xyz": (
        XYZ.format(n=1, words="Properties=species:S:1:pos:R:3:Z:I:1", atoms="Na 0 0 0 17"),
        "contradicts itself: an atom is 'Na' and has the number 17",
    ),
    "formula.xyz": (
        XYZ.format(n=2, words="formula=Na2Cl", atoms=PAIR),
        "the formula is 'Na2Cl', its sites are Cl1 Na1",
    ),
    "sites.xyz": (XYZ.format(n=2, words="nsites=4", atoms=PAIR), "the stated number of atoms is 4"),
}


@pytest.mark.parametrize("name", STATED)
def test_file_is_compared_with_what_it_states(name: str) -> None:
    text, expected = STATED[name]
    kind = format_of(name)
    assert kind is not None
    (found,) = parse_text(text.encode(), kind)
    if ": " in expected or isinstance(found.structure, str):
        assert isinstance(found.structure, str)
        assert expected in found.structure
        return
    wanted = sorted(atomic_numbers[symbol] for symbol in expected.split())
    assert sorted(found.structure.atomic_numbers) == wanted
    assert np.linalg.det(found.structure.lattice) == pytest.approx(125.0)
    assert np.abs(found.structure.frac_coords).max() in (0.0, pytest.approx(0.5))


def test_record_is_compared_with_its_structure(tiny_crystals: CrystalSet) -> None:
    structure = tiny_crystals[0].to_structure().as_dict()
    for beside, words in (
        ({"formula_pretty": "NaCl", "nsites": len(structure["sites"])}, ""),
        ({"formula_pretty": "KCl"}, "the formula is 'KCl', its sites are Cl"),
        ({"nsites": 7}, "the stated number of atoms is 7"),
    ):
        (found,) = parse_text(json.dumps({"structure": structure, **beside}).encode(), "json")
        assert words in found.structure if words else not isinstance(found.structure, str)


def test_row_of_a_database_is_compared_with_its_formula(
    tmp_path: Path, tiny_crystals: CrystalSet
) -> None:
    with ase.db.connect(tmp_path / "a.db", use_lock_file=False) as database:
        database.write(to_atoms(tiny_crystals[0]), {"pretty_formula": "NaCl"})
        database.write(to_atoms(tiny_crystals[1]), {"pretty_formula": "SiO2"})
    with pytest.raises(TooManyRejectedError, match=r"contradicts itself \(1\)"):
        run(tmp_path / "a.db", tmp_path / "o.parquet")


def test_long_cif_whose_text_cannot_be_cut_into_lines(
    tmp_path: Path, tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", 100)
    text = str(tiny_crystals[0].to_structure().to(fmt="cif"))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "wide.cif").write_text(text, encoding="utf-16")
    (tmp_path / "s" / "mac.cif").write_bytes(text.replace("\n", "\r").encode())
    note = "data_NaCl\n_note\n;\ndata_not\n_atom_site_fract_x\n;\n"
    (tmp_path / "s" / "note.cif").write_text(note + text[text.index("_symmetry") :])
    found = imported(tmp_path / "s", tmp_path / "o.parquet")
    assert found.material_ids.tolist() == ["mac", "note", "wide"]


def test_partial_occupancy_in_every_format_that_has_it(tmp_path: Path) -> None:
    from pymatgen.core import Lattice, Structure

    mixed = Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])
    folder = tmp_path / "mixed"
    folder.mkdir()
    mixed.to(str(folder / "a.cif"))
    (folder / "b.json").write_text(mixed.to_json())
    with pytest.raises(TooManyRejectedError, match=r"partial occupancy \(2\)"):
        run(folder, tmp_path / "o.parquet")


def test_equal_names_need_paths(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    for part in ("a", "b"):
        (tmp_path / "s" / part).mkdir(parents=True)
        write_cif(tiny_crystals[0], tmp_path / "s" / part / "x.cif")
    with pytest.raises(
        DataError, match=r"2 files would share .*'x'.*raymat data import --ids path` calls each"
    ):
        run(tmp_path / "s", tmp_path / "o.parquet")
    found = imported(tmp_path / "s", tmp_path / "o.parquet", ids="path")
    assert found.material_ids.tolist() == ["a/x.cif", "b/x.cif"]


def test_key_that_some_lack(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    frames = [to_atoms(tiny_crystals[row]) for row in range(4)]
    for atoms in frames[:3]:
        atoms.info["uid"] = f"u{len(atoms)}"
    ase.io.write(tmp_path / "f.xyz", frames, format="extxyz")
    found = run(tmp_path / "f.xyz", tmp_path / "o.parquet", ids="uid", max_rejected=0.5)
    assert "id is missing: no key 'uid'" in found.rejected["reason"].tolist()


def test_folder_without_crystals(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no files with crystals \(1 other file passed over"):
        run(tmp_path / "s", tmp_path / "o.parquet")


def test_list_that_lies_deeper(tmp_path: Path) -> None:
    (tmp_path / "s" / "d").mkdir(parents=True)
    (tmp_path / "s" / "d" / "id_prop.csv").write_text("a,1\n")
    (tmp_path / "s" / "d" / "a.cif").touch()
    with pytest.raises(DataError, match=r"d/id_prop.csv lies deeper than its folder; read"):
        run(tmp_path / "s", tmp_path / "o.parquet")
