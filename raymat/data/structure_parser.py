"""CIF text and pymatgen dictionaries to numbers."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from raymat.data.cif import CifStructure, read_structure
from raymat.data.cif_text import Block, decode, read_blocks
from raymat.data.distances import find_close_atoms
from raymat.data.raw import ParsedStructure, RawCrystals, split_off_ids
from raymat.data.space_groups import UNCLEAR
from raymat.data.stated import (
    UNKNOWN_ELEMENT,
    Number,
    Stated,
    UnusableError,
    confirms,
    contradiction,
    contradiction_beside,
    not_periodic,
)
from raymat.errors import DataError
from raymat.text import quoted

# What parsers raise on broken text: ValueError and NotImplementedError, which is a RuntimeError, on
# purpose, the others where a loop or a number is cut off.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
TEXT_COLUMNS = ("structure", "cif")


def read_structure_table(table: pd.DataFrame, *, where: str, first_row: int = 0) -> RawCrystals:
    """Parse the ``structure`` (or else the ``cif``) column of a table, row by row.

    A cell is CIF text, a pymatgen dictionary (as Matbench writes them), or the latter as JSON text.
    `first_row` is the number in the source of the table's first row.

    Raises:
        DataError: the table has neither column.
    """
    names = [name for name in TEXT_COLUMNS if name in table.columns]
    if not names:
        found = ", ".join(map(str, table.columns[:12])) or "no columns"
        wanted = "'cif', 'structure', or 'lattice' with 'atomic_numbers' and 'frac_coords'"
        raise DataError(f"{where}: no structure column; expected {wanted}, found {found}")
    ids, rest = split_off_ids(table.drop(columns=names), first_row=first_row)
    with quiet_pymatgen():
        parsed = [parse_cell(cell) for cell in table[names[0]].tolist()]
    return RawCrystals.from_parsed(ids, parsed, rest)


def parse_cell(cell: object) -> ParsedStructure | str:
    """Give the structure in one table cell, or why there is none."""
    if isinstance(cell, dict):
        return _guarded_dict(cell)
    if not isinstance(cell, str) or not cell.strip():
        return "structure is missing"
    if not cell.lstrip().startswith("{"):
        return parse_cif(cell)
    try:
        content = json.loads(cell)
    except (ValueError, RecursionError) as cause:
        return f"unreadable structure: {short_problem(cause)}"
    return _guarded_dict(content)


def parse_cif(content: str | bytes) -> ParsedStructure | str:
    """Return the one structure of a CIF, its cell as it stands, or why there is none."""
    found = parse_cif_blocks(content)
    if len(found) > 1:
        return f"several structures: the CIF holds {len(found)}, expected one"
    return found[0][1]


def parse_cif_blocks(content: str | bytes) -> list[tuple[str, ParsedStructure | str]]:
    """Return name and structure, or the reason in its place, of every block that places atoms."""
    try:
        blocks = read_blocks(content if isinstance(content, str) else decode(content))
    except UnusableError as cause:
        return [("", str(cause))]
    found = [(block.name, _build(block)) for block in blocks if block.is_structure]
    expected = "atoms with _atom_site_fract_x" if blocks else "a data_ block"
    return found or [("", f"unreadable CIF: it has no structure, expected {expected}")]


def _build(block: Block) -> ParsedStructure | str:
    """Build the setting that the block means and compare it with what the block states."""
    try:
        content = read_structure(block)
        text = content.text()
        found = [_by_pymatgen(text, operations) for operations in content.symmetry.settings]
    except UnusableError as cause:
        return str(cause)
    except PARSER_ERRORS as cause:
        return f"unreadable CIF: {short_problem(cause)}"
    verdicts = [_verdict(structure, content) for structure in found]
    if len(found) == 1:
        return verdicts[0]
    fitting = [v for v in verdicts if isinstance(v, ParsedStructure) and not _is_crowded(v)]
    same = [v for v in fitting if len(v.atomic_numbers) == content.n_sites]
    chosen = same if len(fitting) > 1 and len(same) == 1 else fitting
    if len(chosen) > 1:
        advice = "more than one setting fits, write the symmetry operations into the file"
        return f"{UNCLEAR}: {content.symmetry.group}: {advice}"
    return chosen[0] if chosen else verdicts[0]


def _verdict(structure: ParsedStructure | str, content: CifStructure) -> ParsedStructure | str:
    if isinstance(structure, str):
        return structure
    doubt = "" if confirms(structure, content.stated) else content.symmetry.doubt
    return contradiction(structure, content.stated) or doubt or structure


def _is_crowded(structure: ParsedStructure) -> bool:
    raw = RawCrystals.from_parsed(np.array(["x"], dtype=object), [structure], pd.DataFrame([{}]))
    return bool(find_close_atoms(raw, np.zeros(1, dtype=np.int64)))


def _by_pymatgen(text: str, operations: tuple[str, ...]) -> ParsedStructure | str:
    """Read plain CIF text: no other cell, sites in pymatgen's order."""
    from pymatgen.io.cif import CifParser

    parser: Any = CifParser.from_str(text, check_cif=False)
    parser.get_symops = lambda _: _symmetry_operations(operations)  # none stand in the text
    structure = parser.parse_structures(primitive=False, on_error="raise")[0]
    sites = [site.species for site in structure]
    if not all(_is_full([(s, n) for s, n in species.items()]) for species in sites):
        return _partial(sum(not _is_full(list(species.items())) for species in sites), len(sites))
    return ParsedStructure(
        lattice=np.array(structure.lattice.matrix, dtype=np.float64),
        atomic_numbers=np.array([atomic_number(next(iter(s)).symbol) for s in sites], np.int64),
        frac_coords=np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3),
    )


@lru_cache(maxsize=256)
def _symmetry_operations(texts: tuple[str, ...]) -> list[Any]:
    from pymatgen.core.operations import SymmOp

    return [SymmOp.from_xyz_str(text) for text in texts]


def _guarded_dict(content: dict[str, Any]) -> ParsedStructure | str:
    try:
        return _parse_dict(content)
    except PARSER_ERRORS as cause:
        return f"unreadable structure: {short_problem(cause)}"


def _parse_dict(content: dict[str, Any]) -> ParsedStructure | str:
    """Read `pymatgen.core.Structure.as_dict` directly: six times faster than by objects."""
    sites = content["sites"]
    species = [[(s["element"], s["occu"]) for s in site["species"]] for site in sites]
    n_partial = sum(not _is_full(entry) for entry in species)
    if n_partial:
        return _partial(n_partial, len(sites))
    lattice = content["lattice"]
    if problem := not_periodic(lattice.get("pbc", (True, True, True))):
        return problem
    numbers = [atomic_number(s[0][0]) for s in species]
    if 0 in numbers:
        return f"{UNKNOWN_ELEMENT}: {quoted(species[numbers.index(0)][0][0])} is no element"
    structure = ParsedStructure(
        lattice=np.array(_matrix(lattice), dtype=np.float64).reshape(3, 3),
        atomic_numbers=np.array(numbers, dtype=np.int64),
        frac_coords=np.array([site["abc"] for site in sites], dtype=np.float64).reshape(-1, 3),
    )
    volume = lattice.get("volume")
    stated = Stated(volume=Number(float(volume), 0.0) if volume else None)
    return contradiction(structure, stated) or contradiction_beside(structure, content) or structure


def _matrix(lattice: dict[str, Any]) -> Any:
    if "matrix" in lattice:
        return lattice["matrix"]
    from pymatgen.core import Lattice

    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return Lattice.from_parameters(*[lattice[name] for name in names]).matrix


def _is_full(species: list[tuple[Any, float]]) -> bool:
    # pymatgen's own tolerance for a site that counts as ordered.
    return len(species) == 1 and abs(species[0][1] - 1.0) <= 1e-8


def _partial(n_partial: int, n_sites: int) -> str:
    return f"partial occupancy: {n_partial} of {n_sites} sites are not one whole atom"


@cache
def atomic_number(symbol: str) -> int:
    """Give Z of an element symbol; 0 for a dummy or anything else that is no element."""
    from pymatgen.core import Element

    try:
        return int(Element(symbol).Z)
    except ValueError:
        return 0


@contextmanager
def quiet_pymatgen() -> Iterator[None]:
    """Keep the parser's warnings in: a row that matters is rejected with its reason."""
    logger = logging.getLogger("pymatgen")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def short_problem(error: Exception) -> str:
    """Give an exception's kind and words in one line of bounded length."""
    words = " ".join(f"{type(error).__name__} {error}".split())
    return words if len(words) <= 160 else words[:157] + "..."
