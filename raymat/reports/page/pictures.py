"""The figures that a run has drawn itself, with the tables that their numbers stand in."""

from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from raymat.errors import RunError
from raymat.reports.page.parts import Note, Part, Picture, Section
from raymat.reports.page.run_files import RunFiles

MOST_BYTES = 600_000  # of one figure: the page must stay small


def sections(run: RunFiles, replaced: frozenset[str] = frozenset()) -> list[Section]:
    """Give every figure of the run directory.

    Args:
        run: its files.
        replaced: stems, or patterns such as ``labels-*``, of those that the page shows as charts
            instead.

    Raises:
        RunError: the folder cannot be read.
    """
    shown = sorted(run.path.glob("*.svg"))
    files = [f for f in shown if not any(fnmatchcase(f.stem, name) for name in replaced)]
    parts = [picture(run, file, _title(file), rows=_numbers(run, file.stem)) for file in files]
    return [Section("Figures", parts)] if parts else []


def picture(
    run: RunFiles, file: Path, title: str, caption: str = "", rows: pd.DataFrame | None = None
) -> Part:
    """Give a figure as SVG, or where that is too large as the PNG beside it.

    Args:
        run: whose figure.
        file: SVG.
        title: over it.
        caption: under it.
        rows: the numbers in it.
    """
    for form in (file, file.with_suffix(".png")):
        if form.is_file() and form.stat().st_size <= MOST_BYTES:
            return Picture(title, form, caption, rows)
    return Note(f"{title}: {run.path / file.name} (too large for this page).")


def _title(file: Path) -> str:
    return file.stem.replace("_", " ").replace("-", ", ").capitalize()


def _numbers(run: RunFiles, name: str) -> pd.DataFrame | None:
    """Give the table of the same name, if there is one."""
    if not run.has(f"{name}.csv"):
        return None
    try:
        return run.table(f"{name}.csv")
    except RunError:
        return None
