"""Units of property tables: taken, converted on request, or refused in one line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymat.data.crystals import CrystalSet
from raymat.data.files.unit_text import conversion
from raymat.data.files.units import ColumnUnit, parse_unit_options, split_header
from raymat.data.readers import load_crystals
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError
from raymat.sources.files.importing import Imported, ImportRequest, import_crystals

MEV, LOG_KBAR = {"band_gap": "meV"}, {"log10_K_VRH": "log10(kbar)"}


@pytest.fixture
def folder(tmp_path: Path, tiny_crystals: CrystalSet) -> Path:
    path = tmp_path / "crystals"
    path.mkdir()
    for row, name in enumerate(tiny_crystals.material_ids):
        tiny_crystals[row].to_structure().to(str(path / f"{name}.cif"))
    return path


def run(folder: Path, table: str, **options: object) -> Imported:
    """Import with a property table."""
    path = folder.parent / "t.csv"
    path.write_text(table)
    out = folder.parent / "o.parquet"
    request = ImportRequest(str(folder), out, out.with_name("r.csv"), properties=path, **options)  # type: ignore[arg-type]
    return import_crystals(request)


def column(folder: Path, name: str) -> list[float]:
    crystals = load_crystals(str(folder.parent / "o.parquet")).crystals
    return crystals.properties.set_index(crystals.material_ids)[name].loc[["NaCl", "Si"]].tolist()


@pytest.mark.parametrize(
    ("table", "units", "name", "values"),
    [
        ("K_VRH\nNaCl,23.4\nSi,83\n", {}, "K_VRH", [23.4, 83.0]),
        ("K_VRH (GPa)\nNaCl,23.4\nSi,83\n", {}, "K_VRH", [23.4, 83.0]),
        ("K_VRH [GPa]\nNaCl,23.4\nSi,83\n", {}, "K_VRH", [23.4, 83.0]),
        ("K_VRH\nunits,GPa\nNaCl,23.4\nSi,83\n", {}, "K_VRH", [23.4, 83.0]),
        ("K_VRH\nNaCl,23.4 GPa\nSi,83GPa\n", {}, "K_VRH", [23.4, 83.0]),
        ("K_VRH (kbar)\nNaCl,234\nSi,3\n", {"K_VRH": "kbar"}, "K_VRH", [23.4, 0.3]),
        ("K_VRH\nNaCl,234\nSi,3\n", {"K_VRH": "kbar"}, "K_VRH", [23.4, 0.3]),
        ("K_VRH\nunits,Pa\nNaCl,7e9\nSi,3e8\n", {"K_VRH": "Pa"}, "K_VRH", [7.0, 0.3]),
        ("band_gap\nNaCl,500 meV\nSi,3 meV\n", MEV, "band_gap", [0.5, 0.003]),
        ("log10_K_VRH\nNaCl,3\nSi,2\n", LOG_KBAR, "log10_K_VRH", [2.0, 1.0]),
        ("band_gap\nunits,meV (PBE)\nNaCl,500\nSi,3\n", MEV, "band_gap", [0.5, 0.003]),
        ("K_VRH\nunits,N m^-2\nNaCl,7e9\nSi,3e8\n", {"K_VRH": "N m^-2"}, "K_VRH", [7.0, 0.3]),
        ("my gap (meV)\nNaCl,3\nSi,2\n", {}, "my gap (meV)", [3.0, 2.0]),
        ("log10(G_VRH)\nNaCl,3\nSi,2\n", {}, "log10(G_VRH)", [3.0, 2.0]),
    ],
)  # fmt: skip
def test_units_that_fit(
    folder: Path, table: str, units: dict[str, str], name: str, values: list[float]
) -> None:
    run(folder, f"material_id,{table}", units=units)
    assert column(folder, name) == values


@pytest.mark.parametrize(
    ("table", "units", "words"),
    [
        ("K_VRH (kbar)\nSi,1\n", {}, r"t.csv: column 'K_VRH \(kbar\)' is in kbar, .* --unit"),
        ("K_VRH\nunits,kbar\nSi,1\n", {}, "column 'K_VRH' is in kbar"),
        ("band_gap\nSi,5 meV\n", {}, "is in meV, raymat keeps band_gap in eV"),
        ("formation_energy_per_atom (kJ/mol)\nSi,5\n", {}, "is in kJ/mol"),
        ("K_VRH (eV)\nSi,1\n", {}, "eV is no unit of a quantity in GPa"),
        ("formation_energy_per_atom (eV)\nSi,5\n", {}, "eV is no unit of a quantity in eV/atom"),
        ("K_VRH (quux)\nSi,1\n", {}, r"is in 'quux', no known unit; .* GPa; say it: --unit K_VRH"),
        ("K_VRH (9^9^9^9)\nSi,1\n", {}, "no known unit"),
        ("formation_energy_per_atom\nunits,kJ mol-1\nSi,5\n", {}, "is in kJ mol-1, raymat keeps"),
        ("formation_energy_per_atom\nunits,meV per atom\nSi,5\n", {}, "=meV per atom' converts"),
        ("band_gap\nSi,500 meV (PBE)\n", {}, r"is in 'meV \(PBE\)', no known unit"),
        ("K_VRH\nunits,10 GPa\nSi,5\n", {}, "is in '10 GPa', no known unit"),
        ("K_VRH\nunits,N m^-2\nSi,5\n", {}, r"is in N m\^-2, raymat keeps K_VRH in GPa"),
        ("K_VRH\nunits,dyn/cm**2\nSi,5\n", {}, r"is in dyn/cm\*\*2, raymat keeps"),
        ("K_VRH\nunits,as published by the authors\nSi,5\n", {}, "no known unit"),
        ("poisson_ratio\nunits,-\nSi,0.3\n", {}, "no unit; say it: --unit poisson_ratio=1"),
        ("log10_K_VRH (GPa)\nSi,1\n", {}, "a logarithm and a plain number"),
        ("K_VRH (kbar)\nSi,1\n", {"K_VRH": "Pa"}, "is in kbar, but --unit says Pa"),
        ("band_gap\nSi,3.2 eV\nNaCl,500 meV\n", {}, "mixes units: '3.2 eV', '500 meV'; write"),
        ("band_gap\nSi,3.2 eV\nNaCl,5\n", {}, "mixes units: '3.2 eV', '5'"),
        ("band_gap (eV)\nSi,3.2 meV\nNaCl,5\n", {}, "mixes units"),
        ("K_VRH,K_VRH (GPa)\nSi,1,1\n", {}, "2 columns are 'K_VRH'; keep one"),
        ("K\nSi,1\n", {"K_VRH": "kbar"}, "no column 'K_VRH'"),
        ("K\nSi,1\nSi,2\n", {}, "'Si' stands in several rows"),
    ],
)  # fmt: skip
def test_units_that_do_not(folder: Path, table: str, units: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        run(folder, f"material_id,{table}", units=units)
    assert not (folder.parent / "o.parquet").exists()


@pytest.mark.parametrize(
    ("name", "units", "words"),
    [
        ("band_gap", {}, {"Si": "about 2 eV", "CsCl": "n.d."}),
        ("K_VRH", {"K_VRH": "kbar"}, {"Si": "n.d."}),
    ],
)
def test_words_beside_numbers_with_units(
    folder: Path, name: str, units: dict[str, str], words: dict[str, str]
) -> None:
    unit = "" if units else " eV"
    rows = [f"NaCl,3.2{unit}\n", *(f"{crystal},{cell}\n" for crystal, cell in words.items())]
    table = f"material_id,{name}\n{''.join(rows)}"
    found = run(folder, table, target=name, units=units, max_rejected=1.0)
    reasons = dict(zip(found.rejected["material_id"], found.rejected["reason"], strict=True))
    wanted = {crystal: f"target is not a number: {cell!r}" for crystal, cell in words.items()}
    missing = {
        "CsCl": "target is missing: NaN or empty",
        "SrTiO3": "target is missing: NaN or empty",
    }
    assert reasons == missing | wanted


def test_table_without_ids(folder: Path) -> None:
    with pytest.raises(DataError, match="no column 'material_id' to find crystals by; found x, K"):
        run(folder, "x,K\nSi,1\n")


def test_a_table_whose_ids_have_another_name_and_another_separator(folder: Path) -> None:
    table = "ID;K_VRH\nNaCl;23,4\nSi;83\nCsCl;1\nSrTiO3;2\n"
    found = run(folder, table, target="K_VRH")
    assert found.source.n_used == 4
    assert found.notes == [f"{folder.parent / 't.csv'}: ids are those of column 'ID'"]


def test_crystals_and_rows_without_each_other(folder: Path) -> None:
    found = run(folder, "material_id,y\nNaCl,1\nSi,2\nFe,3\n", target="y", max_rejected=0.5)
    assert found.source.n_used == 2
    assert found.rejected["reason"].tolist() == ["target is missing: NaN or empty"] * 2
    assert [note.split(": ")[1] for note in found.notes] == [
        "1 ids have no crystal",
        "2 crystals have no row",
    ]


def with_metadata(path: Path, crystals: CrystalSet, name: str, unit: str) -> Path:
    """Write crystals, a column of which says something of its unit."""
    crystals.properties[name] = [234.0, 83.0, 1.0, 2.0]
    write_crystals(crystals, path)
    table = pq.read_table(path)
    at = table.schema.get_field_index(name)
    field = table.schema.field(at).with_metadata({"unit": unit})
    pq.write_table(table.cast(table.schema.set(at, field)), path)
    return path


@pytest.mark.parametrize(
    ("name", "unit", "words"),
    [
        ("K_VRH", "kbar", "is in kbar, raymat keeps"),
        ("K_VRH", "GPa (VRH)", "is in 'GPa .VRH.', no known unit"),
        ("K_VRH", "from the paper, in kbar", "no known unit"),
        ("band_gap", "meV with the PBE functional", "no known unit"),
        ("formation_energy_per_atom", "kJ per mol of formula units", "no known unit"),
    ],
)
def test_metadata_that_is_refused_before_anything_is_parsed(
    tmp_path: Path, tiny_crystals: CrystalSet, name: str, unit: str, words: str
) -> None:
    source = with_metadata(tmp_path / "a.parquet", tiny_crystals, name, unit)
    events: list[object] = []
    request = ImportRequest(str(source), tmp_path / "o.parquet", tmp_path / "r.csv")
    with pytest.raises(DataError, match=words):
        import_crystals(request, listeners=(events.append,))
    assert events == [{"event": "opening"}]


@pytest.mark.parametrize(
    ("name", "unit", "is_prose"),
    [
        ("K_VRH", "GPa", False),
        ("K_VRH", "GPa as published, see README", True),
        ("log10_K_VRH", "log10(GPa)", False),
        ("formation_energy_per_atom", "eV/atom", False),
        ("total_magnetization_per_fu", "mu_B", False),
        ("total_magnetization_per_fu", "Bohr magneton per reduced formula unit", True),
        ("poisson_ratio", "1", False),
        ("mine", "furlongs", False),
    ],
)
def test_metadata_that_passes(
    tmp_path: Path, tiny_crystals: CrystalSet, name: str, unit: str, is_prose: bool
) -> None:
    source = with_metadata(tmp_path / "a.parquet", tiny_crystals, name, unit)
    out = tmp_path / "o.parquet"
    found = import_crystals(ImportRequest(str(source), out, tmp_path / "r.csv"))
    assert load_crystals(str(out)).crystals.properties[name].tolist() == [234.0, 83.0, 1.0, 2.0]
    taken = f"{source}: column '{name}' says of its unit '{unit}': taken as "
    assert [note.startswith(taken) for note in found.notes] == [True] * is_prose


@pytest.mark.parametrize("unit", ["kJ/mol", "kJ mol-1", "kJ mol^-1", "kJ·mol⁻¹", "kJ per mol"])
def test_one_unit_in_many_spellings(unit: str) -> None:
    factor, _ = conversion(unit, "eV/atom", where="x")
    assert factor == pytest.approx(1 / 96.48533212331, rel=1e-12)  # eV in kJ/mol, CODATA 2018


@pytest.mark.parametrize("unit", ["J/mol K", "2 GPa", "eV-", "a.u.", "", "eV**99", "GPa; kbar"])
def test_what_is_no_unit(unit: str) -> None:
    with pytest.raises(DataError, match=r"is no known unit|no unit of a quantity"):
        conversion(unit, "GPa", where="x")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("K_VRH", "expected NAME=UNIT, such as K_VRH=kbar"),
        ("=kbar", "expected NAME=UNIT"),
        ("K_VHR=kbar", "raymat keeps no unit for 'K_VHR'; did you mean 'K_VRH'"),
    ],
)
def test_option_that_is_none(option: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_unit_options([option])


def test_conversions() -> None:
    assert conversion("nm", "Å", where="x") == (10.0, 0.0)
    assert split_header("K_VRH (GPa)") == ("K_VRH", "GPa")
    column = pa.chunked_array([[157, 3, None]])
    assert ColumnUnit("x", 0.1).apply(column).to_pylist() == [15.7, 0.3, None]
