"""``raymat data fetch`` onto a file that is there already: what it is, whether it is finished."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymat.errors import ConfigError, DataError

if TYPE_CHECKING:
    from raymat.sources.databases.fetching import FetchRequest

_NEEDED = {"base_url", "filter", "max_entries", "properties", "fetched_until", "page_sha256"}
_SHOWN = 80  # characters of a filter
_ADVICE = "choose another -o, or replace it with --overwrite"


def finish_killed(request: "FetchRequest", out: Path) -> str:
    """Finish a fetch that was killed when its output stood, and say so; refuse any other file.

    Raises:
        ConfigError: the file exists already; what it holds is said if it was fetched.
        RunError: another process is at work there.
    """
    from raymat.sources.databases.state import remove_leftover
    from raymat.sources.partial_folder import partial_folder

    found = _provenance(out)
    if found is None:
        raise ConfigError(f"-o {out}: exists already; {_ADVICE}")
    said = _say(found, out)
    if request.is_told_by(found) and remove_leftover(out, found["page_sha256"]):
        leftover = f"removing {partial_folder(out)}, left by an interrupted run"
        return f"{out}: is finished: {said}; {leftover}"
    raise ConfigError(f"-o {out}: exists already: {said}; {_ADVICE}")


def _provenance(out: Path) -> dict[str, Any] | None:
    from raymat.sources.databases.join import read_provenance

    try:
        found = read_provenance(out) or {}
    except DataError:
        return None
    return found if found.keys() >= _NEEDED else None


def _say(found: dict[str, Any], out: Path) -> str:
    """Give number, database, filter and day of a fetch."""
    from raymat.data.parquet_reader import open_parquet
    from raymat.sources.databases.answers import printable
    from raymat.sources.databases.providers import find_provider

    with open_parquet(out) as file:
        n_rows = file.metadata.num_rows
    title = find_provider(found["base_url"]).title
    asked = printable(found["filter"])
    shown = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}..."
    what = f"filter {shown}" if asked else "no filter"
    most = "" if found["max_entries"] is None else f", --max {found['max_entries']:,}"
    return f"{n_rows:,} crystals of {title}, {what}{most}, fetched {found['fetched_until'][:10]}"
