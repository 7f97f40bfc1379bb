"""Reading files that are not ours: regular files only, and bounded in every direction.

A file may be a pipe that never ends, larger than memory, nested deeper than any parser can follow,
or small on the disk and endless once its references are followed. Whatever the command line takes
as an input, and whatever lies in a run directory, is read here. Errors are `OSError` for what
cannot be opened and `ValueError` for what stands in it; a caller adds the path and its own kind.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from raymat.text import quoted

TEXT_BYTES = 64 << 20
"""Most bytes of a text or picture that is read as a whole, such as a JSON file."""
YAML_BYTES = 256 << 10
"""Most bytes of a YAML file, which is parsed slowly."""
LOG_BYTES = 1 << 30
"""Most bytes of an event log, which is parsed line by line."""
DEEPEST = 40
"""Most lists and objects inside each other."""
MOST_VALUES = 100_000
"""Most values of a YAML file, those behind references counted each time."""
LARGEST = 2**64
"""Whole numbers lie below, on both sides of 0."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, which no encoding can write
# Without these, a JSON text of few brackets holds nothing that `check_values` would refuse.
_SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|\d{19}")


def user_path(text: str | Path) -> Path:
    """Return the path that a user wrote; `~` is the home folder, but of no unknown user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def real_path(path: Path) -> Path:
    """Return the absolute path without links; one of links that lead to themselves as it is."""
    try:
        return path.resolve()
    except (RuntimeError, OSError):
        return path.absolute()


def regular_file(path: Path) -> Path:
    """Return the path as it is if it leads to a regular file, for a reader that opens it itself.

    Raises:
        OSError: it is missing, or a folder, pipe, device or socket.
    """
    _check_mode(path.stat().st_mode)
    return path


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading; never waits for a writer, as a pipe would.

    Raises:
        OSError: it is missing, cannot be opened, or is a folder, pipe, device or socket.
    """
    regular_file(path)  # a device may act on being opened
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_mode(os.fstat(handle).st_mode)  # of the file that was really opened
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, *, at_most: int) -> bytes:
    """Read a regular file that holds no more than `at_most` bytes.

    Raises:
        OSError: as `open_file`.
        ValueError: it is longer.
    """
    with open_file(path) as file:
        content = b"" if os.fstat(file.fileno()).st_size > at_most else file.read(at_most + 1)
        if os.fstat(file.fileno()).st_size > at_most or len(content) > at_most:
            raise ValueError(f"longer than {at_most:,} bytes, the most that is read")
    return content


def read_text(path: Path, *, at_most: int) -> str:
    """Read a UTF-8 file, a byte order mark aside, that holds no more than `at_most` bytes.

    Raises:
        OSError: as `open_file`.
        ValueError: it is longer, or not UTF-8.
    """
    content = read_bytes(path, at_most=at_most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise ValueError(f"not UTF-8 text: byte {cause.start + 1} does not fit") from None


def read_json(path: Path, *, at_most: int = TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds an object; bounded as `parse_json`.

    Raises:
        OSError: as `open_file`.
        ValueError: it is too long, not JSON, or holds something else or something out of bounds.
    """
    return parse_object(read_text(path, at_most=at_most))


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse the text of one JSON object; bounded as `parse_json`.

    Raises:
        ValueError: it is not JSON, or holds something else or something out of bounds.
    """
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {_kind(content)}")  # noqa: TRY004
    return content


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose depth, whole numbers and characters are within bounds.

    Raises:
        ValueError: it is not JSON, or something in it is out of bounds.
    """
    written = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        content = json.loads(written)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    if written.count("[") + written.count("{") > DEEPEST or _SUSPICIOUS.search(written):
        check_values(content)
    return content


def check_values(content: object) -> None:
    """Check depth, whole numbers and characters of what a parser returned.

    Raises:
        ValueError: something is out of bounds.
    """
    level = [content]
    for _ in range(DEEPEST + 1):
        if not level:
            return
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.keys())
                inner.extend(value.values())
            elif isinstance(value, list | tuple | set):
                inner.extend(value)
            else:
                _check_scalar(value)
        level = inner
    if level:
        raise ValueError(_too_deep())


def check_types(
    content: Mapping[str, Any],
    required: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
) -> None:
    """Check the types of some values of an object; a whole number is a number, a boolean is none.

    Args:
        content: the object.
        required: key -> type of what must be there.
        optional: key -> type of what may be missing or null.

    Raises:
        KeyError: a required key is missing.
        ValueError: a value is of another type, or a number that is not finite.
    """
    for key, kind in {**(optional or {}), **required}.items():
        value = content[key] if key in required else content.get(key)
        if value is None and key not in required:
            continue
        is_number = kind is float and isinstance(value, int | float) and math.isfinite(value)
        fits = is_number or (kind is not float and isinstance(value, kind))
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"'{key}' must be {_WORDS[kind]}, found {quoted(value)}")


def _check_scalar(value: object) -> None:
    if isinstance(value, str) and _HALVES.search(value):
        raise ValueError("text with half a surrogate pair, which cannot be written")
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        digits = int(value.bit_length() * 0.30103) + 1
        raise ValueError(f"a whole number of {digits} digits; at most {len(str(LARGEST))} fit")


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(f"is {kind}, a file is needed")


def _too_deep() -> str:
    return f"nested more than {DEEPEST} deep"


def _kind(content: object) -> str:
    return "nothing" if content is None else type(content).__name__
