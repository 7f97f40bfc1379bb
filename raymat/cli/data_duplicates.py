"""``raymat data duplicates``: crystals that are one and the same, in one source or several."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Sources, new_table, progress, show, show_source
from raymat.cli.outputs import prepare_files, refuse_run_folder
from raymat.data.limits import MAX_REJECTED
from raymat.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.data.crystals import CrystalSet
    from raymat.data.duplicates import Duplicates

_SHOWN_GROUPS = 10
_LIST = "duplicates.csv"
Symprec = Annotated[
    float, typer.Option("--symprec", metavar="X", help="Å; of spglib's space groups.")
]
VolumeWindow = Annotated[
    float,
    typer.Option(
        "--volume-window", metavar="X", help="Largest relative difference in volume per atom."
    ),
]
Ltol = Annotated[
    float, typer.Option("--ltol", metavar="X", help="StructureMatcher: of lengths, relative.")
]
Stol = Annotated[
    float,
    typer.Option(
        "--stol", metavar="X", help="StructureMatcher: of sites, of the cube root of a volume."
    ),
]
AngleTol = Annotated[
    float, typer.Option("--angle-tol", metavar="X", help="StructureMatcher: degrees.")
]
Largest = Annotated[
    int,
    typer.Option(
        "--largest",
        metavar="N",
        min=2,
        max=100_000,
        help="Crystals of one formula and symmetry that are compared.",
    ),
]


def duplicates(
    sources: Sources,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="Column to compare within each group."),
    ] = None,
    symprec: Symprec = 0.1,
    volume_window: VolumeWindow = 0.1,
    ltol: Ltol = 0.2,
    stol: Stol = 0.3,
    angle_tol: AngleTol = 5.0,
    largest: Largest = 100,
    max_rejected: MaxRejected = MAX_REJECTED,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for duplicates.csv.")
    ] = None,
    overwrite: options.Overwrite = False,
    _debug: options.Debug = False,
) -> None:
    """Find crystals that are one and the same, within each source and across all of them.

    Candidates share reduced formula, space group and orbits (spglib) and have about the same volume
    per atom; pymatgen's StructureMatcher compares their primitive cells pair by pair.

    Example: raymat data duplicates mine.parquet mp.parquet --target band_gap --out reports/twins
    """
    if out is not None:
        refuse_run_folder(out)
        prepare_files(out / _LIST, overwrite=overwrite, option="--out")
    from raymat.config import build_config
    from raymat.data.duplicate_candidates import DuplicateRules
    from raymat.data.duplicates import find_duplicates

    asked = {"symprec": symprec, "volume_window": volume_window, "ltol": ltol, "stol": stol,
             "angle_tol": angle_tol, "largest": largest}  # fmt: skip
    rules = build_config(DuplicateRules, asked, where="raymat data duplicates", prefix="--")
    loaded = _load(sources, target, max_rejected)
    with progress() as tell:
        found = find_duplicates(loaded, rules, on_progress=tell)
    _say(found, target)
    if out is not None:
        _write(found, target, out)


def _load(
    sources: list[str], target: str | None, max_rejected: float
) -> "list[tuple[str, CrystalSet]]":
    from raymat.data.readers import load_crystals

    if len(set(sources)) < len(sources):
        raise DataError(f"{' '.join(sources)}: a source is named twice; name each once")
    loaded = []
    for source in sources:
        one = load_crystals(source, max_rejected=max_rejected)
        show_source(source, one.source)
        loaded.append((source, one.crystals))
    if target is not None and not any(target in c.properties for _, c in loaded):
        from raymat.data.checks import numeric_columns
        from raymat.errors import did_you_mean

        known = [name for _, c in loaded for name in numeric_columns(c.properties)]
        raise DataError(f"--target {target}: no source has it{did_you_mean(target, set(known))}")
    return loaded


def _say(found: "Duplicates", target: str | None) -> None:
    for line in found.lines():
        typer.echo(line)
    if found.groups:
        show(_group_table(found, target))


def _group_table(found: "Duplicates", target: str | None) -> "Table":
    n = len(found.groups)
    title = "The groups" if n <= _SHOWN_GROUPS else f"The {_SHOWN_GROUPS} largest of {n:,} groups"
    spread = [] if target is None else [f"range of {target}"]
    table = new_table(title, "group", "Formula", "space group", *spread, "Crystals")
    listed = found.table(target)
    for number in range(1, min(n, _SHOWN_GROUPS) + 1):
        rows = listed[listed["group"] == number]
        first = rows.iloc[0]
        names = [str(name) for name in rows["material_id"]]
        if len(found.names) > 1:
            stems = [Path(str(source)).stem for source in rows["source"]]
            names = [f"{name} ({stem})" for name, stem in zip(names, stems, strict=True)]
        cells = [] if target is None else [_range_text(float(first["target_range"]))]
        group = str(first["spacegroup_number"])
        table.add_row(str(number), str(first["formula"]), group, *cells, "  ".join(names))
    return table


def _range_text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _write(found: "Duplicates", target: str | None, out: Path) -> None:
    from raymat.data.writers import atomic_file, write_csv

    path = out / _LIST
    with atomic_file(path) as temporary:
        write_csv(found.table(target), temporary)
    typer.echo(f"list: {path}")
