"""CIF text to blocks: CIF 1.1 and 2.0, in whatever encoding."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from raymat.data.stated import CONTRADICTION, UnusableError

_TOKEN = re.compile(
    r"""^;(.*?)(?:^;|\Z) | \#[^\n]* | (?:'''(.*?)'''|\"""(.*?)\""")
    | '([^\n]{0,1024}?)'(?=\s|\Z) | "([^\n]{0,1024}?)"(?=\s|\Z) | (\S+)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_BARE = 6  # the group of a word without quotes
NULL = (".", "?")
_KEPT = (
    "_cell_", "_symmetry_", "_space_group", "_atom_site_", "_atom_type_",
    "_chemical_formula_", "_exptl_crystal_density_diffrn",
)  # fmt: skip
FRACT = tuple(f"_atom_site_fract_{x}" for x in "xyz")


@dataclass
class Block:
    """What follows one ``data_``: its name, and values by tag, each a list as if in a loop."""

    name: str
    values: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""

    @property
    def is_structure(self) -> bool:
        """Whether it places atoms: other blocks are remarks, powder patterns or bare cells."""
        return any(tag in self.values for tag in FRACT)

    def one(self, *tags: str) -> str:
        """Return the first value of these tags that is stated, "" for none."""
        return next(iter(self.every(*tags)), "")

    def every(self, *tags: str) -> list[str]:
        """Return the stated values of these tags, each once."""
        found = [v.strip() for tag in tags for v in self.values.get(tag, [])]
        return [v for v in dict.fromkeys(found) if v and v not in NULL]

    def add(self, tag: str, values: list[str]) -> None:
        """Take the values of a tag; a second time only if they are the same."""
        if self.values.setdefault(tag, values) != values:
            self.problem = self.problem or f"{CONTRADICTION}: {tag} stands twice in the block"


def decode(content: bytes) -> str:
    """Return a file's text: UTF-8, UTF-16 or, where it is neither, Latin-1.

    Raises:
        UnusableError: it is no text.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif content[1:2] == b"\0" or content[:1] == b"\0":
        encodings = ["utf-16-be" if content[:1] == b"\0" else "utf-16-le"]
    else:
        encodings = ["utf-8-sig", "latin-1"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UnusableError("unreadable file: it is no text")


def read_blocks(text: str) -> list[Block]:
    """Return the blocks of CIF text; of their values those that describe a structure."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\u2212", "-")
    blocks: list[Block] = []
    block, tag, columns, cells = Block(""), "", list[str](), list[str]()
    is_header = False
    for found in _TOKEN.finditer(text):
        if found.lastindex is None:
            continue  # a comment
        word = found[found.lastindex]
        start = word[:5].lower() if found.lastindex == _BARE else ""
        if word[:1] == "_" and start:
            if is_header:
                columns.append(_tag(word))
                continue
            _close(block, columns, cells)
            columns, cells, tag = [], [], _tag(word)
        elif start in ("data_", "loop_", "globa", "save_", "stop_"):
            _close(block, columns, cells)
            columns, cells, tag = [], [], ""
            is_header = start == "loop_"
            if start == "data_":
                block = Block(word[5:])
                blocks.append(block)
        elif columns or is_header:
            is_header = False
            cells.append(word)
        elif tag:
            _close(block, [tag], [word])
            tag = ""
    _close(block, columns, cells)
    return blocks


@lru_cache(maxsize=4096)
def _tag(word: str) -> str:
    """Give a tag as CIF 1 spells it, in small letters: CIF 2 writes ``_cell.length_a``."""
    return word.lower().replace(".", "_").replace("h_m", "h-m").rstrip("_")


def _close(block: Block, columns: list[str], cells: list[str]) -> None:
    """Give the values of a loop to its tags."""
    n = len(columns)
    for at, tag in enumerate(columns):
        if tag.startswith(_KEPT):
            if len(cells) % n:
                block.problem = f"unreadable CIF: the loop of {columns[0]} ends within a row"
            block.add(tag, cells[at::n])
