"""The figures that a run has drawn itself, with the tables that their numbers stand in."""

from fnmatch import fnmatchcase

import pandas as pd

from raymat.errors import RunError
from raymat.reports.page.parts import Note, Part, Picture, Section
from raymat.reports.page.run_files import RunFiles

MOST_BYTES = 600_000  # of one figure: the page must stay small


def sections(run: RunFiles, replaced: frozenset[str] = frozenset()) -> list[Section]:
    """Give every SVG of the run directory.

    Args:
        run: its files.
        replaced: stems, or patterns such as ``labels-*``, of those that the page shows as charts
            instead.

    Raises:
        RunError: the folder cannot be read.
    """
    shown = sorted(run.path.glob("*.svg"))
    files = [f for f in shown if not any(fnmatchcase(f.stem, name) for name in replaced)]
    parts: list[Part] = []
    for file in files:
        if file.stat().st_size > MOST_BYTES:
            parts.append(
                Note(f"{file.name} is too large for this page; it is in the run's folder.")
            )
            continue
        title = file.stem.replace("_", " ").replace("-", ", ").capitalize()
        parts.append(Picture(title, file, rows=_numbers(run, file.stem)))
    return [Section("Figures", parts)] if parts else []


def _numbers(run: RunFiles, name: str) -> pd.DataFrame | None:
    """Give the table of the same name, if there is one."""
    if not run.has(f"{name}.csv"):
        return None
    try:
        return run.table(f"{name}.csv")
    except RunError:
        return None
