"""The parts of a run's page, for tests to look into."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from raymat.reports.page.build import view_of
from raymat.reports.page.parts import Note, Part, Section
from raymat.reports.page.run_files import RunFiles

Maker = Callable[[RunFiles], Sequence[Section]]


def parts(run: Path) -> list[Part]:
    """All parts of a run's page."""
    return [p for section in view_of(RunFiles.open(run)).sections for p in section.parts]


@cache
def parts_once(finished: Path) -> list[Part]:
    return parts(finished)


def part(run: Path, title: str) -> Any:
    """The part with a title; a run named `finished` is one that no test changes."""
    shown = parts_once(run) if run.name == "finished" else parts(run)
    (found,) = [p for p in shown if not isinstance(p, Note) and p.title == title]
    return found


def titles(run: Path) -> list[str]:
    return [p.title for p in parts(run) if not isinstance(p, Note)]


def parts_of(make: Maker, folder: Path, kind: type[Part]) -> dict[Any, Any]:
    """Title, or number, -> part of one kind among those that one maker makes."""
    made = [part for section in make(RunFiles.open(folder)) for part in section.parts]
    return {
        getattr(part, "title", number): part
        for number, part in enumerate(made)
        if isinstance(part, kind)
    }


def texts_of(make: Maker, folder: Path, *, warnings: bool = False) -> list[str]:
    notes = parts_of(make, folder, Note).values()
    return [note.text for note in notes if note.is_warning or not warnings]
