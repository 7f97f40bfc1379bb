"""Whatever `raymat data import` reads, every command reads: one reader for every way in."""

import gzip
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ase import Atoms

from raymat.cli import main
from raymat.data.crystals import CrystalSet
from raymat.data.files import source as sources
from raymat.data.readers import load_crystals
from raymat.data.scaling import TargetScaling
from raymat.data.shards import iter_shards
from raymat.data.writers import write_crystals
from raymat.errors import DataError
from raymat.models import load_spec
from raymat.reports import site_figures
from raymat.training.model_files import TrainedModel, save_model

SAME = 1e-6  # Å, and fractional: files hold eight digits
LETTERS = "abcdefghijkl"  # of twelve crystals' ids


def to_atoms(crystals: CrystalSet, row: int) -> Atoms:
    crystal = crystals[row]
    return Atoms(
        numbers=crystal.atomic_numbers,
        cell=crystal.lattice,
        scaled_positions=crystal.frac_coords,
        pbc=True,
    )


def write_files(folder: Path, crystals: CrystalSet, ending: str = "cif") -> Path:
    folder.mkdir(parents=True)
    for row, name in enumerate(crystals.material_ids):
        fmt = "poscar" if ending == "vasp" else ending
        crystals[row].to_structure().to(str(folder / f"{name}.{ending}"), fmt=fmt)
    return folder


def folder(path: Path, crystals: CrystalSet) -> Path:
    return write_files(path / "cifs", crystals)


def nested(path: Path, crystals: CrystalSet) -> Path:
    for row, name in enumerate(crystals.material_ids):
        (path / "vasp" / name).mkdir(parents=True)
        poscar = path / "vasp" / name / "POSCAR"
        crystals[row].to_structure().to(str(poscar), fmt="poscar")
    return path / "vasp"


def listed(path: Path, crystals: CrystalSet) -> Path:
    made = write_files(path / "listed", crystals)
    lines = [
        f"{name}.cif;{str(y).replace('.', ',')}\n"
        for name, y in zip(crystals.material_ids, crystals.target("y"), strict=True)
    ]
    (made / "id_prop.csv").write_text("\ufeff" + "".join(lines), encoding="utf-8")
    return made


def one_cif(path: Path, crystals: CrystalSet) -> Path:
    texts = []
    for row, name in enumerate(crystals.material_ids):
        text = str(crystals[row].to_structure().to(fmt="cif"))
        texts.append(f"data_{name}\n" + text.split("\n", 2)[2])
    (path / "all.cif").write_text("\n".join(texts))
    return path / "all.cif"


def extxyz(path: Path, crystals: CrystalSet) -> Path:
    frames = [to_atoms(crystals, row) for row in range(len(crystals))]
    for row, atoms in enumerate(frames):
        atoms.info = {
            "material_id": crystals.material_ids[row],
            "y": crystals.target("y")[row],
        }
    ase.io.write(path / "all.extxyz", frames)
    return path / "all.extxyz"


def database(path: Path, crystals: CrystalSet, name: str = "all.db") -> Path:
    with ase.db.connect(path / name) as made:
        for row, crystal_id in enumerate(crystals.material_ids):
            facts = {"material_id": crystal_id, "y": float(crystals.target("y")[row])}
            made.write(to_atoms(crystals, row), key_value_pairs=facts)
    return path / name


def zipped(path: Path, crystals: CrystalSet) -> Path:
    made = write_files(path / "files", crystals, "vasp")
    with zipfile.ZipFile(path / "all.zip", "w") as archive:
        for file in sorted(made.iterdir()):
            archive.write(file, file.name)
    return path / "all.zip"


def tarred(path: Path, crystals: CrystalSet) -> Path:
    made = listed(path, crystals)
    with tarfile.open(path / "all.tar.gz", "w:gz") as archive:
        archive.add(made, "crystals")
    return path / "all.tar.gz"


def frame(crystals: CrystalSet, column: str) -> pd.DataFrame:
    structures = [crystals[row].to_structure() for row in range(len(crystals))]
    cells = [s.as_dict() if column == "structure" else str(s.to(fmt="cif")) for s in structures]
    return pd.DataFrame({"mp_id": crystals.material_ids, column: cells, "y": crystals.target("y")})


def european_csv(path: Path, crystals: CrystalSet) -> Path:
    made = frame(crystals, "cif")
    made.to_csv(path / "t.csv", sep=";", decimal=",", index=False, encoding="utf-16")
    return path / "t.csv"


def packed_json(path: Path, crystals: CrystalSet) -> Path:
    records = frame(crystals, "structure").to_dict("records")
    (path / "t.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    return path / "t.json.gz"


def arrays(path: Path, crystals: CrystalSet) -> Path:
    write_crystals(crystals, path / "t.parquet")
    return path / "t.parquet"


Make = Callable[[Path, CrystalSet], Path]
WITHOUT_TARGET: tuple[Make, ...] = (folder, nested, one_cif, zipped)
WITH_TARGET: tuple[Make, ...] = (
    listed, tarred, extxyz, database, european_csv, packed_json, arrays,
)  # fmt: skip
KINDS = (*WITHOUT_TARGET, *WITH_TARGET)


@pytest.fixture(autouse=True)
def _own_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site_figures, "save_site_figures", lambda *_: [])


@pytest.fixture
def crystals(twelve_crystals: CrystalSet) -> CrystalSet:
    """The twelve crystals, called in the order of their names."""
    ids = np.array(
        [f"{c}-{old}" for c, old in zip(LETTERS, twelve_crystals.material_ids, strict=True)]
    )
    made = twelve_crystals
    return CrystalSet(
        ids.astype(object), made.lattices, made.offsets, made.atomic_numbers, made.frac_coords,
        made.properties[["y"]],
    )  # fmt: skip


def assert_same(found: CrystalSet, wanted: CrystalSet) -> None:
    assert found.material_ids.tolist() == wanted.material_ids.tolist()
    for row in range(len(wanted)):
        one, other = found[row], wanted[row]
        assert one.atomic_numbers.tolist() == other.atomic_numbers.tolist()
        np.testing.assert_allclose(one.lattice, other.lattice, atol=SAME)
        shifts = one.frac_coords - other.frac_coords
        np.testing.assert_allclose(shifts - np.round(shifts), 0.0, atol=SAME)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_loading_and_screening_read_what_import_reads(
    make: Make, tmp_path: Path, crystals: CrystalSet
) -> None:
    source = str(make(tmp_path, crystals))
    target = "y" if make in WITH_TARGET else None
    loaded = load_crystals(source, target=target)
    assert_same(loaded.crystals, crystals)
    if target is not None:
        np.testing.assert_allclose(loaded.crystals.target("y"), crystals.target("y"), rtol=1e-6)
    shards = list(iter_shards(source, size=5))
    assert [len(shard.crystals) for shard in shards] == [5, 5, 2]
    assert [i for s in shards for i in s.crystals.material_ids] == crystals.material_ids.tolist()
    assert main.run(["data", "import", source, "-o", "o.parquet", "--workers", "1"]) == 0
    assert_same(load_crystals("o.parquet").crystals, crystals)


def save(path: Path) -> None:
    spec = load_spec("cgcnn")
    config = spec.config(readout="linear", atom_dim=8, n_conv=1)
    torch.manual_seed(0)
    model = TrainedModel(
        name="cgcnn",
        config=config,
        network=spec.build(config, "regression").eval(),
        target="y",
        unit="eV",
        task="regression",
        scaling=TargetScaling(),
        threshold=None,
        elements=(8, 11, 14, 17, 22, 38, 55),
        training={},
    )
    save_model(model, path)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_every_command_reads_it(
    make: Make, tmp_path: Path, crystals: CrystalSet, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(make(tmp_path, crystals))
    save(tmp_path / "model")
    commands = [
        ["predict", source, "--model", "model", "-o", "p.csv"],
        ["contributions", source, "--model", "model", "-o", "run"],
        ["data", "check", source],
        ["data", "describe", source],
        ["data", "duplicates", source],
    ]
    if make is folder:  # it starts processes, which takes seconds
        commands.append(["data", "cache", "build", source, "--model", "cgcnn"])
    for command in commands:
        assert main.run(command) == 0, command
        said = capsys.readouterr()
        is_named = make in (european_csv, packed_json)
        assert ("ids are those of column 'mp_id'" in said.err) is is_named, command
    assert pd.read_csv("p.csv")["material_id"].tolist() == crystals.material_ids.tolist()
    header = json.loads(Path("run/run.json").read_text())
    assert header["data"]["n_used"] == 12
    assert len(header["data"]["notes"]) == is_named


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_training_reads_it_or_says_where_targets_go(
    make: Make, tmp_path: Path, crystals: CrystalSet, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {
        "model": "cgcnn",
        "config": {"model.atom_dim": 4, "model.n_conv": 1, "training.epochs": 1},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
    }
    Path("c.yaml").write_text(yaml.safe_dump(content))
    command = ["train", "--config", "c.yaml", "--target", "y", "--out", "run", "--quiet"]
    code = main.run([*command, "--data", str(make(tmp_path, crystals))])
    if make in WITH_TARGET:
        assert code == 0
    else:
        assert code == 2
        assert "no column 'y'; the source holds structures only" in capsys.readouterr().err


def test_rows_that_cannot_be_used_keep_their_names(tmp_path: Path, crystals: CrystalSet) -> None:
    """As an import names them: by the stem of their file."""
    made = folder(tmp_path, crystals)
    (made / "b-worse.cif").write_text("data_x\nloop_\n_atom_site_label\n")
    (made / "notes.txt").write_text("not a crystal")
    loaded = load_crystals(str(made), max_rejected=0.5)
    assert loaded.rejected["material_id"].tolist() == ["b-worse"]
    assert loaded.source.notes == ("1 other file passed over: notes.txt",)
    assert main.run(["data", "import", str(made), "-o", "o.parquet", "--max-rejected", "0.5"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("o-rejected.csv"), loaded.rejected, check_dtype=False)


def test_a_cif_of_several_structures_in_a_list_is_refused(
    tmp_path: Path, crystals: CrystalSet
) -> None:
    """The first one was taken, and the others were lost."""
    made = listed(tmp_path, crystals)
    name = crystals.material_ids[0]
    one_cif(tmp_path, crystals).rename(made / f"{name}.cif")
    loaded = load_crystals(str(made), max_rejected=0.5)
    assert loaded.rejected["material_id"].tolist() == [name]
    assert loaded.rejected["reason"][0].startswith("several structures: ")


def test_a_large_source_comes_with_the_advice_to_import(
    tmp_path: Path, crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = str(folder(tmp_path, crystals))
    monkeypatch.setattr(sources, "MANY", 11)
    (note,) = load_crystals(made).source.notes
    assert note == (
        "12 crystals are parsed at every call; `raymat data import"
        f" {made} -o FILE.parquet` parses them once, on all cores"
    )
    monkeypatch.setattr(sources, "MOST", 11)
    with pytest.raises(DataError, match=r"cifs: more than 11 crystals; `raymat data import"):
        load_crystals(made)
    assert load_crystals(str(arrays(tmp_path, crystals))).source.notes == ()
