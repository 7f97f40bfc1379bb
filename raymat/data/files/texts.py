"""The text of a file to its structures, each with the id and the properties it brings along."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from raymat.data.cif_text import decode
from raymat.data.files.formats import Format
from raymat.data.files.split import SplitError, split_xyz
from raymat.data.raw import ParsedStructure
from raymat.data.stated import (
    CONTRADICTION,
    GROUP_NAMES,
    UNKNOWN_ELEMENT,
    UnusableError,
    contradiction_beside,
    masses,
    not_periodic,
    read_number,
    symbol_of,
)
from raymat.data.structure_parser import (
    PARSER_ERRORS,
    atomic_number,
    parse_cell,
    parse_cif_blocks,
    short_problem,
)
from raymat.text import quoted

if TYPE_CHECKING:
    from ase import Atoms

Scalar = bool | int | float | str
NO_CELL = "no cell: a molecule without a lattice is no crystal"
_NO_VOLUME = "singular lattice: the cell has no volume"
_DIGITS = 9  # of a number of atoms
_PROPERTIES = re.compile(r"""Properties=["']?([^\s"']+)""")
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
    except UnusableError as cause:
        return [Found(str(cause))]
    except Exception as cause:  # noqa: BLE001  parsers raise anything; a million files must go on
        return [Found(f"unreadable file: {short_problem(cause)}")]
    return found or [Found("structure is missing: the file is empty")]


def _read_cif(content: bytes) -> Iterator[Found]:
    yield from (Found(structure, name) for name, structure in parse_cif_blocks(content))


def _read_poscar(content: bytes) -> Iterator[Found]:
    from pymatgen.io.vasp import Poscar

    lines = decode(content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if problem := _poscar_problem(lines):
        yield Found(problem)
        return
    try:
        text = "\n".join([*lines[:1], _scale(lines), *lines[2:]])
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


def _scale(lines: list[str]) -> str:
    """Give the scale; a negative one is the cell's volume, also for Cartesian coordinates."""
    scale = float(lines[1])
    if scale >= 0.0:
        return lines[1]
    matrix = np.array([line.split()[:3] for line in lines[2:5]], dtype=np.float64)
    return repr(float((-scale / abs(np.linalg.det(matrix))) ** (1.0 / 3.0)))


def _poscar_problem(lines: list[str]) -> str:
    """Compare names, counts and coordinates; pymatgen would make room for all that are counted."""
    words = [line.partition("#")[0].split() for line in lines]
    names, counts, at = list[str](), list[str](), 5
    while at < len(words) and words[at] and not words[at][0].isdecimal():
        names, at = names + words[at], at + 1
    while at < len(words) and words[at] and all(map(str.isdecimal, words[at])):
        counts, at = counts + words[at], at + 1
    if any(len(word) > _DIGITS or int(word) > len(lines) for word in counts):
        return "unreadable POSCAR: it counts more atoms than it has lines"
    names = [re.split("[/_]", name)[0] for name in names]
    unknown = [name for name in names if name not in masses()]
    if not counts or at == len(words):
        return ""  # whatever is missing, pymatgen says so
    if names and len(names) != len(counts):
        return f"{CONTRADICTION}: {len(names)} elements are named, {len(counts)} are counted"
    if unknown:
        return f"{UNKNOWN_ELEMENT}: {quoted(unknown[0])} is no element"
    is_selective = words[at][:1] and words[at][0][:1] in ("S", "s")
    start, end = at + 1 + bool(is_selective), 6 if is_selective else 3
    n_atoms = sum(map(int, counts))
    rows, after = words[start : start + n_atoms], words[start + n_atoms : start + n_atoms + 1]
    is_more = after and len(after[0]) >= 3 and all(map(read_number, after[0][:3]))
    if is_more or len(rows) < n_atoms or not all(rows):
        found = "more" if is_more else "fewer"
        return f"{CONTRADICTION}: its counts sum to {n_atoms}, {found} coordinates follow"
    every = [name for name, n in zip(names, counts, strict=False) for _ in range(int(n))]
    for name, row in zip(every, rows, strict=False):
        if len(row) == end + 1 and row[end] in masses() and row[end] != name:
            return f"{CONTRADICTION}: an atom counted as {name} is called {row[end]} in its line"
    return ""


def _read_xyz(content: bytes) -> Iterator[Found]:
    try:
        for frame in split_xyz(io.BytesIO(decode(content).encode())):
            yield _read_frame(frame)
    except SplitError as cause:
        yield Found(str(cause))


def _read_frame(frame: bytes) -> Found:
    from ase.io.extxyz import read_xyz

    if _TOO_WIDE.search(frame.split(b"\n", 2)[1]):
        return Found("unreadable xyz: its Properties name more than 999 columns")
    try:
        lines = decode(frame).split("\n")
        column = _symbol_column(lines[1])
        symbols = [] if column is None else [line.split()[column] for line in lines[2:] if line]
        if "D" in symbols:  # deuterium is hydrogen, which ASE does not know
            lines[2:] = [_with_hydrogen(line, column) for line in lines[2:] if line]
        atoms = next(read_xyz(io.StringIO("\n".join(lines)), index=0))
    except (*PARSER_ERRORS, OSError, StopIteration) as cause:
        return Found(f"unreadable xyz: {short_problem(cause)}")
    results = {} if atoms.calc is None else atoms.calc.results
    properties = scalars({**atoms.info, **results})
    name = str(properties.pop("material_id", ""))
    structure = _symbol_problem(symbols, atoms) or parse_atoms(atoms)
    return Found(compared(structure, properties), name, properties)


def _symbol_column(comment: str) -> int | None:
    """Give the place of the symbols in a frame's lines, None where there are none."""
    layout = _PROPERTIES.search(comment)
    parts = (layout[1] if layout else "species:S:1").split(":")
    widths = dict(zip(parts[::3], map(int, parts[2::3]), strict=True))
    names = list(widths)
    at = names.index("species") if "species" in names else None
    return None if at is None else sum(widths[name] for name in names[:at])


def _with_hydrogen(line: str, column: int | None) -> str:
    words = line.split()
    return " ".join("H" if k == column and w == "D" else w for k, w in enumerate(words))


def _symbol_problem(symbols: list[str], atoms: "Atoms") -> str:
    """Say which symbol of a frame is no element or another than its number; ASE changes case."""
    for symbol, number in zip(symbols, atoms.numbers.tolist(), strict=False):
        if number == 0 or symbol in GROUP_NAMES:
            return f"{UNKNOWN_ELEMENT}: {quoted(symbol)} is no element"
        if symbol.capitalize() != symbol_of(number) and symbol != "D":
            return f"{CONTRADICTION}: an atom is {quoted(symbol)} and has the number {number}"
    return ""


def compared(
    structure: ParsedStructure | str, properties: Mapping[str, Scalar]
) -> ParsedStructure | str:
    """Give a structure that agrees with formula and number of atoms beside it, or a reason."""
    if isinstance(structure, str):
        return structure
    return contradiction_beside(structure, properties) or structure


def parse_atoms(atoms: "Atoms") -> ParsedStructure | str:
    """Give the numbers of ASE's atoms, or why they are no crystal."""
    cell = np.array(atoms.cell, dtype=np.float64)
    if not np.any(cell) and not np.any(atoms.pbc):
        return NO_CELL
    if problem := not_periodic(atoms.pbc):
        return problem
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
        structure = compared(parse_cell(record["structure"]), properties)
        return Found(structure, name, properties)
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
