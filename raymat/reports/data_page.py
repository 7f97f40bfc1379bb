"""A data set as one page, and the files that lie beside it."""

from pathlib import Path

import numpy as np
import pandas as pd

from raymat.data.describe import QUANTILES, Description
from raymat.data.symmetry import CRYSTAL_SYSTEMS, crystal_system
from raymat.data.writers import atomic_file, write_csv
from raymat.reports.data_figures import element_figure
from raymat.reports.drawing import save_figure, with_unit
from raymat.reports.page.data_charts import counts, histogram
from raymat.reports.page.parts import Note, Part, Picture, RunView, Section, Table
from raymat.reports.page.render import render

_MOST_GROUPS = 500  # of duplicates in the page; the list beside it has all
_MOST_SPACEGROUPS = 20
_SHORT_HASH = 12


def save_data_page(description: Description, folder: Path) -> list[Path]:
    """Write the page NAME.html, and NAME-elements (.csv, .png, .svg) and NAME-duplicates.csv.

    Args:
        description: what is shown.
        folder: where to; it must exist.

    Returns:
        The files, the page first.

    Raises:
        DataError: a file cannot be written.
    """
    name = description.source.name
    elements = pd.DataFrame(description.elements.items(), columns=["element", "crystals"])
    drawn = save_figure(element_figure(description), folder / f"{name}-elements.svg")
    lists = {
        folder / f"{name}-elements.csv": elements,
        folder / f"{name}-duplicates.csv": _duplicates(description),
    }
    for path, table in lists.items():
        with atomic_file(path) as temporary:
            write_csv(table, temporary)
    picture = Picture(
        "Elements",
        next(path for path in drawn if path.suffix == ".svg"),
        "Crystals that hold each element.",
        rows=elements,
    )
    page = folder / f"{name}.html"
    with atomic_file(page) as temporary:
        temporary.write_text(render([_view(description, picture)], name), encoding="utf-8")
    return [page, *drawn, *lists]


def _view(description: Description, picture: Picture) -> RunView:
    source = description.source
    kinds = [f"{n:,} × {kind}" for kind, n in description.reasons.items()]
    facts = {
        "source": source.path or f"{source.name}, built in",
        "SHA-256": source.sha256[:_SHORT_HASH],
        "rows": f"{source.n_rows:,}",
        "usable": f"{source.n_used:,}",
        "rejected": f"{source.n_rejected:,}" + (f": {'; '.join(kinds)}" if kinds else ""),
        "formulas": f"{description.n_formulas:,} different;"
        f" {description.n_shared_formula:,} crystals share theirs with another",
        "elements": f"{len(description.elements)}",
    }
    sections = [
        Section("Target", _target(description)),
        Section("Elements", [picture]),
        Section("Cells", _cells(description)),
        Section("Symmetry", _symmetry(description)),
        Section("Duplicates", _duplicate_parts(description)),
        Section("Leakage", [_leakage(description)]),
    ]
    return RunView(
        name=source.name,
        command="data describe",
        status="complete",
        headline=f"{source.n_used:,} crystals of {len(description.elements)} elements",
        facts=facts,
        sections=[section for section in sections if section.parts],
    )


def _target(description: Description) -> list[Part]:
    target = description.target
    if target is None:
        return []
    label = with_unit(target.property.name, target.property.unit)
    notes: list[Part] = [Note(line) for line in target.shape.lines(target.property.unit)]
    charts = [histogram(label, target.values, label)]
    if target.shape.has_zero_peak:
        others = target.values[target.values != 0.0]
        charts.append(histogram(f"{label}, other than zero", others, label))
    return [*notes, *charts, _distributions(description)]


def _distributions(description: Description) -> Table:
    names = [f"{100 * q:g} %" for q in QUANTILES]
    columns = {
        "quantile": ["min", *names[1:-1], "max"],
        "atoms per cell": description.n_sites_quantiles,
        "Å³ per atom": description.volumes_quantiles,
    }
    if (target := description.target) is not None:
        columns[with_unit(target.property.name, target.property.unit)] = target.quantiles
    return Table("Quantiles", pd.DataFrame(columns))


def _cells(description: Description) -> list[Part]:
    sizes = description.n_sites.astype(np.float64)
    charts: list[Part] = [
        histogram("Atoms per cell", sizes, "atoms per cell"),
        histogram("Volume per atom", description.volumes, "volume per atom (Å³)"),
    ]
    return charts if description.target is not None else [*charts, _distributions(description)]


def _symmetry(description: Description) -> list[Part]:
    groups = description.spacegroups
    if groups is None:
        text = "The source states no space group for most crystals, too many to search them here."
        return [Note(text)]
    known = groups[groups > 0]
    systems = [crystal_system(int(group)) for group in known]
    names = [name for _, name in CRYSTAL_SYSTEMS]
    n_unknown = len(groups) - len(known)
    caption = f"{n_unknown:,} crystals have none that spglib finds." if n_unknown else ""
    found, numbers = np.unique(known, return_counts=True)
    order = np.argsort(-numbers, kind="stable")[:_MOST_SPACEGROUPS]
    return [
        counts("Crystal systems", names, [systems.count(name) for name in names], caption),
        counts(
            "Space groups",
            [str(group) for group in found[order]],
            numbers[order].tolist(),
            f"The {len(order)} most common of {len(found)}, by number.",
        ),
    ]


def _duplicates(description: Description) -> pd.DataFrame:
    target = description.target
    return description.duplicates.table(None if target is None else target.property.name)


def _duplicate_parts(description: Description) -> list[Part]:
    table = _duplicates(description)
    notes: list[Part] = [Note(line) for line in description.duplicates.lines()]
    if table.empty:
        return notes
    shown = table[table["group"] <= _MOST_GROUPS]
    n_more = len(description.duplicates.groups) - _MOST_GROUPS
    file = f"{description.source.name}-duplicates.csv"
    caption = f"{n_more:,} more groups are in {file}." if n_more > 0 else ""
    return [*notes, Table("Crystals that are one and the same", shown, caption)]


def _leakage(description: Description) -> Table:
    rows = [
        (kind, found.n_test, found.n_formula, found.n_formula_spacegroup)
        if found is not None
        else (kind, None, None, None)
        for kind, found in description.leakage.items()
    ]
    columns = ["split", "test rows", "formula in training", "formula and space group in training"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "Int64"))
    caption = (
        "Test rows of each kind of split (default fractions, seed 0) with a relative among the"
        " training rows; empty where there are too few crystals."
    )
    return Table("What each split would leak", table, caption)
