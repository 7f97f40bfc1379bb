"""A CIF block to cell, atoms and symmetry, as the CIF dictionary means them.

What pymatgen would guess is decided here: names that are no element, missing coordinates, groups
without operations. It then builds the sites from plain text that leaves nothing to guess.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raymat.data.cif_text import FRACT, NULL, Block
from raymat.data.space_groups import (
    UNCLEAR,
    combine,
    find_settings,
    is_group,
    read_operations,
    stated_orders,
    with_fractions,
)
from raymat.data.stated import (
    CONTRADICTION,
    GROUP_NAMES,
    UNKNOWN_ELEMENT,
    Formula,
    Number,
    Stated,
    UnusableError,
    masses,
    read_formula,
    read_number,
)
from raymat.text import quoted

_LATTICE = (
    *(f"_cell_length_{x}" for x in "abc"),
    *(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")),
)
_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_SYMBOLS = (
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
)
_HALLS = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_SYSTEM = ("_symmetry_cell_setting", "_space_group_crystal_system")
_MOST = 1536  # operations: Fm-3m in a cell of eight

# Sites of no atom, of a group or of any of several elements, whose names begin like an element's.
_NO_ELEMENT = re.compile(
    r"va|vac|vacancy|void|hole|site|peak|pos|dum|dummy|du|re|tm|ree|ln|cat|ani|cen|me|lp",
    re.IGNORECASE,
)
_WITH_HYDROGEN = re.compile(r"(?:O-?H|OW|H2O|HOH|D2O|WAT|NH[2-4])(?![a-z])", re.IGNORECASE)
_TYPE = re.compile(r"([A-Za-z]{1,2})[^A-Za-z(]*(?:\(.*\))?")


@dataclass(frozen=True)
class Site:
    """An atom of the asymmetric unit, numbers as the file writes them.

    Attributes:
        element: symbol; ``D`` for deuterium.
        type_symbol: the same, or with its charge.
        place: fractional coordinates.
        occupancy: 1 where none is stated.
    """

    element: str
    type_symbol: str
    place: tuple[str, ...]
    occupancy: str


@dataclass(frozen=True)
class Symmetry:
    """What a block says of its symmetry.

    Attributes:
        settings: lists of operations that it may mean, usually one.
        group: in words, for a message.
        doubt: reason to refuse the structure unless formula and Z confirm its atoms, or "".
    """

    settings: tuple[tuple[str, ...], ...] = (("x,y,z",),)
    group: str = "P 1"
    doubt: str = ""


@dataclass(frozen=True)
class CifStructure:
    """A block as it is to be built.

    Attributes:
        cell: lengths and angles as written.
        sites: atoms of the asymmetric unit.
        charges: type symbols and their oxidation numbers.
        symmetry: with a doubt about symmetry or hydrogens.
        stated: what the file says about the whole.
        n_sites: atoms in the cell by the sites' multiplicities; 0 where not given.
    """

    cell: tuple[str, ...]
    sites: tuple[Site, ...]
    charges: tuple[tuple[str, str], ...]
    symmetry: Symmetry
    stated: Stated
    n_sites: float

    def text(self) -> str:
        """Return CIF text with nothing but the cell and the atoms of the asymmetric unit."""
        cell = [f"{tag} {value}" for tag, value in zip(_LATTICE, self.cell, strict=True)]
        loops = []
        if self.charges:
            loops += ["loop_", "_atom_type_symbol", "_atom_type_oxidation_number"]
            loops += [f"{symbol} {charge}" for symbol, charge in self.charges]
        loops += ["loop_", "_atom_site_label", "_atom_site_type_symbol", *FRACT]
        loops += ["_atom_site_occupancy"]
        loops += [
            f"{s.element}{k} {s.type_symbol} {' '.join(s.place)} {s.occupancy}"
            for k, s in enumerate(self.sites)
        ]
        return "\n".join(["data_x", *cell, *loops, ""])


def read_structure(block: Block) -> CifStructure:
    """Return what a block says of cell, atoms and symmetry.

    Raises:
        UnusableError: it does not describe one crystal.
    """
    if block.problem:
        raise UnusableError(block.problem)
    cell, parameters = _read_cell(block)
    stated = _read_stated(block)
    sites = tuple(_read_sites(block, stated.formula))
    if not sites:
        raise UnusableError("structure is missing: no atoms")
    if any(site.element == "D" for site in sites):  # which of H and D was weighed is not said
        stated = replace(stated, density=None, weight=None)
    symmetry = _read_symmetry(block, parameters)
    symbols = block.values.get("_atom_type_symbol", [])
    numbers = block.values.get("_atom_type_oxidation_number", [])
    charges = zip(symbols, numbers, strict=True) if len(symbols) == len(numbers) else ()
    times = map(read_number, block.values.get("_atom_site_symmetry_multiplicity", []))
    return CifStructure(
        cell=cell,
        sites=sites,
        charges=tuple((s, n) for s, n in charges if re.fullmatch(r"[A-Za-z0-9.+-]+", s + n)),
        symmetry=replace(symmetry, doubt=symmetry.doubt or _hydrogen_doubt(block, sites)),
        stated=stated,
        n_sites=sum(number.value for number in times if number),
    )


def _read_cell(block: Block) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Give the cell's lengths and angles, as written and as numbers."""
    texts = [block.one(tag) or _implied(block, tag) for tag in _LATTICE]
    numbers = tuple(_required(text, tag) for text, tag in zip(texts, _LATTICE, strict=True))
    if _value(block, "_cell_modulation_dimension"):
        raise UnusableError("unreadable CIF: a modulated structure has no cell that repeats")
    return tuple(map(_without_spread, texts)), numbers


def _matrix(cell: tuple[float, ...]) -> NDArray[np.float64]:
    from pymatgen.core import Lattice

    return np.asarray(Lattice.from_parameters(*cell).matrix, dtype=np.float64)


def _required(text: str, tag: str) -> float:
    number = read_number(text)
    if number is None:
        problem = f"{tag} is {quoted(text)}, expected a number" if text else f"no {tag}"
        raise UnusableError(f"unreadable CIF: {problem}")
    return number.value


def _implied(block: Block, tag: str) -> str:
    """Give a length or an angle of which the crystal system leaves no choice, "" otherwise."""
    system = block.one(*_SYSTEM).lower()
    if tag.startswith("_cell_length"):
        is_equal = system == "cubic" or (tag[-1] == "b" and system in ("tetragonal", "hexagonal"))
        return block.one("_cell_length_a") if is_equal else ""
    if system == "hexagonal" and tag == "_cell_angle_gamma":
        return "120"
    is_right = system in ("orthorhombic", "tetragonal", "hexagonal", "cubic")
    return "90" if is_right or (system == "monoclinic" and tag != "_cell_angle_beta") else ""


def _read_stated(block: Block) -> Stated:
    formulas = block.every("_chemical_formula_sum") or block.every("_chemical_formula_structural")
    units = _value(block, "_cell_formula_units_z")
    return Stated(
        formula=read_formula(formulas[0]) if formulas else None,
        units=units if units and units > 0.0 else None,
        volume=_positive(block, "_cell_volume"),
        density=_positive(block, "_exptl_crystal_density_diffrn"),
        weight=_positive(block, "_chemical_formula_weight"),
    )


def _positive(block: Block, tag: str) -> Number | None:
    number = read_number(block.one(tag))
    return number if number and number.value > 0.0 else None


def _value(block: Block, tag: str) -> float | None:
    number = read_number(block.one(tag))
    return None if number is None else number.value


def _read_sites(block: Block, formula: Formula | None) -> Iterator[Site]:
    n = len(block.values.get(FRACT[0], []))
    names = ("label", "type_symbol", "occupancy", "calc_flag")
    columns = [block.values.get(f"_atom_site_{name}", [""] * n) for name in names]
    columns += [block.values.get(tag, []) for tag in FRACT]
    if any(len(column) != n for column in columns):
        raise UnusableError("unreadable CIF: the columns of the atoms differ in length")
    for label, kind, occupancy, flag, *place in zip(*columns, strict=True):
        if flag.lower() == "dum":
            continue  # by the dictionary a dummy site with meaningless coordinates: no atom
        element = _element_of(label, "" if kind in NULL else kind, formula)
        name = quoted(label or kind)
        if any(read_number(text) is None for text in place):
            problem = f"the coordinates of site {name} are {quoted(' '.join(place))}"
            raise UnusableError(f"unreadable CIF: {problem}, expected three numbers")
        charged = kind if re.fullmatch(rf"{element}\d*[+-]?\d*", kind) else element
        fractions = tuple(map(_without_spread, place))
        yield Site(element, charged, fractions, _read_occupancy(occupancy, name))


def _read_occupancy(text: str, name: str) -> str:
    """Give the occupancy; by the dictionary it is 1 where none is stated."""
    if text in ("", *NULL):
        return "1"
    number = read_number(text)
    if number is None or number.value < 0.0:
        problem = f"the occupancy of site {name} is {quoted(text)}, expected 0 to 1"
        raise UnusableError(f"unreadable CIF: {problem}")
    if number.value == 0.0:
        raise UnusableError(f"partial occupancy: the occupancy of site {name} is 0")
    return _without_spread(text)


def _without_spread(text: str) -> str:
    return text.partition("(")[0].strip()


def _element_of(label: str, kind: str, formula: Formula | None) -> str:
    """Give the element of a site by its type or, where it has none, by its label."""
    text = kind or label
    element = _of_type(kind, formula) if kind else _of_label(label, formula)
    if not element:
        where = f" (site {quoted(label)})" if kind and label and label != kind else ""
        raise UnusableError(f"{UNKNOWN_ELEMENT}: {quoted(text)} is no element{where}")
    return element


def _of_type(text: str, formula: Formula | None) -> str:
    found = _TYPE.fullmatch(text)
    if not found or _WITH_HYDROGEN.match(text):
        return ""
    is_group = found[1] in GROUP_NAMES and not _has(formula, found[1])
    return found[1].title() if found[1].title() in masses() and not is_group else ""


def _of_label(text: str, formula: Formula | None) -> str:
    """Give the element that a label begins with: ``Fe2``, ``FE2``, ``OA1`` and ``Oa`` have one."""
    if _WITH_HYDROGEN.match(text):
        return "N" if text[:1] in "Nn" else "O"  # refused if the hydrogens have no sites
    found = re.match(r"[A-Za-z]+", text)
    word = found[0] if found else ""
    two, one = word[:2].title(), word[:1].upper()
    if word[:2] in GROUP_NAMES:
        return two if _has(formula, two) else ""
    if _NO_ELEMENT.fullmatch(word) and word not in ("Re", "Tm"):
        return ""
    is_proper = word[1:2].islower()
    names = [name for name in (two, one) if name in masses()]
    if one == "D" and is_proper:
        names = [name for name in names if name != one]
    if not is_proper:  # CA may be calcium and may be carbon A
        names = [name for name in names if _has(formula, name)] or names
    return names[0] if names and (len(word) < 4 or not word[1:].islower() or formula) else ""


def _has(formula: Formula | None, symbol: str) -> bool:
    name = symbol.title()
    return formula is not None and ("H" if name == "D" else name) in formula.counts


def _hydrogen_doubt(block: Block, sites: tuple[Site, ...]) -> str:
    """Say which hydrogens the file names without giving them sites.

    Raises:
        UnusableError: it has no hydrogen sites at all.
    """
    attached = map(read_number, block.values.get("_atom_site_attached_hydrogens", []))
    n_attached = sum(number.value for number in attached if number)
    labels = block.values.get("_atom_site_label", [])
    named = next((label for label in labels if _WITH_HYDROGEN.match(label)), "")
    has_hydrogen = any(site.element in ("H", "D") for site in sites)
    if n_attached:
        doubt = f"{CONTRADICTION}: attached hydrogens without coordinates: {n_attached:g}"
        if not has_hydrogen:
            raise UnusableError(doubt)
        return doubt
    if named and not has_hydrogen:
        doubt = f"{UNKNOWN_ELEMENT}: {quoted(named)} is no element, its hydrogens have no sites"
        if not block.every("_atom_site_type_symbol"):
            raise UnusableError(doubt)
        return doubt
    return ""


def _read_symmetry(block: Block, cell: tuple[float, ...]) -> Symmetry:
    symbols, halls = block.every(*_SYMBOLS), block.every(*_HALLS)
    numbers = {int(n.value) for n in map(read_number, block.every(*_NUMBERS)) if n}
    if len(numbers) > 1:
        raise UnusableError(f"{UNCLEAR}: the file gives the numbers {sorted(numbers)}")
    number = next(iter(numbers), None)
    group = quoted(next(iter([*symbols, *halls]), f"number {number}"))
    operations = _read_operations(block)
    if operations:
        return Symmetry((operations,), group, _operation_doubt(operations, symbols, number, cell))
    if symbols or halls or number is not None:
        code = block.one("_space_group_it_coordinate_system_code")
        is_choice = code.lower() in ("1", "2", "h", "r")
        symbols = [f"{s}:{code}" if is_choice and ":" not in s else s for s in symbols]
        found = find_settings(symbols, halls, number, _matrix(cell))
        return Symmetry(tuple(s.operations for s in found), group)
    tags = [t for t in block.values if t.startswith(("_symmetry_", "_space_group_"))]
    said = block.every(*(tag for tag in tags if not tag.endswith("_id")))
    said = [text for text in said if text.lower() != "triclinic"]
    multiple = [t for t in block.every("_atom_site_symmetry_multiplicity") if t not in ("1", "1.0")]
    if said or multiple:
        what = quoted(said[0]) if said else f"a site of multiplicity {quoted(multiple[0])}"
        return Symmetry(doubt=f"{UNCLEAR}: {what}, but neither operations nor a group")
    return Symmetry()


def _read_operations(block: Block) -> tuple[str, ...]:
    """Give the operations, those of a magnetic group without time reversal."""
    for tag in _OPERATIONS:
        if block.every(tag):
            return tuple(map(with_fractions, block.every(tag)))
    found = [with_fractions(text) for text in block.every("_space_group_symop_magn_operation_xyz")]
    shifts = block.every("_space_group_symop_magn_centering_xyz") or ["x,y,z"]
    both = [combine(text, with_fractions(shift)) for shift in shifts for text in found]
    return tuple(dict.fromkeys(both))


def _operation_doubt(
    texts: tuple[str, ...], symbols: list[str], number: int | None, cell: tuple[float, ...]
) -> str:
    """Say what speaks against the operations of a file.

    Raises:
        UnusableError: there are too many, or one is none.
    """
    if len(texts) > _MOST:
        raise UnusableError(f"{UNCLEAR}: {len(texts)} operations, no group has more than {_MOST}")
    operations = read_operations(texts)
    n = len(operations.rotations)
    if not is_group(texts):
        return f"{UNCLEAR}: its {n} operations are not a group, some are missing"
    if n > 1 and not operations.fit(_matrix(cell)):
        return f"{UNCLEAR}: its operations do not fit the cell's lengths and angles"
    sizes, orders = stated_orders(tuple(symbols), number)
    if (sizes and n not in sizes) or (orders and operations.n_rotations not in orders):
        shown = quoted(symbols[0]) if symbols else f"number {number}"
        return f"{UNCLEAR}: {n} operations are not those of {shown}"
    return ""
