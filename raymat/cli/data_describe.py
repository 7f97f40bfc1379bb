"""``raymat data describe``: what a source holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options
from raymat.cli.data_options import MaxRejected, Source, Target, new_table, show, show_source
from raymat.cli.outputs import prepare_files, refuse_run_folder, source_stem
from raymat.data.limits import MAX_REJECTED

if TYPE_CHECKING:
    from rich.table import Table

    from raymat.data.describe import Description, TargetSummary


def describe(
    source: Source,
    target: Target = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for page and picture.")
    ] = None,
    max_rejected: MaxRejected = MAX_REJECTED,
    overwrite: options.Overwrite = False,
    _debug: options.Debug = False,
) -> None:
    """Show counts, elements, cells, target, duplicates and leakage; with --out also as a page.

    Example: raymat data describe delta --target log10_bulk_modulus --out reports/delta
    """
    if out is not None:
        refuse_run_folder(out)
        page = out / f"{source_stem(source)}.html"
        prepare_files(page, page.with_suffix(".png"), overwrite=overwrite, option="--out")
    from raymat.data.describe import describe as describe_data
    from raymat.data.readers import load_crystals

    loaded = load_crystals(source, target=target, max_rejected=max_rejected)
    description = describe_data(loaded, target)
    show_source(source, loaded.source)
    for kind, n in description.reasons.items():
        typer.echo(f"  rejected: {n:,} × {kind}")
    show(_number_table(description), _element_table(description))
    _print_target(description)
    _print_symmetry(description)
    for line in description.duplicates.lines():
        typer.echo(line)
    _print_leakage(description)
    if out is None:
        typer.echo("page: --out DIR writes and draws this")
    else:
        _save(description, out)


def _number_table(description: "Description") -> "Table":
    from raymat.data.describe import QUANTILES

    names = ["min", *[f"{q * 100:g} %" for q in QUANTILES[1:-1]], "max", "mean", "std"]
    sites = description.n_sites
    spread = sites.std(ddof=1) if len(sites) > 1 else 0.0
    columns = {"atoms per cell": [*description.n_sites_quantiles, sites.mean(), spread]}
    volumes = description.volumes
    spread = volumes.std(ddof=1) if len(volumes) > 1 else 0.0
    columns["Å³ per atom"] = [*description.volumes_quantiles, volumes.mean(), spread]
    if (target := description.target) is not None:
        columns[_target_name(target)] = [*target.quantiles, target.mean, target.std]
    table = new_table("Distributions", "", *columns)
    for i, name in enumerate(names):
        table.add_row(name, *[f"{values[i]:.4g}" for values in columns.values()])
    return table


def _target_name(target: "TargetSummary") -> str:
    unit = f" ({target.property.unit})" if target.property.unit else ""
    return f"{target.property.name}{unit}"


def _element_table(description: "Description") -> "Table":
    elements = description.elements
    table = new_table(f"{len(elements)} elements, with the crystals that hold them", "Elements")
    common = sorted(elements.items(), key=lambda item: (-item[1], item[0]))
    table.add_row("  ".join(f"{symbol} {n:,}" for symbol, n in common))
    return table


def _print_target(description: "Description") -> None:
    target = description.target
    if target is None:
        return
    if (line := target.property.say_classes()) is not None:
        typer.echo(line)
    if not target.shape.has_zero_peak:
        typer.echo(f"zeros in the target: {target.share_of_zeros:.1%}")
    for line in target.shape.lines(target.property.unit):
        typer.echo(line)


def _print_symmetry(description: "Description") -> None:
    from collections import Counter

    from raymat.data.symmetry import CRYSTAL_SYSTEMS, crystal_system

    groups = description.spacegroups
    if groups is None:
        typer.echo("symmetry: the source states no space group for most crystals")
        return
    counts = Counter(crystal_system(group) for group in groups.tolist() if group)
    named = [f"{name} {counts[name]:,}" for _, name in CRYSTAL_SYSTEMS]
    typer.echo(f"symmetry: {', '.join(named)}")


def _print_leakage(description: "Description") -> None:
    shared, n = description.n_shared_formula, description.n_formulas
    typer.echo(f"formulas: {n:,} different; {shared:,} crystals share theirs with another")
    for kind, leakage in description.leakage.items():
        text = "too few crystals for it" if leakage is None else leakage.line()
        typer.echo(f"{kind} split: {text}")


def _save(description: "Description", folder: Path) -> None:
    from raymat.reports.data_figures import save_description_figure
    from raymat.reports.data_page import save_data_page

    path = folder / f"{description.source.name}.png"
    save_description_figure(description, path)
    typer.echo(f"picture: {path}")
    page, *beside = save_data_page(description, folder)
    typer.echo(f"page: {page}")
    typer.echo(f"beside it: {', '.join(file.name for file in beside)}")
