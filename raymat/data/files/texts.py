"""The text of a file to its structures, each with the id and the properties it brings along."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from raymat.data.files.formats import Format
from raymat.data.files.split import SplitError, block_name, has_cell, split_cif, split_xyz
from raymat.data.raw import ParsedStructure
from raymat.data.structure_parser import (
    PARSER_ERRORS,
    atomic_number,
    parse_cell,
    parse_cif,
    short_problem,
)

if TYPE_CHECKING:
    from ase import Atoms

Scalar = bool | int | float | str
NO_CELL = "no cell: a molecule without a lattice is no crystal"
_NO_VOLUME = "singular lattice: the cell has no volume"
_DIGITS = 9  # of a number of atoms
_TOO_WIDE = re.compile(rb":[SRILsril]:\d{4}")  # ASE would count them one by one, without end
_MIN_VOLUME = 1e-3  # Å^3, as in the checks of every row


@dataclass(frozen=True)
class Found:
    """One structure of a file, or why it is none.

    Attributes:
        structure: numbers, or a reason ``kind: detail``.
        name: the id it brings along, "" for none.
        properties: single numbers, words and booleans that stand with it.
    """

    structure: ParsedStructure | str
    name: str = ""
    properties: Mapping[str, Scalar] = field(default_factory=dict)


def parse_text(content: bytes, kind: Format) -> list[Found]:
    """Give every structure of a file; there is at least one, or a reason in its place."""
    try:
        found = list(_READERS[kind](content))
    except Exception as cause:  # noqa: BLE001  parsers raise anything; a million files must go on
        return [Found(f"unreadable file: {short_problem(cause)}")]
    return found or [Found("structure is missing: the file is empty")]


def _read_cif(content: bytes) -> Iterator[Found]:
    try:
        blocks = [block for block in split_cif(io.BytesIO(content)) if has_cell(block)]
    except SplitError as cause:
        yield Found(str(cause))
        return
    for block in blocks or [content]:  # the other blocks are remarks: nobody's structures
        yield Found(parse_cif(block.decode("utf-8", errors="replace")), block_name(block))


def _read_poscar(content: bytes) -> Iterator[Found]:
    from pymatgen.io.vasp import Poscar

    text = content.decode("utf-8", errors="replace")
    if _claims_too_many(text.split("\n")):
        yield Found("unreadable POSCAR: it counts more atoms than it has lines")
        return
    try:
        poscar = Poscar.from_str(text, read_velocities=False)
        structure = poscar.structure
        parsed = ParsedStructure(
            lattice=np.array(structure.lattice.matrix, dtype=np.float64),
            atomic_numbers=np.array([atomic_number(s.specie.symbol) for s in structure], np.int64),
            frac_coords=np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3),
        )
    except (*PARSER_ERRORS, UserWarning) as cause:
        yield Found(f"unreadable POSCAR: {short_problem(cause)}")
        return
    if not poscar.true_names:  # pymatgen would call them H, He, Li in turn
        yield Found("unreadable POSCAR: it does not name its elements (VASP 4); add their line")
        return
    yield Found(parsed)


def _claims_too_many(lines: list[str]) -> bool:
    """Say whether the counts of atoms are beyond reason: pymatgen would make room for them all."""
    counts: list[str] = []
    for words in map(str.split, lines[5:]):
        is_counts = bool(words) and all(map(str.isdecimal, words))
        if counts and not is_counts:
            break
        counts += words if is_counts else []
    return any(len(word) > _DIGITS or int(word) > len(lines) for word in counts)


def _read_xyz(content: bytes) -> Iterator[Found]:
    try:
        for frame in split_xyz(io.BytesIO(content)):
            yield _read_frame(frame)
    except SplitError as cause:
        yield Found(str(cause))


def _read_frame(frame: bytes) -> Found:
    from ase.io.extxyz import read_xyz

    if _TOO_WIDE.search(frame.split(b"\n", 2)[1]):
        return Found("unreadable xyz: its Properties name more than 999 columns")
    try:
        text = io.StringIO(frame.decode("utf-8", errors="replace"))
        atoms = next(read_xyz(text, index=0))
    except (*PARSER_ERRORS, OSError, StopIteration) as cause:
        return Found(f"unreadable xyz: {short_problem(cause)}")
    results = {} if atoms.calc is None else atoms.calc.results
    properties = scalars({**atoms.info, **results})
    name = str(properties.pop("material_id", ""))
    return Found(parse_atoms(atoms), name, properties)


def parse_atoms(atoms: "Atoms") -> ParsedStructure | str:
    """Give the numbers of ASE's atoms, or why they are no crystal."""
    cell = np.array(atoms.cell, dtype=np.float64)
    if not np.any(cell) and not np.any(atoms.pbc):
        return NO_CELL
    if not np.all(atoms.pbc):
        found = " ".join("T" if axis else "F" for axis in atoms.pbc)
        return f"not periodic: pbc is {found}, a crystal repeats in three directions"
    if not abs(np.linalg.det(cell)) >= _MIN_VOLUME:
        return _NO_VOLUME
    return ParsedStructure(
        lattice=cell,
        atomic_numbers=np.array(atoms.numbers, dtype=np.int64),
        frac_coords=np.linalg.solve(cell.T, atoms.positions.T).T,
    )


def _read_json(content: bytes) -> Iterator[Found]:
    try:
        loaded = json.loads(content)
    except (ValueError, RecursionError) as cause:
        yield Found(f"unreadable structure: {short_problem(cause)}")
        return
    records = loaded if isinstance(loaded, list) else [loaded]
    yield from (_read_record(record) for record in records)


def _read_record(record: Any) -> Found:
    """Read a pymatgen dictionary, or one that holds it as ``structure`` beside properties."""
    if not isinstance(record, dict):
        found = type(record).__name__
        return Found(f"unreadable structure: expected a pymatgen dictionary, not a {found}")
    if "structure" in record:
        properties = scalars({k: v for k, v in record.items() if not k.startswith("@")})
        name = str(properties.pop("material_id", ""))
        return Found(parse_cell(record["structure"]), name, properties)
    if "sites" in record and "lattice" not in record:
        return Found(NO_CELL)
    own = record.get("properties")
    return Found(parse_cell(record), properties=scalars(own if isinstance(own, dict) else {}))


def scalars(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Give the single numbers, words and booleans; arrays and the like make no column."""
    plain = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    return {k: v for k, v in plain.items() if isinstance(v, bool | int | float | str)}


_READERS: dict[Format, Callable[[bytes], Iterator[Found]]] = {
    "cif": _read_cif,
    "poscar": _read_poscar,
    "xyz": _read_xyz,
    "json": _read_json,
}
