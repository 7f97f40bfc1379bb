"""``raymat data fetch``: crystals from a database on the web to the standard Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from raymat.cli import fetch_options as opt
from raymat.cli import options
from raymat.cli.fetch_existing import finish_killed
from raymat.cli.interrupting import interruptible
from raymat.cli.outputs import check_ending, prepare_files, rejected_beside
from raymat.errors import DataError
from raymat.sources.databases.limits import MAX_ATOMS, PAGE_SIZE, PATIENCE_S, REQUESTS_PER_SECOND

if TYPE_CHECKING:
    from raymat.sources.databases.fetching import FetchRequest
    from raymat.sources.databases.join import Joined
    from raymat.sources.databases.polite_requests import Manners


def fetch(
    provider: opt.WhichProvider,
    out: opt.OutFile,
    filter_text: opt.Filter = "",
    properties: opt.Properties = None,
    max_entries: opt.MaxEntries = None,
    max_atoms: opt.MaxAtoms = MAX_ATOMS,
    page_size: opt.PageSize = PAGE_SIZE,
    requests_per_second: opt.RequestsPerSecond = REQUESTS_PER_SECOND,
    patience: opt.Patience = PATIENCE_S,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Fetch structures and properties from an OPTIMADE database.

    Pages that arrived stay in FILE.parquet.partial until all are there:
    after Ctrl-C or a lost line the same command goes on. Entries that are
    no usable crystal are listed with the reason in FILE-rejected.csv.

    Example: raymat data fetch oqmd --filter 'elements HAS "Li"'
    --properties formation_energy_per_atom,band_gap -o lithium.parquet
    """
    check_ending(out, (".parquet",))
    from raymat.sources.databases.columns import split_names
    from raymat.sources.databases.fetching import FetchRequest
    from raymat.sources.databases.polite_requests import Manners
    from raymat.sources.databases.providers import find_provider

    request = FetchRequest(
        find_provider(provider),
        filter_text.strip(),
        split_names(properties),
        max_entries,
        page_size,
        max_atoms,
    )
    if out.exists() and not overwrite:
        typer.echo(finish_killed(request, out))
        return
    prepare_files(out, overwrite=overwrite)
    manners = Manners(requests_per_second, patience)
    with _resumable(out):
        joined = _fetch(request, out, manners, overwrite=overwrite, quiet=quiet)
    for line in _summary(joined, out):
        typer.echo(line)


def _fetch(
    request: "FetchRequest", out: Path, manners: "Manners", *, overwrite: bool, quiet: bool
) -> "Joined":
    from raymat.cli.fetch_progress import FetchProgress
    from raymat.sources.databases.fetching import fetch as fetch_crystals

    rejected = rejected_beside(out)
    with FetchProgress(quiet=quiet) as progress:
        return fetch_crystals(
            request,
            out,
            rejected_file=rejected,
            overwrite=overwrite,
            manners=manners,
            listen=progress,
        )


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """When a fetch is interrupted or fails, say what is kept and how it goes on."""
    with interruptible(lambda: _farewell(out)):
        try:
            yield
        except DataError as error:
            raise _with_advice(error, out) from error


def _farewell(out: Path) -> str:
    if out.exists():
        return f"interrupted; {out} is finished"
    return f"interrupted; {_say_kept(out) or 'nothing was fetched yet'}"


def _say_kept(out: Path) -> str:
    from raymat.sources.partial_folder import partial_folder

    folder = partial_folder(out)
    n_pages = len(list(folder.glob("page-*.json")))
    if not n_pages:
        return ""
    pages = "1 page is" if n_pages == 1 else f"{n_pages:,} pages are"
    return f"{pages} kept in {folder}, the same command goes on"


def _with_advice(error: DataError, out: Path) -> DataError:
    from raymat.sources.partial_folder import partial_folder

    kept = _say_kept(out)
    is_of_folder = str(partial_folder(out)) in str(error)  # and says itself what to do about it
    return DataError(f"{error}; {kept}") if kept and not is_of_folder else error


def _summary(joined: "Joined", out: Path) -> list[str]:
    found = joined.provenance
    rejected = len(joined.rejected)
    counts = f"{joined.n_rows:,} of {joined.n_entries:,} entries usable, {rejected:,} rejected"
    lines = [f"{out}: {counts} (sha256 {found['sha256'][:12]})"]
    lines += [f"  rejected {n:,}: {kind}" for kind, n in _kinds(joined).items()]
    if found["max_entries"] is None and (found["n_found"] or 0) > joined.n_entries:
        gap = f"the server counts {found['n_found']:,} entries and gave {joined.n_entries:,}"
        lines.append(f"  incomplete: {gap}")
    for column in found["properties"]:
        how = "; ".join(word for word in (column["unit"], column["method"]) if word)
        filled = f"{joined.filled[column['name']]:,} of {joined.n_rows:,} have it"
        lines.append(f"  {column['name']}: {filled}" + (f" ({how})" if how else ""))
    lines.append(f"  licence of the data: {found['licence']}")
    return lines


def _kinds(joined: "Joined") -> dict[str, int]:
    from raymat.data.readers import reason_counts

    return reason_counts(joined.rejected) if len(joined.rejected) else {}
