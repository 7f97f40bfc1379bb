"""What the written report of a comparison says around its tables, as plain paragraphs."""

import re

from raymat.reading import LOG_BYTES, read_bytes
from raymat.reports.page.run_files import RunFiles

REPORT = "comparison.md"
_HOW = "How to read this"


def of_property(run: RunFiles, name: str) -> list[str]:
    """Give what a property's rows are and how they are divided; none without a report."""
    lines = next((own for title, own in _parts(run) if title.split(" (")[0] == name), [])
    return [_plain(line) for line in lines if line.startswith(("Data: ", "- repetition "))]


def how_to_read(run: RunFiles) -> list[str]:
    """Give the remarks on scores, budgets and intervals; none without a report."""
    lines = next((own for title, own in _parts(run) if title == _HOW), [])
    return [_plain(line) for line in lines if line.startswith("- ")]


def _parts(run: RunFiles) -> list[tuple[str, list[str]]]:
    """Give title and lines of everything that stands under a title of the second level."""
    if not run.has(REPORT):
        return []
    text = read_bytes(run.path / REPORT, at_most=LOG_BYTES).decode("utf-8", errors="replace")
    blocks = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return [(lines[0].strip(), lines[1:]) for lines in (block.split("\n") for block in blocks)]


def _plain(line: str) -> str:
    text = re.sub(r"`([^`]*)`", r"\1", line.removeprefix("- ").strip())
    return text[:1].upper() + text[1:]
