"""Run directories in, one HTML page out.

The page carries everything: its style, its script, the library that draws (Vega-Lite, BSD licence)
and the numbers. A part that cannot be read is told where it would stand, and the rest is shown.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from raymat.errors import RaymatError
from raymat.reports.page import (
    comparison,
    contributions,
    ensemble,
    explanations,
    facts,
    latent_space,
    log_warnings,
    pictures,
    screening,
    search,
    winner,
)
from raymat.reports.page.failing_parts import has_warning, told_once, warning
from raymat.reports.page.parts import Note, RunView, Section
from raymat.reports.page.render import render
from raymat.reports.page.run_files import DAMAGE, RunFiles
from raymat.reports.run_status import read_status

Maker = Callable[[RunFiles], list[Section]]
# What the page of each command says, in this order.
MAKERS: dict[str, tuple[Maker, ...]] = {
    "tune": (winner.sections, latent_space.sections, search.sections),
    "compare-cell": (winner.sections, search.sections),
    "train": (winner.sections, latent_space.sections, search.sections),
    "ensemble": (winner.sections, latent_space.sections, ensemble.sections),
    "screen": (screening.sections,),
    "explain": (explanations.sections,),
    "contributions": (contributions.sections,),
    "compare": (comparison.sections,),
}


def build_page(paths: Iterable[Path], *, title: str = "raymat report") -> tuple[str, list[str]]:
    """Give the page of some runs, and what of them could not be shown.

    Raises:
        RunError: a folder is no run directory.
    """
    runs = [RunFiles.open(path) for path in paths]
    views = [view_of(run) for run in runs]
    warnings = [
        f"{view.name}: {part.text}"
        for view in views
        for section in view.sections
        for part in section.parts
        if isinstance(part, Note) and part.is_warning
    ]
    return render(views, title), warnings


def view_of(run: RunFiles) -> RunView:
    """Give all that the page says of one run."""
    command = str(run.header.get("command"))
    made = _sections_of(log_warnings.sections, run)
    replaced: frozenset[str] = frozenset()
    for make in MAKERS.get(command, ()):
        own = _sections_of(make, run)
        made += own
        if not has_warning(own):  # else the run's own figures are all there is to see
            replaced |= _replaced_by(make)
    made += _sections_of(pictures.sections, run, replaced)
    made += _sections_of(facts.sections, run)
    return RunView(
        name=run.path.name,
        command=command,
        status=str(run.header.get("status")),
        headline=_headline(run.path),
        facts=_facts(run),
        sections=told_once(made),
    )


def _sections_of(
    make: Callable[..., list[Section]], run: RunFiles, *others: object
) -> list[Section]:
    try:
        return make(run, *others)
    except (RaymatError, *DAMAGE) as error:
        name = make.__module__.rpartition(".")[2]
        return [Section(name.replace("_", " ").capitalize(), [warning(error)])]


def _facts(run: RunFiles) -> dict[str, str]:
    try:
        return facts.facts(run)
    except (RaymatError, *DAMAGE):
        return {}  # the sections say what is damaged


def _replaced_by(make: Maker) -> frozenset[str]:
    """Give the figures, by stem, that the sections of a module show in their own way."""
    return frozenset(getattr(sys.modules[make.__module__], "REPLACED", ()))


def _headline(path: Path) -> str:
    try:
        status = read_status(path)
    except (RaymatError, *DAMAGE):
        return ""
    counted = f"{status.done:,} of {status.total:,} {status.word}" if status.total else ""
    return "; ".join(text for text in (status.headline, status.best, counted) if text)
