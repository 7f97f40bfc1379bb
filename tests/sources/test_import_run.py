"""Imports as users start them: several processes, killed and begun again, refused."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from conftest import make_crystal

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.files.split import TEXT_LIMIT
from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.data.writers import write_crystals
from raymat.errors import DataError, RunError
from raymat.sources.files.importing import Imported, ImportRequest, import_crystals
from raymat.sources.files.parts import open_parts
from raymat.sources.partial_folder import partial_folder

N_FILES = 1300  # three chunks


def run(source: Path | str, out: Path, **options: object) -> Imported:
    """Import in this process, or with workers."""
    rejected = out.with_name(f"{out.stem}-rejected.csv")
    return import_crystals(ImportRequest(str(source), out, rejected, **options))  # type: ignore[arg-type]


def to_atoms(crystal: Crystal) -> Atoms:
    places = crystal.frac_coords
    return Atoms(crystal.atomic_numbers, scaled_positions=places, cell=crystal.lattice, pbc=True)


def write_list(folder: Path, crystals: CrystalSet, *, broken: int) -> Path:
    """Write the CGCNN layout, some of it broken."""
    folder.mkdir()
    lines = []
    for row, name in enumerate(crystals.material_ids):
        crystals[row].to_structure().to(str(folder / f"{name}.cif"))
        lines.append(f"{name},{row / 2}\n")
    (folder / f"{crystals.material_ids[broken]}.cif").write_text("data_x\n")
    (folder / "id_prop.csv").write_text("".join([*lines, "gone,1.0\n", lines[0]]))
    return folder


def tables(folder: Path, crystals: CrystalSet) -> list[str]:
    """Write what `--data` takes; each holds rows that cannot be used."""
    frame = pd.DataFrame(
        {
            "material_id": [*crystals.material_ids[:-1], crystals.material_ids[0]],
            "cif": [str(crystals[r].to_structure().to(fmt="cif")) for r in range(len(crystals))],
            "y": [1.0, None, *range(len(crystals) - 2)],
            "words": ["a", None, *"b" * (len(crystals) - 2)],
            "notes": [f"note {row}" for row in range(len(crystals))],
            "is_good": [True, None, *[False] * (len(crystals) - 2)],
        }
    )
    frame.loc[4, "cif"] = "data_x"
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_json(folder / "t.json.gz", orient="records")
    frame.to_parquet(folder / "t.parquet")
    write_crystals(crystals, folder / "arrays.parquet")
    names = [str(folder / name) for name in ("t.csv", "t.json.gz", "t.parquet", "arrays.parquet")]
    return [*names, str(write_list(folder / "listed", crystals, broken=3)), "delta"]


def test_imports_what_load_crystals_loads(
    tmp_path: Path, twelve_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, reasons, hash and columns, whatever the chunks."""
    for size in (500, 5):
        for module in ("chunks", "source", "tables"):
            monkeypatch.setattr(f"raymat.data.files.{module}.SIZE", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        for number, source in enumerate(tables(folder, twelve_crystals)):
            out = folder / f"o{number}.parquet"
            found = run(source, out, max_rejected=1.0)
            wanted = load_crystals(source, max_rejected=1.0)
            assert found.source == wanted.source
            pd.testing.assert_frame_equal(found.rejected, wanted.rejected, check_dtype=False)
            write_crystals(wanted.crystals, folder / "wanted.parquet")
            one, other = pq.read_table(out), pq.read_table(folder / "wanted.parquet")
            assert one.schema.equals(other.schema, check_metadata=True), source
            assert one.equals(other), source
            assert not partial_folder(out).exists()


def test_target_is_checked_as_everywhere(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    source = tables(tmp_path, twelve_crystals)[0]
    found = run(source, tmp_path / "o.parquet", target="y", max_rejected=1.0)
    wanted = load_crystals(source, target="y", max_rejected=1.0)
    assert found.rejected["reason"].tolist() == wanted.rejected["reason"].tolist()
    for target, words in (("z", "no column 'z'"), ("notes", "holds text")):
        with pytest.raises(DataError, match=words):
            run(source, tmp_path / "p.parquet", target=target, max_rejected=1.0)


def test_two_words_are_a_target_and_stay_words(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    source = tables(tmp_path, twelve_crystals)[0]
    run(source, tmp_path / "o.parquet", target="words", max_rejected=1.0)
    loaded = load_crystals(str(tmp_path / "o.parquet"), target="words")
    wanted = load_crystals(source, target="words", max_rejected=1.0)
    assert loaded.prop == wanted.prop
    assert loaded.prop is not None
    assert loaded.prop.holds_words
    assert pq.read_table(tmp_path / "o.parquet")["words"].to_pylist()[0] in loaded.prop.names


def test_listed_file_of_another_format(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    folder = write_list(tmp_path / "listed", tiny_crystals, broken=1)
    (folder / "Si.cif").unlink()
    tiny_crystals[1].to_structure().to(str(folder / "Si.vasp"), fmt="poscar")
    found = run(folder, tmp_path / "o.parquet", max_rejected=0.5)
    assert found.rejected["material_id"].tolist() == ["gone", "NaCl"]


def test_listed_file_too_long_or_no_file(tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    folder = write_list(tmp_path / "listed", tiny_crystals, broken=1)
    with (folder / "Si.cif").open("ab") as file:
        file.truncate(TEXT_LIMIT + 1)
    (folder / "SrTiO3.cif").unlink()
    (folder / "SrTiO3.cif").symlink_to("/dev/null")
    found = run(folder, tmp_path / "o.parquet", max_rejected=1.0)
    reasons = dict(zip(found.rejected["material_id"], found.rejected["reason"], strict=True))
    assert reasons["Si"] == "too large: the file has more than 16 MiB"
    assert reasons["SrTiO3"] == "not a file: a device or pipe"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIF files of three chunks, a few of them broken."""
    folder = tmp_path_factory.mktemp("many")
    text = str(make_crystal("SrTiO3").to_structure().to(fmt="cif"))
    text = re.sub(r"_cell_volume.*\n", "", text)  # every cell is of another size
    for number in range(N_FILES):
        scaled = text.replace("3.90500000", f"{3.8 + number / 10_000:.8f}")
        (folder / f"c{number:05}.cif").write_text("data_x" if number % 300 == 7 else scaled)
    return folder


@pytest.fixture(scope="module")
def alone(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their import by one process that nobody disturbs."""
    out = tmp_path_factory.mktemp("alone") / "o.parquet"
    run(many, out)
    return out


def assert_same_columns(one: Path, other: Path) -> None:
    assert pq.read_table(one).equals(pq.read_table(other), check_metadata=True)
    names = [path.with_name(f"{path.stem}-rejected.csv") for path in (one, other)]
    assert names[0].read_bytes() == names[1].read_bytes()


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from raymat.cli.main import main; main()", "data", "import"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(out: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(partial_folder(out).glob("part-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Give the processes below one, at any depth."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has just ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [child for child, parent in parents.items() if parent == pid]
    return [*found, *[below for child in found for below in children(child)]]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_killed_import_goes_on_and_leaves_nobody_behind(
    tmp_path: Path, many: Path, alone: Path
) -> None:
    out = tmp_path / "o.parquet"
    process = start(many, "-o", out, "--workers", 2)
    wait_for_parts(out, process)
    below = children(process.pid)
    process.kill()
    process.communicate()
    assert len(below) >= 2
    deadline = time.monotonic() + 20
    while any(map(is_alive, below)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    n_done = sum(pq.read_metadata(path).num_rows for path in partial_folder(out).glob("part-*"))
    assert n_done > 0
    assert not out.exists()
    seen: list[int] = []
    request = ImportRequest(str(many), out, tmp_path / "o-rejected.csv", workers=2)
    import_crystals(request, listeners=(lambda e: seen.append(e.get("rows", 0)),))
    assert sum(seen) == N_FILES - n_done
    assert_same_columns(out, alone)


@pytest.mark.parametrize("after_s", [0.0, 0.4, 0.8])
def test_ctrl_c_while_the_workers_are_born(tmp_path: Path, many: Path, after_s: float) -> None:
    """None of the processes that are just importing has anything to say."""
    out = tmp_path / "o.parquet"
    process = start(many, "-o", out, "--workers", 2, "--quiet")
    while not partial_folder(out).exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("interrupted")
    assert errors.count("\n") == 1


def test_ctrl_c_ends_with_one_line(tmp_path: Path, many: Path) -> None:
    out = tmp_path / "o.parquet"
    process = start(many, "-o", out, "--workers", 2, "--quiet")
    wait_for_parts(out, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    line = f"interrupted; {out}.partial keeps what is parsed: the same command goes on\n"
    assert (process.returncode, errors) == (130, line)


@pytest.mark.faults
def test_worker_that_dies_is_one_line(tmp_path: Path, many: Path) -> None:
    out = tmp_path / "o.parquet"
    process = start(many, "-o", out, "--workers", 2, "--quiet")
    wait_for_parts(out, process)
    for pid in children(process.pid)[-2:]:
        if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert re.fullmatch(r"error: a worker process died at or soon after c\d+.cif to .*\n", errors)


def test_parts_of_another_source_or_another_import_at_work(
    tmp_path: Path, twelve_crystals: CrystalSet
) -> None:
    source, out = tmp_path / "a.parquet", tmp_path / "o.parquet"
    write_crystals(twelve_crystals, source)
    with (
        open_parts(out, {"sha256": "0" * 64, "ids": "auto"}),
        pytest.raises(RunError, match="another process is at work in this folder"),
    ):
        run(source, out)
    assert not partial_folder(out).exists()  # nothing was parsed
    with open_parts(out, {"sha256": "0" * 64, "ids": "auto"}) as parts:
        parts.part(0).write_bytes(b"of another source")
    with pytest.raises(DataError, match="parts of another source, or of this one before"):
        run(source, out)
    shutil.rmtree(partial_folder(out))
    run(source, out)


def test_damaged_part_is_named(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    source, out = tmp_path / "a.parquet", tmp_path / "o.parquet"
    twelve_crystals = twelve_crystals.take(np.arange(12))
    twelve_crystals.properties["y"] = None
    write_crystals(twelve_crystals, source)
    with pytest.raises(TooManyRejectedError, match=r"o-rejected.csv lists them"):
        run(source, out, target="y")
    assert len(pd.read_csv(tmp_path / "o-rejected.csv")) == 12
    part = partial_folder(out) / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=r"part-000000.parquet: not a readable part .*; remove it"):
        run(source, out)
    part.unlink()
    assert run(source, out).source.n_used == 12


@pytest.mark.parametrize("is_listed", [False, True])
def test_folder_that_changes_meanwhile(tmp_path: Path, many: Path, is_listed: bool) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(many.glob("c0000*.cif"))[:3]:
        shutil.copy(path, folder)
    if is_listed:
        (folder / "id_prop.csv").write_text("c00000,1\nc00001,2\n")
    request = ImportRequest(str(folder), tmp_path / "o.parquet", tmp_path / "r.csv")

    def disturb(event: dict[str, object]) -> None:
        if event["event"] == "joining":
            shutil.copy(folder / "c00000.cif", folder / "late.cif")

    with pytest.raises(DataError, match="files changed while they were read; run the same"):
        import_crystals(request, listeners=(disturb,))
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("name", ["a.parquet", "a.db", "a.xyz"])
def test_file_that_changes_meanwhile(
    tmp_path: Path, twelve_crystals: CrystalSet, name: str
) -> None:
    source, out = tmp_path / name, tmp_path / "o.parquet"
    if name == "a.parquet":
        write_crystals(twelve_crystals, source)
    else:
        ase.io.write(source, [to_atoms(twelve_crystals[0])] * 2)
    request = ImportRequest(str(source), out, tmp_path / "r.csv")

    def disturb(event: dict[str, object]) -> None:
        if event["event"] == "joining":
            os.utime(source, ns=(0, source.stat().st_mtime_ns + 1_000_000))

    with pytest.raises(DataError, match=f"{name}: the file changed while it was read; run the"):
        import_crystals(request, listeners=(disturb,))
    assert not out.exists()
    assert not (tmp_path / "r.csv").exists()
    assert not partial_folder(out).exists()  # so that the same command can be run again
    assert import_crystals(request).source.n_rejected == 0


@pytest.mark.data
def test_real_crystals_come_back(tmp_path: Path, shared: Path) -> None:
    """Every number of 300 Materials Project crystals, by files of two formats and a table."""
    source = load_crystals(str(shared / "data" / "elastic_sample.parquet")).crystals
    lines = ["material_id,K_VRH (GPa)\n"]
    for row, name in enumerate(source.material_ids):
        (tmp_path / "s" / str(name)).mkdir(parents=True)
        structure = source[row].to_structure()
        structure.to(str(tmp_path / "s" / str(name) / "POSCAR"), fmt="poscar")
        lines.append(f"{name},{source.properties['K_VRH'][row]}\n")
    (tmp_path / "t.csv").write_text("".join(lines))
    archive = shutil.make_archive(str(tmp_path / "s"), "gztar", tmp_path / "s")
    run(archive, tmp_path / "o.parquet", properties=tmp_path / "t.csv")
    found = load_crystals(str(tmp_path / "o.parquet")).crystals
    order = pd.Index(found.material_ids).get_indexer(pd.Index(source.material_ids))
    found = found.take(order)
    assert found.atomic_numbers.tolist() == source.atomic_numbers.tolist()
    np.testing.assert_allclose(found.lattices, source.lattices, atol=1e-12)
    np.testing.assert_allclose(found.frac_coords, source.frac_coords, atol=1e-12)
    assert found.properties["K_VRH"].tolist() == source.properties["K_VRH"].tolist()


def test_property_table_of_other_crystals(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    source = tmp_path / "a.parquet"
    write_crystals(twelve_crystals, source)
    (tmp_path / "t.csv").write_text("material_id,K_VRH\nmp-1,3.0\nmp-2,4.0\n")
    first = twelve_crystals.material_ids[0]
    with pytest.raises(DataError, match=rf"none of its 2 ids \('mp-1', .* \('{first}'\)"):
        run(source, tmp_path / "o.parquet", properties=tmp_path / "t.csv")
    assert not (tmp_path / "o.parquet").exists()


def test_key_that_no_crystal_has(tmp_path: Path) -> None:
    """It is told after the first crystals, and leaves nothing in the way of the right one."""
    frames = tmp_path / "a.extxyz"
    cell = 'Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T" uid={} Properties=species:S:1:pos:R:3'
    frames.write_text("".join(f"1\n{cell.format(n)}\nNa 0 0 0\n" for n in range(5)))
    out = tmp_path / "o.parquet"
    with pytest.raises(DataError, match=r"--ids uidd: .*no crystal has it; did you mean 'uid'"):
        run(frames, out, ids="uidd")
    assert not partial_folder(out).exists()
    assert run(frames, out, ids="uid").source.n_used == 5
