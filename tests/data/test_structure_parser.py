"""A CIF is read as it describes itself, or refused with the words that say why."""

import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.raw import ParsedStructure
from raymat.data.readers import load_crystals
from raymat.data.structure_parser import parse_cell, parse_cif, quiet_pymatgen
from raymat.data.symmetry import find_spacegroup
from raymat.sources.files.importing import ImportRequest, import_crystals

SAME = 1e-4  # fractional: pymatgen takes 0.3333 for 1/3

CUBE = (5.0, 5.0, 5.0, 90, 90, 90)
TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
NAME = "_symmetry_space_group_name_H-M"


def cif(
    atoms: str,
    extra: str = "",
    *,
    cell: tuple[float, ...] = CUBE,
    columns: str = "label fract_x fract_y fract_z",
    block: str = "x",
) -> str:
    """Write CIF text with one loop of atoms."""
    lines = [f"_cell_{tag} {value}" for tag, value in zip(TAGS, cell, strict=True)]
    loop = ["loop_", *(f"_atom_site_{column}" for column in columns.split())]
    rows = [row.strip() for row in atoms.split(";")]
    return "\n".join([f"data_{block}", *lines, extra, *loop, *rows, ""])


SALT = "Na1 0 0 0; Cl1 .5 .5 .5"
WITH = "label fract_x fract_y fract_z "
TYPED = "label type_symbol fract_x fract_y fract_z"

# name -> text, and the element symbols of the cell's atoms or the words of the refusal
SITES: dict[str, tuple[str, str]] = {
    "nothing stated": (cif(SALT), "Na Cl"),
    "hydroxyl": (cif("Mg1 0 0 0; OH .3 .6 .2"), "unknown element: 'OH' is no element"),
    "hydroxyl in the type": (
        cif("Mg1 Mg 0 0 0; O1 OH .3 .6 .2", columns=TYPED),
        "unknown element: 'OH' is no element (site 'O1')",
    ),
    "hydroxyl beside its hydrogen": (cif("K1 0 0 0; OH .5 .5 .5; H1 .5 .5 .7"), "K H O"),
    "water": (cif("K1 0 0 0; Wat .5 .5 .5"), "unknown element: 'Wat' is no element"),
    "vacancy": (cif("Na1 0 0 0; Va .5 .5 .5"), "unknown element: 'Va' is no element"),
    "vacancy by three": (cif("Na1 0 0 0; Vac1 .5 .5 .5"), "unknown element: 'Vac1'"),
    "vacancy as a type": (
        cif("Na1 Na 0 0 0; V1 Va .5 .5 .5", columns=TYPED),
        "unknown element: 'Va' is no element",
    ),
    "void": (cif("Na1 0 0 0; Void .5 .5 .5"), "unknown element: 'Void'"),
    "any": (cif("Na1 0 0 0; X1 .5 .5 .5"), "unknown element: 'X1'"),
    "rare earth": (cif("RE 0 0 0; O1 .5 .5 .5"), "unknown element: 'RE'"),
    "transition metal": (cif("TM1 0 0 0; O1 .5 .5 .5"), "unknown element: 'TM1'"),
    "metal": (cif("M1 0 0 0; O1 .5 .5 .5"), "unknown element: 'M1'"),
    "lanthanide": (cif("Ln1 0 0 0; O1 .5 .5 .5"), "unknown element: 'Ln1'"),
    "mixed type": (
        cif("A Fe3+Ni2+ 0 0 0; O1 O2- .5 .5 .5", columns=TYPED),
        "unknown element: 'Fe3+Ni2+'",
    ),
    "rhenium in capitals": (
        cif("RE 0 0 0; O1 .5 .5 .5", "_chemical_formula_sum 'O Re'"),
        "Re O",
    ),
    "capitals": (cif("FE1 0 0 0; CL1 .5 .5 .5"), "Fe Cl"),
    "calcium or carbon": (
        cif("CA 0 0 0; OB .5 .5 .5", "_chemical_formula_sum 'C O'"),
        "C O",
    ),
    "rhenium and thulium": (cif("Re1 0 0 0; Tm1 .5 .5 .5"), "Tm Re"),
    "charges": (cif("a Na1+ 0 0 0; b Cl- .5 .5 .5", columns=TYPED), "Na Cl"),
    "deuterium": (cif("D1 0 0 0; Cl1 .5 .5 .5", "_chemical_formula_sum 'Cl H'"), "H Cl"),
    "dummy atom": (
        cif(f"{SALT.replace(';', ' d;')} d; H1 ? ? ? dum", columns=WITH + "calc_flag"),
        "Na Cl",
    ),
    "default occupancy": (
        cif("Na1 0 0 0 .; Cl1 .5 .5 .5 1.0", columns=WITH + "occupancy"),
        "Na Cl",
    ),
    "negative occupancy": (
        cif("Na1 0 0 0 -1; Cl1 .5 .5 .5 1", columns=WITH + "occupancy"),
        "unreadable CIF: the occupancy of site 'Na1' is '-1'",
    ),
    "no occupancy": (
        cif("Na1 0 0 0 0; Cl1 .5 .5 .5 1", columns=WITH + "occupancy"),
        "partial occupancy: the occupancy of site 'Na1' is 0",
    ),
    "half occupancy": (
        cif("Na1 0 0 0 .5; Cl1 .5 .5 .5 1", columns=WITH + "occupancy"),
        "partial occupancy: 1 of 2 sites",
    ),
    "no coordinates": (
        cif("Na1 0 0 0; H1 . . ."),
        "unreadable CIF: the coordinates of site 'H1' are '. . .'",
    ),
    "unknown coordinates": (cif("Na1 0 0 0; H1 ? ? ?"), "the coordinates of site 'H1'"),
    "attached hydrogens": (
        cif("Na1 0 0 0 0; O1 .5 .5 .5 1", columns=WITH + "attached_hydrogens"),
        "contradicts itself: attached hydrogens without coordinates: 1",
    ),
    "no attached hydrogens": (
        cif("Na1 0 0 0 0; O1 .5 .5 .5 .", columns=WITH + "attached_hydrogens"),
        "Na O",
    ),
    "row cut off": (cif("Na1 0 0 0; Cl1 .5 .5"), "ends within a row"),
    "tag twice": (cif(SALT, "_cell_length_a 6"), "_cell_length_a stands twice"),
    "no cell": (cif(SALT).replace("_cell_angle_beta", "_cell_x"), "no _cell_angle_beta"),
    "minus sign of typographers": (cif("Na1 \u22120.25 0 0"), "Na"),
}

FACTS: dict[str, tuple[str, str]] = {
    "all agree": (
        cif(
            SALT,
            "_chemical_formula_sum 'Cl1 Na1'\n_cell_formula_units_Z 1\n_cell_volume 125.0(2)\n"
            "_exptl_crystal_density_diffrn 0.776\n_chemical_formula_weight 58.44",
        ),
        "Na Cl",
    ),
    "hydrogens are missing": (
        cif("Na1 0 0 0; O1 .5 .5 .5", "_chemical_formula_sum 'H Na O'"),
        "contradicts itself: the formula is 'H Na O', its sites are Na1 O1",
    ),
    "another ratio": (
        cif(SALT, "_chemical_formula_sum 'Cl2 Na'"),
        "the formula is 'Cl2 Na', its sites are Cl1 Na1",
    ),
    "another element": (cif(SALT, "_chemical_formula_sum 'Cl K'"), "the formula is 'Cl K'"),
    "half of the atoms": (
        cif(SALT, "_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 2"),
        "its sites are Cl1 Na1, not Z = 2 formula units 'Cl Na'",
    ),
    "less than a formula": (cif(SALT, "_chemical_formula_sum 'Cl2 Na2'"), "a whole number of"),
    "formula of the cell, as pymatgen writes it": (
        cif(
            "Na1 0 0 0; Na2 0 .5 .5; Cl1 .5 .5 .5; Cl2 .5 0 0",
            "_chemical_formula_sum 'Na2 Cl2'\n_cell_formula_units_Z 2",
        ),
        "Na Na Cl Cl",
    ),
    "rounded formula": (
        cif(
            "Al1 0 0 0; Al2 0 .5 .5; O1 .5 .5 .5; O2 .5 0 0; O3 0 .5 0",
            "_chemical_formula_sum 'Al0.667 O'",
        ),
        "Al Al O O O",
    ),
    "brackets": (
        cif("Na1 0 0 0; Cl1 .5 .5 .5; Cl2 0 0 .5", "_chemical_formula_sum 'Na(Cl)2'"),
        "Na Cl Cl",
    ),
    "no formula": (cif(SALT, "_chemical_formula_sum ?\n_cell_formula_units_Z ?"), "Na Cl"),
    "words for a formula": (cif(SALT, "_chemical_formula_sum 'table salt'"), "Na Cl"),
    "volume": (
        cif(SALT, "_cell_volume 128"),
        "the cell volume is 128 Å^3, its lattice has 125 Å^3",
    ),
    "volume of two digits": (cif(SALT, "_cell_volume 1.2e2"), "the cell volume is 120"),
    "volume, rounded": (cif(SALT, "_cell_volume 126"), "Na Cl"),
    "density": (
        cif(SALT, "_exptl_crystal_density_diffrn 1.55"),
        "the calculated density is 1.55 g/cm^3, its sites have 0.7764 g/cm^3",
    ),
    "density in kg/m^3": (cif(SALT, "_exptl_crystal_density_diffrn 776"), "Na Cl"),
    "measured density": (cif(SALT, "_exptl_crystal_density_meas 1.55"), "Na Cl"),
    "weight": (
        cif(SALT, "_chemical_formula_weight 74.55\n_cell_formula_units_Z 1"),
        "the formula weighs 74.55 g/mol, its sites 58.443 g/mol",
    ),
}

HEXAGONAL = (4.759, 4.759, 12.993, 90, 90, 120)
RHOMBOHEDRAL = (5.130, 5.130, 5.130, 55.28, 55.28, 55.28)
CORUNDUM, BY_R = "Al1 0 0 .352; O1 .306 0 .25", "Al1 .352 .352 .352; O1 .556 .944 .25"
DIAMOND = (3.567, 3.567, 3.567, 90, 90, 90)
BISMUTH = (4.546, 4.546, 11.862, 90, 90, 120)
FORMULA = "\n_chemical_formula_sum C\n_cell_formula_units_Z 8"
OBLIQUE = (5, 6, 7, 80, 95, 105)
TWO = "loop_\n{}\nx,y,z\n-x,-y,-z"

# name -> text, and (atoms, space group) or the words of the refusal
SYMMETRY: dict[str, tuple[str, tuple[int, int] | str]] = {
    "corundum": (cif(CORUNDUM, f"{NAME} 'R -3 c :H'", cell=HEXAGONAL), (30, 167)),
    "axes by the cell": (cif(CORUNDUM, f"{NAME} 'R -3 c'", cell=HEXAGONAL), (30, 167)),
    "number only": (cif(CORUNDUM, "_space_group_IT_number 167", cell=HEXAGONAL), (30, 167)),
    "rhombohedral": (cif(BY_R, f"{NAME} 'R -3 c :R'", cell=RHOMBOHEDRAL), (10, 167)),
    "rhombohedral by the cell": (cif(BY_R, f"{NAME} 'R -3 c'", cell=RHOMBOHEDRAL), (10, 167)),
    "axes that do not fit": (
        cif(CORUNDUM, f"{NAME} 'R -3 c :R'", cell=HEXAGONAL),
        "does not fit the cell's lengths and angles",
    ),
    "bismuth": (cif("Bi1 0 0 .2339", f"{NAME} 'R -3 m H'", cell=BISMUTH), (6, 166)),
    "bismuth, rhombohedral": (
        cif("Bi1 .2339 .2339 .2339", f"{NAME} R-3mR", cell=(4.746,) * 3 + (57.23,) * 3),
        (2, 166),
    ),
    "diamond": (cif("C1 0 0 0", f"{NAME} 'F d -3 m :1'", cell=DIAMOND), (8, 227)),
    "diamond, other origin": (
        cif("C1 .125 .125 .125", f"{NAME} 'F d -3 m :2'", cell=DIAMOND),
        (8, 227),
    ),
    "origin as a letter": (cif("C1 0 0 0", f"{NAME} 'F d -3 m S'", cell=DIAMOND), (8, 227)),
    "origin by formula and Z": (
        cif("C1 0 0 0", f"{NAME} 'F d -3 m'{FORMULA}", cell=DIAMOND),
        (8, 227),
    ),
    "origin by the density": (
        cif("C1 0 0 0", f"{NAME} Fd-3m\n_exptl_crystal_density_diffrn 3.51", cell=DIAMOND),
        (8, 227),
    ),
    "origin by the multiplicity": (
        cif(
            "C1 0 0 0 8",
            f"{NAME} 'F d -3 m'",
            cell=DIAMOND,
            columns=WITH + "symmetry_multiplicity",
        ),
        (8, 227),
    ),
    "origin by nothing": (
        cif("C1 0 0 0", f"{NAME} 'F d -3 m'", cell=DIAMOND),
        "unclear space group: 'F d -3 m': more than one setting fits",
    ),
    "origin by its own tag": (
        cif(
            "C1 0 0 0",
            f"{NAME} 'F d -3 m'\n_space_group_IT_coordinate_system_code 1",
            cell=DIAMOND,
        ),
        (8, 227),
    ),
    "Hall symbol": (
        cif("C1 0 0 0", "_space_group_name_Hall 'F 4d 2 3 -1d'", cell=DIAMOND),
        (8, 227),
    ),
    "CIF 2": (
        cif("C1 0 0 0", "_space_group.name_H-M_alt 'F d -3 m :1'", cell=DIAMOND),
        (8, 227),
    ),
    "before 1983": (cif(SALT, f"{NAME} 'F m 3 m'"), (8, 225)),
    "short monoclinic": (
        cif("S1 .1 .2 .3", f"{NAME} 'P 21/n'", cell=(6, 7, 8, 90, 100, 90)),
        (4, 14),
    ),
    "short monoclinic, c unique": (
        cif("S1 .1 .2 .3", f"{NAME} 'P 21/n'", cell=(6, 7, 8, 90, 90, 100)),
        (4, 14),
    ),
    "as SHELX writes it": (
        cif("S1 .1 .2 .3", f"{NAME} P2(1)/c", cell=(6, 7, 8, 90, 100, 90)),
        (4, 14),
    ),
    "no such group": (cif(SALT, f"{NAME} 'P 99/q'"), "'P 99/q' is no known symbol"),
    "no such number": (cif(SALT, "_space_group_IT_number 231"), "number 231, expected 1 to 230"),
    "two groups": (
        cif(SALT, f"{NAME} 'P m -3 m'\n_space_group_IT_number 225"),
        "'P m -3 m' and number 225 name no one group",
    ),
    "P 1 said": (cif(SALT, f"{NAME} 'P 1'"), (2, 221)),
    "only a system": (cif(SALT, "_symmetry_cell_setting cubic"), "unclear space group: 'cubic'"),
    "triclinic": (cif(SALT, "_symmetry_cell_setting triclinic"), (2, 221)),
    "operations": (
        cif("S1 .1 .2 .3", TWO.format("_symmetry_equiv_pos_as_xyz"), cell=OBLIQUE),
        (2, 2),
    ),
    "operations of CIF 2": (
        cif("S1 .1 .2 .3", TWO.format("_space_group_symop.operation_xyz"), cell=OBLIQUE),
        (2, 2),
    ),
    "operations of another group": (
        cif("S1 .1 .2 .3", f"{NAME} 'F m -3 m'\n" + TWO.format("_symmetry_equiv_pos_as_xyz")),
        "2 operations are not those of 'F m -3 m'",
    ),
    "all atoms beside a group": (
        cif(
            SALT,
            f"{NAME} 'P m -3 m'\n_symmetry_equiv_pos_as_xyz x,y,z\n"
            "_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 1",
        ),
        (2, 221),
    ),
    "no group": (
        cif("S1 .1 .2 .3", TWO.format("_symmetry_equiv_pos_as_xyz") + "\n-x,y,z"),
        "3 operations are not a group",
    ),
    "no operation": (
        cif("S1 .1 .2 .3", "_symmetry_equiv_pos_as_xyz x,y,q"),
        "'x,y,q' is no symmetry operation",
    ),
    "rounded translations": (
        cif(
            "S1 .1 .35 .3",
            "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x-y,z+0.3333\n-x+y,-x,z+.667",
            cell=(5, 5, 9, 90, 90, 120),
        ),
        (3, 144),
    ),
    "modulated": (cif(SALT, "_cell_modulation_dimension 1"), "a modulated structure"),
}


ONE = cif("S1 .1 .2 .3")
BLOCKS: dict[str, tuple[str | bytes, str]] = {
    "remarks before": ("data_global\n_publ_author_name 'nobody'\n" + ONE, "S"),
    "pattern after": (ONE + "data_pattern\n_cell_length_a 5\nloop_\n_pd_counts\n1\n2\n", "S"),
    "two structures": (
        ONE + ONE.replace("data_x", "data_y"),
        "several structures: the CIF holds 2",
    ),
    "one name for two": (ONE + ONE, "several structures: the CIF holds 2, expected one"),
    "a block in a text": (f"data_x\n_note\n;\ndata_y\n{ONE[7:]}\n;\n{ONE[7:]}", "S"),
    "byte order mark": ("\ufeff" + ONE, "S"),
    "UTF-16": (ONE.encode("utf-16"), "S"),
    "UTF-16 without a mark": (ONE.encode("utf-16-be"), "S"),
    "UTF-8 with a mark": (ONE.encode("utf-8-sig"), "S"),
    "Latin-1": (b"# \xe9t\xe9\n" + ONE.encode(), "S"),
    "capitals": (ONE.upper(), "S"),
    "lines of old Macintoshes": (ONE.replace("\n", "\r"), "S"),
    "lines of Windows": (ONE.replace("\n", "\r\n"), "S"),
    "CIF 2.0": ("#\\#CIF_2.0\n" + ONE.replace("5.0", "'''5.0'''"), "S"),
    "one atom, no loop": (
        cif(
            "", "_atom_site_label Cu\n" + "\n".join(f"_atom_site_fract_{x} 0" for x in "xyz")
        ).replace(
            "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n",
            "",
        ),
        "Cu",
    ),
    "no structure": ("data_x\n_cell_length_a 5\n", "unreadable CIF: it has no structure"),
    "no block": ("hello", "unreadable CIF: it has no structure, expected a data_ block"),
    "no text": (b"data_x\n\0\0\0\0\0", "unreadable file: it is no text"),
}


def read(content: str | bytes) -> ParsedStructure | str:
    with quiet_pymatgen():
        return parse_cif(content)


def symbols(structure: ParsedStructure | str) -> str:
    """Give the reason, or the elements in alphabetical order."""
    if isinstance(structure, str):
        return structure
    return in_order(CrystalSet.from_crystals([as_crystal(structure)])[0])


def as_crystal(structure: ParsedStructure) -> Crystal:
    return Crystal(
        material_id="x",
        lattice=structure.lattice,
        atomic_numbers=structure.atomic_numbers.astype(np.uint8),
        frac_coords=structure.frac_coords,
    )


def in_order(crystal: Crystal) -> str:
    return " ".join(sorted(site.specie.symbol for site in crystal.to_structure()))


def agrees(found: str, expected: str) -> bool:
    """Compare elements whatever their order, or find the words in a reason."""
    return found == " ".join(sorted(expected.split())) or (": " in found and expected in found)


@pytest.mark.parametrize("name", [*SITES, *FACTS, *BLOCKS])
def test_cif_is_what_it_says_or_refused(name: str) -> None:
    content, expected = {**SITES, **FACTS, **BLOCKS}[name]
    assert agrees(found := symbols(read(content)), expected), found


@pytest.mark.parametrize("name", SYMMETRY)
def test_space_group_is_resolved_or_refused(name: str) -> None:
    text, expected = SYMMETRY[name]
    found = read(text)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    else:
        assert not isinstance(found, str), found
        assert (len(found.atomic_numbers), find_spacegroup(as_crystal(found))) == expected


def test_every_way_in_gives_one_verdict(tmp_path: Path) -> None:
    """A column, a listed folder, a plain folder, and both of them imported."""
    texts = [content for content, _ in {**SITES, **FACTS, **SYMMETRY, **BLOCKS}.values()]
    wanted = {f"c{k:03}": symbols(read(text)) for k, text in enumerate(texts)}
    for name in ("listed", "plain"):
        (tmp_path / name).mkdir()
        for key, text in zip(wanted, texts, strict=True):
            content = text if isinstance(text, bytes) else text.encode()
            (tmp_path / name / f"{key}.cif").write_bytes(content)
    (tmp_path / "listed" / "id_prop.csv").write_text("".join(f"{key},1.0\n" for key in wanted))
    # A carriage return ends a row of a CSV file, even within a cell.
    is_cell = {
        key: isinstance(t, str) and "\r" not in t for key, t in zip(wanted, texts, strict=True)
    }
    cells = {key: t for key, t in zip(wanted, texts, strict=True) if is_cell[key]}
    table = pd.DataFrame({"material_id": list(cells), "cif": list(cells.values())})
    table.to_csv(tmp_path / "t.csv", index=False)

    column = loaded(tmp_path / "t.csv")
    assert column == {key: wanted[key] for key in cells}
    assert loaded(tmp_path / "listed") == wanted
    assert imported(tmp_path / "listed", tmp_path / "l.parquet") == wanted
    for found in (
        loaded(tmp_path / "plain"),
        imported(tmp_path / "plain", tmp_path / "p.parquet"),
    ):
        for key, text in wanted.items():
            if "several structures" in text:  # each becomes a row of its own
                assert not {key, f"{key}-0"} & set(found)
            else:
                assert found[key] == text


def loaded(source: Path) -> dict[str, str]:
    """Give id -> elements or reason."""
    data = load_crystals(str(source), max_rejected=1.0)
    names = dict(zip(data.rejected["material_id"], data.rejected["reason"], strict=True))
    crystals = data.crystals
    return {
        **names,
        **{c.material_id: in_order(c) for c in map(crystals.__getitem__, range(len(crystals)))},
    }


def imported(source: Path, out: Path) -> dict[str, str]:
    rejected = out.with_suffix(".csv")
    import_crystals(ImportRequest(str(source), out, rejected, max_rejected=1.0))
    table = pd.read_csv(rejected)
    return {**loaded(out), **dict(zip(table["material_id"], table["reason"], strict=True))}


def writers(structure: Structure) -> dict[str, str]:
    """Write a crystal as pymatgen does, without and with symmetry, and as ASE does."""
    import ase.io

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ase.io.write(file, structure.to_ase_atoms(), format="cif")
        return {
            "pymatgen": str(CifWriter(structure)),
            "symmetry": str(CifWriter(structure, symprec=0.01)),
            "ASE": file.getvalue().decode(),
        }


def test_what_pymatgen_and_ase_write_is_read(tiny_crystals: CrystalSet) -> None:
    nitrogen = Structure(Lattice.cubic(5.6), ["N"] * 2, [[0.05] * 3, [-0.05] * 3])
    every = [tiny_crystals[row].to_structure() for row in range(4)]
    for structure in [*every, nitrogen, nitrogen * (2, 2, 1)]:
        for name, text in writers(structure).items():
            found = read(text)
            assert not isinstance(found, str), (name, found)
            if name != "symmetry":
                assert_same_sites(found, structure)


@pytest.mark.data
def test_no_real_crystal_that_was_written_is_refused(shared: Path) -> None:
    crystals = load_crystals(str(shared / "data" / "elastic_sample.parquet")).crystals
    for row in range(0, len(crystals), 5):
        structure = crystals[row].to_structure()
        for name, text in writers(structure).items():
            found = read(text)
            assert not isinstance(found, str), (crystals[row].material_id, name, found)
            if name != "symmetry":
                assert_same_sites(found, structure)


def assert_same_sites(found: ParsedStructure, wanted: Structure) -> None:
    assert sorted(found.atomic_numbers.tolist()) == sorted(wanted.atomic_numbers)
    for number, place in zip(found.atomic_numbers, found.frac_coords, strict=True):
        shifts = wanted.frac_coords - place
        apart = np.abs(shifts - np.round(shifts)).max(axis=1)
        assert any(apart[k] < SAME and z == number for k, z in enumerate(wanted.atomic_numbers))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"lattice": {"pbc": [True, True, False]}}, "not periodic: pbc is T T F"),
        ({"lattice": {"volume": 150.0}}, "the cell volume is 150 Å^3, its lattice has 125 Å^3"),
        ({"formula": "NaCl2"}, "the formula is 'NaCl2', its sites are Cl1 Na1"),
        ({"formula": "Na4 Cl4", "nsites": 2}, ""),
        ({"nsites": 4}, "the stated number of atoms is 4, its sites are Cl1 Na1"),
        ({"charge": 1.0}, ""),
    ],
)
def test_pymatgen_dictionary_is_compared_with_what_it_states(
    change: dict[str, object], words: str
) -> None:
    content = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]).as_dict()
    for key, value in change.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    found = parse_cell(content)
    assert (isinstance(found, str) and words in found) if words else not isinstance(found, str)


@pytest.mark.parametrize("symbol", ["X", "Va", "RE"])
def test_name_that_is_no_element_in_a_dictionary(symbol: str) -> None:
    content = Structure(Lattice.cubic(5.0), ["Na"], [[0, 0, 0]]).as_dict()
    content["sites"][0]["species"][0]["element"] = symbol
    assert parse_cell(content) == f"unknown element: '{symbol}' is no element"
