"""What a page is made of: runs, sections, and in them notes, tables, charts and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Attributes:
        text: plain; nothing in it is HTML.
        is_warning: whether it tells of something missing or damaged.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Table:
    """A table that the reader sorts, searches and downloads.

    Attributes:
        title: over it.
        rows: what it shows, one column for each of the frame's.
        caption: under it.
    """

    title: str
    rows: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure that the browser draws from numbers.

    Attributes:
        title: over it.
        spec: Vega-Lite, without data: its marks read the rows as they are.
        rows: the numbers, which the reader can download.
        caption: under it.
    """

    title: str
    spec: Mapping[str, Any]
    rows: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure that the run has drawn already.

    Attributes:
        title: over it.
        file: SVG or PNG.
        caption: under it.
        rows: the numbers in it, where the run has them as a table.
    """

    title: str
    file: Path
    caption: str = ""
    rows: pd.DataFrame | None = None


Part = Note | Table | Chart | Picture


@dataclass(frozen=True)
class Section:
    """Some parts under one heading."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class RunView:
    """All that a page says of one run.

    Attributes:
        name: of its folder.
        command: such as "tune".
        status: such as "complete".
        headline: what came out, in words; "" without a result.
        facts: name -> value, of what was asked and with what.
        sections: the rest.
    """

    name: str
    command: str
    status: str
    headline: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()
