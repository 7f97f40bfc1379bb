import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_crystal
from typer.testing import CliRunner

from raymat.cli.data import app
from raymat.data.crystals import CrystalSet
from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError, RunError

runner = CliRunner()


@pytest.fixture
def broken(tmp_path: Path, twelve_crystals: CrystalSet) -> Path:
    """Twelve crystals, the target of two of them missing."""
    twelve_crystals = twelve_crystals.take(range(12))  # type: ignore[arg-type]
    twelve_crystals.properties.loc[[3, 5], "y"] = None
    write_crystals(twelve_crystals, tmp_path / "broken.parquet")
    return tmp_path / "broken.parquet"


def test_import_writes_the_parquet_and_the_rejected_rows(tmp_path: Path, broken: Path) -> None:
    out = tmp_path / "out.parquet"
    options = ["--target", "y", "--max-rejected", "0.2"]
    result = runner.invoke(app, ["import", str(broken), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    assert "10 of 12 rows usable, 2 rejected" in result.output
    assert len(load_crystals(str(out), target="y").crystals) == 10
    rejected = pd.read_csv(tmp_path / "out-rejected.csv")
    assert rejected["reason"].tolist() == ["target is missing: NaN or empty"] * 2


def test_import_of_too_many_broken_rows_writes_nothing(tmp_path: Path, broken: Path) -> None:
    out = tmp_path / "out.parquet"
    result = runner.invoke(app, ["import", str(broken), "-o", str(out), "--target", "y"])
    assert isinstance(result.exception, TooManyRejectedError)
    assert not out.exists()


def test_import_refuses_an_output_that_exists(tmp_path: Path, broken: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"mine")
    result = runner.invoke(app, ["import", str(broken), "-o", str(out)])
    assert isinstance(result.exception, ConfigError)
    assert "out.parquet: exists already; choose another -o, or replace it with --overwrite" in str(
        result.exception
    )
    assert out.read_bytes() == b"mine"
    result = runner.invoke(app, ["import", "delta", "-o", str(out), "--overwrite"])
    assert result.exit_code == 0, result.output
    assert len(load_crystals(str(out)).crystals) > 0


def test_import_of_an_archive_says_what_was_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("../evil.cif", "notes.txt"):
            archive.addfile(tarfile.TarInfo(name))
        (tmp_path / "NaCl.json").write_text(make_crystal("NaCl").to_structure().to_json())
        archive.add(tmp_path / "NaCl.json", "NaCl.json")
    out = tmp_path / "out.parquet"
    options = ["-o", str(out), "--max-rejected", "1", "--workers", "1"]
    result = runner.invoke(app, ["import", str(tmp_path / "a.tar"), *options])
    assert result.exit_code == 0, result.output
    assert "1 of 2 rows usable, 1 rejected" in result.output
    assert "note: 1 other file passed over: notes.txt" in result.output
    assert "unsafe member" in result.output


def test_import_converts_units_when_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "NaCl.json").write_text(make_crystal("NaCl").to_structure().to_json())
    (tmp_path / "t.csv").write_text("material_id,K_VRH (kbar)\nNaCl,234\n")
    out = tmp_path / "out.parquet"
    options = ["-o", str(out), "--properties", str(tmp_path / "t.csv"), "--workers", "1"]
    result = runner.invoke(app, ["import", str(tmp_path / "s"), *options])
    assert isinstance(result.exception, DataError)
    assert "--unit K_VRH=kbar converts it" in str(result.exception)
    result = runner.invoke(app, ["import", str(tmp_path / "s"), *options, "--unit", "K_VRH=kbar"])
    assert result.exit_code == 0, result.output
    assert load_crystals(str(out)).crystals.properties["K_VRH"].tolist() == [23.4]


def test_import_does_not_write_over_its_source(tmp_path: Path, broken: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text("material_id,cif\n")
    before = {path: path.read_bytes() for path in (good, broken)}
    (tmp_path / "link.parquet").symlink_to(broken)
    for source, out, words in (
        (good, good, "expected a name that ends in .parquet"),
        (broken, broken, "broken.parquet is the source itself; choose another -o"),
        (broken, tmp_path / "link.parquet", "is the source itself"),
    ):
        result = runner.invoke(app, ["import", str(source), "-o", str(out), "--max-rejected", "1"])
        assert isinstance(result.exception, ConfigError)
        assert words in str(result.exception)
    assert {path: path.read_bytes() for path in before} == before


def test_import_does_not_write_its_list_of_rejected_rows_over_the_source(tmp_path: Path) -> None:
    source = tmp_path / "x-rejected.csv"
    source.write_text("material_id,cif\n")
    result = runner.invoke(app, ["import", str(source), "-o", str(tmp_path / "x.parquet")])
    assert isinstance(result.exception, ConfigError)
    assert "x-rejected.csv is the source itself" in str(result.exception)


def test_import_does_not_write_into_a_source_folder_or_over_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "cifs"
    folder.mkdir()
    result = runner.invoke(app, ["import", str(folder), "-o", str(folder / "x.parquet")])
    assert isinstance(result.exception, ConfigError)
    assert "lies inside the source" in str(result.exception)
    assert not list(folder.glob("x*"))
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "predictions.parquet"):
        (run / name).touch()
    out = str(run / "predictions.parquet")
    result = runner.invoke(app, ["import", str(folder), "-o", out])
    assert isinstance(result.exception, ConfigError)
    assert "predictions.parquet belongs to a run; choose another -o" in str(result.exception)


def test_check_lists_reasons_and_rows(tmp_path: Path, broken: Path) -> None:
    out = tmp_path / "report"
    options = ["--target", "y", "--out", str(out)]
    result = runner.invoke(app, ["check", str(broken), *options])
    assert isinstance(result.exception, TooManyRejectedError)
    assert "target is missing" in result.output
    assert "SrTiO3-0" in result.output
    assert len(pd.read_csv(out / "rejected.csv")) == 2
    options += ["--overwrite", "--max-rejected", "0.2"]
    result = runner.invoke(app, ["check", str(broken), *options])
    assert result.exit_code == 0
    assert "10 of 12 rows usable, 2 rejected" in result.output


def test_check_of_good_data_is_one_line() -> None:
    result = runner.invoke(app, ["check", "delta", "--target", "bulk_modulus"])
    assert result.exit_code == 0
    assert result.output.count("\n") == 1
    assert "delta: 71 of 71 rows usable, 0 rejected" in result.output


def test_check_of_several_sources(tmp_path: Path, broken: Path) -> None:
    out = tmp_path / "lists"
    missing = str(tmp_path / "none.parquet")
    result = runner.invoke(app, ["check", "delta", str(broken), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.count("rows usable, 0 rejected") == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "broken-rejected.csv",
        "delta-rejected.csv",
    ]
    result = runner.invoke(app, ["check", missing, str(broken), "delta", "--target", "y"])
    assert "2 of 3 sources" not in result.output
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("3 of 3 sources cannot be used; the first: ")
    result = runner.invoke(app, ["check", missing, str(broken)])
    assert "12 of 12 rows usable" in result.output  # the second is checked all the same
    assert "no such file" in str(result.exception)
    result = runner.invoke(app, ["check", "delta", "delta", "--out", str(out)])
    assert "two sources are called delta" in str(result.exception)


def test_describe_prints_and_draws(tmp_path: Path) -> None:
    options = ["--target", "log10_bulk_modulus", "--out", str(tmp_path / "d")]
    result = runner.invoke(app, ["describe", "delta", *options])
    assert result.exit_code == 0, result.output
    for words in ("log10_bulk_modulus (log10(GPa))", "atoms per cell", "71 elements", "W 1",
                  "random split: leakage: 0 of 7 test rows"):  # fmt: skip
        assert words in result.output
    assert (tmp_path / "d" / "delta.png").stat().st_size > 10_000
    assert "--out DIR" not in result.output


@pytest.mark.parametrize("kind", ["one is huge", "noise of a constant"])
def test_describe_of_odd_numbers(tmp_path: Path, kind: str) -> None:
    crystals = [replace(make_crystal("NaCl"), material_id=f"c{n}") for n in range(60)]
    noise = 7.3 + 1e-15 * np.arange(60)
    values = np.array([*range(59), 1e300]) if kind == "one is huge" else noise
    table = pd.DataFrame({"y": values})
    write_crystals(CrystalSet.from_crystals(crystals, table), tmp_path / "odd.parquet")
    options = ["--target", "y", "--out", str(tmp_path / "out")]
    result = runner.invoke(app, ["describe", str(tmp_path / "odd.parquet"), *options])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "odd.html").exists()


@pytest.mark.parametrize("command", ["check", "describe", "duplicates"])
def test_nothing_is_written_among_the_files_of_a_run(tmp_path: Path, command: str) -> None:
    for name, text in (("run.json", "{}"), ("rejected.csv", "material_id,reason\nx,y\n")):
        (tmp_path / name).write_text(text)
    result = runner.invoke(app, [command, "delta", "--out", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert f"--out {tmp_path}: is the folder of a run" in str(result.exception)
    assert (tmp_path / "rejected.csv").read_text().endswith("x,y\n")


def test_a_source_that_cannot_be_read_is_no_list_that_cannot_be_written(tmp_path: Path) -> None:
    result = runner.invoke(app, ["check", "a" * 300, "--out", str(tmp_path / "out")])
    assert "cannot be written" not in str(result.exception)


def test_describe_says_how_to_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["describe", "delta"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "page: --out DIR writes and draws this"
    assert not list(tmp_path.iterdir())


def test_missing_file_is_a_data_error() -> None:
    result = runner.invoke(app, ["describe", "no_such.parquet"])
    assert isinstance(result.exception, DataError)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = runner.invoke(app, ["describe", "delta", "--out", str(tmp_path / "file" / "d")])
    assert isinstance(result.exception, RunError)
    assert "cannot be made (Not a directory); choose another --out" in str(result.exception)


@pytest.mark.parametrize("command", ["import", "check", "describe", "duplicates"])
def test_help_has_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert f"Example: raymat data {command}" in text
    assert "--debug" in text
    assert "0.05" in text


def test_importing_the_command_is_light() -> None:
    heavy = {"numpy", "pandas", "pymatgen", "pyarrow", "ase", "matplotlib", "torch", "ray"}
    code = "import sys, raymat.cli.data; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(found.stdout.split()) == set()


def test_check_says_what_cannot_be_learned(tmp_path: Path, twelve_crystals: CrystalSet) -> None:
    """A source may be fine to predict and of no use for training: exit 2 if a target is named."""
    few, equal = str(tmp_path / "few.parquet"), str(tmp_path / "equal.parquet")
    write_crystals(twelve_crystals.take(np.arange(5)), Path(few))
    constant = twelve_crystals.properties.assign(y=3.0)
    write_crystals(replace(twelve_crystals, properties=constant), Path(equal))
    result = runner.invoke(app, ["check", few])
    assert result.exit_code == 0
    assert (
        "note: 5 usable rows are too few to train on: the default split needs at" in result.output
    )
    result = runner.invoke(app, ["check", few, "--target", "y"])
    assert "few.parquet: 5 usable rows are too few to train on" in str(result.exception)
    result = runner.invoke(app, ["check", equal, "--target", "y"])
    assert isinstance(result.exception, DataError)
    assert "equal.parquet: the 12 usable targets are all equal (3)" in str(result.exception)


@pytest.mark.parametrize("command", ["check", "describe"])
def test_a_class_is_called_one(tmp_path: Path, twelve_crystals: CrystalSet, command: str) -> None:
    write_crystals(twelve_crystals, tmp_path / "t.parquet")
    arguments = [command, str(tmp_path / "t.parquet"), "--target", "is_high"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert "target 'is_high' holds 0 and 1 only: learned as classes (class 1: 1)" in result.output
