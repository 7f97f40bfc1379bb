"""What a run warned of, and the runs within it: those of a series, the cells of a comparison."""

from collections.abc import Iterator
from contextlib import suppress

import pandas as pd

from raymat.errors import RunError
from raymat.reports.page.parts import Section, Table
from raymat.reports.page.run_files import RunFiles

_WITHIN = ("*/run.json", "cells/*/run.json")
_MOST_NAMED = 3  # runs within that have the same warning


def sections(run: RunFiles) -> list[Section]:
    """Give the warnings of a run's log, each text once; none without any.

    Raises:
        RunError: a log cannot be read.
    """
    told: dict[str, list[str]] = {}
    for name, text in _warnings(run):
        told.setdefault(text, []).append(name)
    if not told:
        return []
    rows = pd.DataFrame({"warning": list(told), "times": [len(names) for names in told.values()]})
    if any(name for names in told.values() for name in names):
        rows["of"] = [_listed(names) for names in told.values()]
    return [Section("Warnings", [Table("Warnings of the log", rows)])]


def _warnings(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Give (run within, text) of every warning; "" for those of the run itself."""
    yield from (("", text) for text in _texts(run))
    for file in (file for pattern in _WITHIN for file in sorted(run.path.glob(pattern))):
        with suppress(RunError):  # a damaged one is told where it would be shown
            within = RunFiles.open(file.parent)
            yield from ((within.path.name, text) for text in _texts(within))


def _texts(run: RunFiles) -> list[str]:
    return [str(event.get("text")) for event in run.events if event["event"] == "warning"]


def _listed(names: list[str]) -> str:
    """Give each name once; several of the same run, or of many runs, are the column of counts'."""
    each = [name for name in dict.fromkeys(names) if name]
    more = len(each) - _MOST_NAMED
    return ", ".join([*each[:_MOST_NAMED], *([f"{more:,} more"] if more > 0 else [])])
