"""Files that may end in the middle of a line: their whole lines, and a word on the rest."""

import io
from typing import Any

import pandas as pd

from raymat.data.writers import read_own_csv
from raymat.errors import RunError, one_line
from raymat.reading import LOG_BYTES, parse_object, read_bytes
from raymat.reports.page.parts import Note
from raymat.reports.page.run_files import DAMAGE, RunFiles


def whole_rows(run: RunFiles, name: str) -> tuple[pd.DataFrame, list[Note]]:
    """Read the whole lines of a CSV file, and say whether something follows them.

    Raises:
        RunError: it is not there, or damaged elsewhere than at its end.
    """
    whole, rest = _cut(run, name)
    try:
        table = read_own_csv(io.StringIO(whole))
    except DAMAGE as cause:
        reason = one_line(cause)
        raise RunError(f"{run.path / name} cannot be read: {reason[:200]}") from cause
    if not rest:
        return table, []
    return table, [Note(f"{name} ends in the middle of a row, which is left out.", is_warning=True)]


def whole_lines(run: RunFiles, name: str) -> tuple[list[dict[str, Any]], list[Note]]:
    """Read the lines of a file that are JSON objects, and say how many are not.

    Raises:
        RunError: it is not there.
    """
    whole, rest = _cut(run, name)
    lines = [line for line in [*whole.split("\n"), rest] if line.strip()]
    found = [content for line in lines if (content := _object(line)) is not None]
    bad = len(lines) - len(found)
    if not bad:
        return found, []
    text = f"{name}: {bad:,} of {len(lines):,} lines cannot be read and are left out."
    return found, [Note(text, is_warning=True)]


def _cut(run: RunFiles, name: str) -> tuple[str, str]:
    """Give what ends with the last newline, and what follows it."""
    try:
        text = read_bytes(run.path / name, at_most=LOG_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError) as cause:
        why = getattr(cause, "strerror", None) or cause
        raise RunError(f"{run.path / name} cannot be read: {why}") from cause
    end = text.rfind("\n") + 1
    return text[:end], text[end:]


def _object(line: str) -> dict[str, Any] | None:
    try:
        return parse_object(line)
    except ValueError:
        return None
