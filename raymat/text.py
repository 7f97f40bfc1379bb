"""Text that is not ours: ids, formulas, names and values as a file or a user wrote them.

Such text may hold control characters, which a terminal would obey, be far too long for a line, or
begin like a formula of a spreadsheet. What is shown to a person goes through `plain` or `quoted`,
and text cells of a CSV file through `csv_cell`.
"""

import re

SHOWN = 200
"""Most characters of foreign text in one line."""
QUOTED = 60
"""Most characters of a value that is quoted back in an error."""

# Control characters (a terminal obeys ESC and CSI), line and paragraph separators, marks that turn
# the direction of writing, and halves of surrogate pairs, which no encoding can write.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def plain(text: object, *, at_most: int = SHOWN) -> str:
    r"""Return text that is safe in one line of a terminal.

    Control characters and the like are written as ``\x1b``; longer text ends with ``...``. The
    result may still hold Rich markup; a caller that prints with Rich escapes it.
    """
    return _UNSAFE.sub(lambda found: _escaped(found.group()), _cut(str(text), at_most))


def quoted(value: object, *, at_most: int = QUOTED) -> str:
    """Return a value in quotes as Python writes it, safe and of bounded length.

    Text is cut before it is quoted, and containers and huge numbers are named by kind and size,
    so that the cost does not grow with the value.
    """
    if isinstance(value, str):
        return repr(_cut(value, at_most))
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a whole number of {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, dict | list | tuple | set) and len(value) > _LISTED:
        return f"{type(value).__name__} of {len(value)} items"
    try:
        return plain(repr(value), at_most=at_most)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def csv_cell(text: str) -> str:
    """Return a text cell of a CSV file that no spreadsheet takes for a formula.

    Cells that begin with ``= + - @``, a tab or a carriage return get a quotation mark in front, as
    is the custom (OWASP, "CSV injection"); numbers stay as they are.
    """
    if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


_LISTED = 8  # items of a container that is still written out


def _cut(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else f"{text[: max(at_most - 3, 0)]}..."


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
