"""Parts of a page that may fail alone: what cannot be read is told, and the rest is shown."""

from collections.abc import Callable, Iterable, Sequence

from raymat.errors import RaymatError, one_line
from raymat.reports.page.parts import Note, Part, Section
from raymat.reports.page.run_files import DAMAGE


def parts_or_note(make: Callable[[], Iterable[Part]]) -> list[Part]:
    """Give some parts, and a warning that says why the others cannot be shown."""
    made: list[Part] = []
    try:
        made.extend(make())
    except (RaymatError, *DAMAGE) as error:
        made.append(warning(error))
    return made


def warning(error: BaseException) -> Note:
    """Say that something cannot be shown, and why."""
    reason = one_line(error)
    return Note(f"This part cannot be shown: {reason}", is_warning=True)


def has_warning(sections: Iterable[Section]) -> bool:
    """Say whether something could not be shown."""
    return any(_is_warning(part) for section in sections for part in section.parts)


def told_once(sections: Sequence[Section]) -> list[Section]:
    """Leave out warnings that stand further up already, and sections that say nothing else."""
    told: set[str] = set()
    kept: list[Section] = []
    for section in sections:
        parts = [p for p in section.parts if not (isinstance(p, Note) and p.text in told)]
        told |= {p.text for p in parts if isinstance(p, Note) and p.is_warning}
        if parts:
            kept.append(Section(section.title, parts))
    return kept


def _is_warning(part: Part) -> bool:
    return isinstance(part, Note) and part.is_warning
