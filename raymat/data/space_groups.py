"""Space group symbols to symmetry operations: settings, origins, and whether a cell allows them."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from raymat.data.stated import UnusableError
from raymat.text import quoted

UNCLEAR = "unclear space group"
_ADVICE = "write the symmetry operations into the file"

_TERM = re.compile(r"([+-]?)(\d+(?:\.\d*)?(?:/\d+)?|\.\d+)?\*?([xyz]?)")
_DECIMAL = re.compile(r"\d*\.\d+")
_GRID = 24  # translations of tabulated groups are multiples of 1/24
_TRIED = 400  # operations whose products, 160,000, take 0.1 s
_ROUNDED = 2e-3  # 0.333 is 1/3
_METRIC = 0.03  # of a squared length; by how much operations may deform a cell
_AXES = ("", "ba-c", "cab", "-cba", "bca", "a-cb")  # spglib's names of orthorhombic settings
_BEFORE_1992 = {  # the names of these settings before the glide plane e was introduced
    39: "Abm2 Bma2 B2cm C2mb Cm2a Ac2m",
    41: "Aba2 Bba2 B2cb C2cb Cc2a Ac2a",
    64: "Cmca Ccmb Abma Acam Bbcm Bmab",
    67: "Cmma Cmmb Abmm Acmm Bmcm Bmam",
    68: "Ccca Cccb Abaa Acaa Bbcb Bbab",
}
_ORIGINS = {"s": "1", "z": "2"}  # as the inorganic database writes them


@dataclass(frozen=True)
class Setting:
    """One setting of a space group.

    Attributes:
        name: Hermann-Mauguin symbol, with ``:1``, ``:2``, ``:H`` or ``:R`` where there are two.
        number: of the space group, 1 to 230.
        operations: such as ``-x,y+1/2,-z``.
    """

    name: str
    number: int
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Operations:
    """Symmetry operations as numbers.

    Attributes:
        rotations: (n, 3, 3) int64.
        translations: (n, 3) fractions of the cell.
        n_rotations: different ones: the order of the point group.
    """

    rotations: NDArray[np.int64]
    translations: NDArray[np.float64]
    n_rotations: int

    def fit(self, lattice: NDArray[np.float64]) -> bool:
        """Return whether the operations leave a cell as it is."""
        metric = lattice @ lattice.T
        moved = np.einsum("nji,jk,nkl->nil", self.rotations, metric, self.rotations)
        lengths = np.sqrt(np.diag(metric))
        return bool(np.all(np.abs(moved - metric) <= _METRIC * np.outer(lengths, lengths)))


def find_settings(
    symbols: Sequence[str],
    halls: Sequence[str],
    number: int | None,
    lattice: NDArray[np.float64],
) -> list[Setting]:
    """Return the settings that all of these may mean and that a cell allows.

    Args:
        symbols: Hermann-Mauguin symbols.
        halls: Hall symbols.
        number: of the space group.
        lattice: (3, 3) rows are a, b, c.

    Raises:
        UnusableError: a symbol is unknown, they do not belong together, or none fits the cell.
    """
    named = [_named(symbol) for symbol in symbols]
    by_hall = [_table().halls.get(_hall_key(hall), []) for hall in halls]
    shown = ", ".join(map(quoted, dict.fromkeys([*symbols, *halls]))) or f"number {number}"
    known = [found for found in (*named, *by_hall) if found]
    if (symbols or halls) and not known:
        raise UnusableError(f"{UNCLEAR}: {shown} is no known symbol; {_ADVICE}")
    if number is not None and not known:
        known = [_standard(number)]
    common = [s for s in known[0] if all(s in others for others in known[1:])]
    common = [s for s in common if number is None or s.number == number]
    if not common:
        also = "" if number is None or not known[0] else f" and number {number}"
        raise UnusableError(f"{UNCLEAR}: {shown}{also} name no one group; {_ADVICE}")
    fitting = [s for s in common if read_operations(s.operations).fit(lattice)]
    if not fitting:
        raise UnusableError(f"{UNCLEAR}: {shown} does not fit the cell's lengths and angles")
    # With all angles 90 degrees every axis could be the unique one: b is, by convention.
    is_axis_b = [s for s in fitting if re.match(r"\S 1 \S+ 1$", s.name)]
    return is_axis_b if len(fitting) > 1 and is_axis_b else fitting


@lru_cache(maxsize=1024)
def stated_orders(symbols: tuple[str, ...], number: int | None) -> tuple[set[int], set[int]]:
    """Return how many operations and how many rotations the stated group may have.

    A set is empty where nothing that is known is stated.
    """
    sizes = {len(s.operations) for symbol in symbols for s in _named(symbol)}
    standard = [] if number is None else _standard(number)
    return sizes, {read_operations(s.operations).n_rotations for s in standard}


@lru_cache(maxsize=256)
def read_operations(texts: tuple[str, ...]) -> Operations:
    """Return operations as numbers, each once.

    Raises:
        UnusableError: one cannot be read.
    """
    found = dict.fromkeys(map(_operation, texts))
    rotations = np.array([rotation for rotation, _ in found], dtype=np.int64)
    translations = np.array([shift for _, shift in found], dtype=np.float64)
    return Operations(rotations.reshape(-1, 3, 3), translations, len({r for r, _ in found}))


@lru_cache(maxsize=256)
def is_group(texts: tuple[str, ...]) -> bool:
    """Return whether every product of two operations is one of them; not tried for many."""
    operations = read_operations(texts)
    rotations = operations.rotations
    if len(rotations) > _TRIED:
        return True
    shifts = np.rint(operations.translations * 720.0).astype(np.int64)
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 3, 3)
    moved = (np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None, :]).reshape(-1, 3)
    return set(_keys(products, moved)) <= set(_keys(rotations, shifts))


def with_fractions(text: str) -> str:
    """Return an operation without spaces, its decimals as fractions: 0.333 as 1/3."""
    return _DECIMAL.sub(_as_fraction, "".join(text.split()).lower())


def combine(operation: str, shift: str) -> str:
    """Return an operation followed by a translation such as ``x+1/2,y,z``."""
    parts = [re.sub(r"[xyz]", "", part, count=1) for part in shift.split(",")[:3]]
    pairs = zip(operation.split(",")[:3], parts, strict=True)
    return ",".join(f"{one}{more if more[:1] in '+-' else '+' + more}" for one, more in pairs)


def _as_fraction(found: re.Match[str]) -> str:
    value = float(found.group())
    near = Fraction(round(value * _GRID), _GRID)
    return str(near) if abs(value - near) < _ROUNDED else found.group()


@lru_cache(maxsize=4096)
def _operation(text: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    parts = with_fractions(text).split(",")
    rotation, shift = [0] * 9, [0.0] * 3
    for row, part in enumerate(parts if len(parts) == 3 else []):
        terms = [term for term in _TERM.finditer(part) if term.group()]
        if "".join(term.group() for term in terms) != part:
            break
        for term in terms:
            size = Fraction(term[2].rstrip(".")) if term[2] else Fraction(1)
            value = -size if term[1] == "-" else size
            if term[3] and value.denominator == 1:
                rotation[3 * row + "xyz".index(term[3])] += int(value)
            elif term[2] and not term[3]:
                shift[row] = (shift[row] + float(value)) % 1.0
    if round(abs(float(np.linalg.det(np.reshape(rotation, (3, 3)))))) != 1:
        raise UnusableError(f"unreadable CIF: {quoted(text)} is no symmetry operation")
    return tuple(rotation), tuple(shift)


def _keys(rotations: NDArray[np.int64], shifts: NDArray[np.int64]) -> list[int]:
    turns = (rotations.reshape(-1, 9) + 2) @ (5 ** np.arange(9, dtype=np.int64))
    moves = (shifts % 720) @ np.array([1, 720, 720**2], dtype=np.int64)
    keys: list[int] = (turns + moves * 5**9).tolist()
    return keys


@dataclass(frozen=True)
class _Table:
    """Settings by symbol, without spaces and in small letters, by Hall symbol and by number."""

    symbols: dict[str, list[Setting]]
    halls: dict[str, list[Setting]]
    numbers: dict[int, list[Setting]]


@cache
def _table() -> _Table:
    """Read pymatgen's table of settings; spglib adds the other names of a setting."""
    content = (files("pymatgen.symmetry") / "symm_ops.json").read_text(encoding="utf-8")
    aliases = _aliases()
    table = _Table({}, {}, {})
    for row in json.loads(content):
        name, number = row["universal_h_m"].strip(), int(row["number"])
        setting = Setting(name, number, tuple(row["symops"]))
        table.halls.setdefault(_hall_key(row["hall"]), []).append(setting)
        names = {name}
        if "(" not in name:  # a shifted or enlarged cell has no short name
            table.numbers.setdefault(number, []).append(setting)
            names |= {name.partition(":")[0], row["hermann_mauguin_u"], row["short_h_m"]}
            names |= aliases.get(_hall_key(row["hall"]), set())
        for key in dict.fromkeys(map(_symbol_key, sorted(names))):
            table.symbols.setdefault(key, []).append(setting)
            if number >= 200 and "-3" in key:  # m3m, as it was written before 1983
                table.symbols.setdefault(key.replace("-3", "3"), []).append(setting)
    return table


@cache
def _aliases() -> dict[str, set[str]]:
    """Return Hall symbol -> other names: ``F 4/m -3 2/m``, and ``Cmca`` of ``C m c e``."""
    import spglib

    found: dict[str, set[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its change of error style
        rows = [spglib.get_spacegroup_type(hall) for hall in range(1, 531)]
    for row in rows:
        if (
            row is not None and row.number > 15
        ):  # of monoclinic groups they name the group, not the setting
            old = dict(zip(_AXES, _BEFORE_1992.get(row.number, "").split(), strict=False))
            names = {row.international_full, old.get(row.choice.lstrip("12"), "")} - {""}
            suffix = f":{row.choice[0]}" if row.choice[:1] in ("1", "2", "H", "R") else ""
            both = {f"{name}{end}" for name in names for end in ("", suffix)}
            found.setdefault(_hall_key(row.hall_symbol), set()).update(both)
    return found


@lru_cache(maxsize=1024)
def _named(symbol: str) -> list[Setting]:
    return _table().symbols.get(_symbol_key(symbol), [])


def _standard(number: int) -> list[Setting]:
    """Give the settings that are tabulated first, one for each origin or set of axes."""
    every = _table().numbers.get(number, [])
    if not every:
        raise UnusableError(f"{UNCLEAR}: number {number}, expected 1 to 230")
    first = every[0].name.partition(":")[0]
    return [s for s in every if s.name.partition(":")[0] == first]


def _symbol_key(symbol: str) -> str:
    bare = re.sub(r"<[^>]*>|[\s_]|\((?=\d\))|(?<=\(\d)\)", "", symbol.strip("'\" ")).lower()
    bare, _, suffix = bare.partition(":")
    if not suffix and (found := re.fullmatch(r"(r.*?)(h|r|hr)|(.+?)(s|z)", bare)):
        bare, suffix = (found[1], found[2][0]) if found[1] else (found[3], found[4])
    suffix = _ORIGINS.get(suffix, suffix)
    return f"{bare}:{suffix}" if suffix else bare


def _hall_key(symbol: str) -> str:
    return re.sub(r"[\s_]", "", symbol).replace("''", '"').lower()
