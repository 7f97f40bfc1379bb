"""Crystals from an OPTIMADE server to a Parquet file, page by page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import raymat
from raymat.data.checks import kind_of
from raymat.data.writers import write_rejected
from raymat.errors import ConfigError, DataError
from raymat.sources.databases.answers import RefusedError
from raymat.sources.databases.columns import Column, check_names, choose_columns
from raymat.sources.databases.entries import entry_id
from raymat.sources.databases.join import Joined, join_pages
from raymat.sources.databases.limits import MAX_ATOMS, PAGE_SIZE
from raymat.sources.databases.materials_project import MaterialsProject, open_materials_project
from raymat.sources.databases.pages import Page, store_page
from raymat.sources.databases.polite_requests import Manners, PoliteClient
from raymat.sources.databases.providers import Provider
from raymat.sources.databases.server import (
    ServerFacts,
    ask_server,
    asked_delay,
    check_filter,
    count_found,
    entries_of,
    first_url,
    limit_page,
    next_url,
)
from raymat.sources.databases.state import FetchState, PageRecord, open_state
from raymat.sources.partial_folder import remove_unfinished

_BAD_QUERY = (400, 403, 414, 422, 501)

Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FetchRequest:
    """What is fetched.

    Attributes:
        provider: whom to ask.
        filter: in OPTIMADE's language; "" for everything.
        properties: standard names and the provider's own fields.
        max_entries: at most so many entries, usable or not; None for all.
        page_size: entries of one request.
        max_atoms: of a cell; larger ones are rejected.
    """

    provider: Provider
    filter: str = ""
    properties: tuple[str, ...] = ()
    max_entries: int | None = None
    page_size: int = PAGE_SIZE
    max_atoms: int = MAX_ATOMS

    def identity(self, columns: Sequence[Column]) -> dict[str, Any]:
        """Give everything that decides what the pages hold together, whatever their size."""
        fields = {column.name: column.field for column in columns}
        return {
            "provider": self.provider.base_url,
            "filter": self.filter,
            "properties": fields,
            "max_entries": self.max_entries,
            "max_atoms": self.max_atoms,
        }

    def is_told_by(self, provenance: Mapping[str, Any]) -> bool:
        """Tell whether a fetched file is what this request asks for, by its provenance."""
        told = {key: provenance.get(key) for key in ("filter", "max_entries", "max_atoms")}
        names = [column["name"] for column in provenance["properties"]]
        asked = {key: getattr(self, key) for key in told}
        is_same_server = provenance["base_url"] == self.provider.base_url
        return is_same_server and told == asked and names == list(self.properties)


def fetch(
    request: FetchRequest,
    out: Path,
    *,
    rejected_file: Path,
    overwrite: bool = False,
    manners: Manners | None = None,
    listen: Listener = lambda _event: None,
) -> Joined:
    """Fetch structures and properties; go on where the same request stopped before.

    Writes `rejected_file` with every entry that is no usable crystal, then `out`. Until then the
    pages lie in ``OUT.partial``, and stay there if anything fails. `out` may exist only if it is to
    be overwritten, which it is when all pages are there.

    Raises:
        ConfigError: filter or properties cannot be asked for, or the partial folder is another
            query's.
        DataError: the server cannot be reached or refuses, nothing usable came, `out` exists, or
            a file cannot be written.
        RunError: another process fetches to `out`.
    """
    check_filter(request.filter)
    check_names(request.properties)

    def tell_wait(line: str) -> None:
        listen({"event": "fetch_waits", "line": line})

    with PoliteClient(manners or Manners(), tell_wait) as client:
        server = ask_server(client, request.provider)
        columns = choose_columns(request.properties, server.prefix, server.served)
        with (
            open_materials_project(columns) as more,
            open_state(out, request.identity(columns)) as state,
        ):
            # Perhaps only since the folder is ours: another process ended.
            if out.exists() and not overwrite:
                raise DataError(f"{out}: exists already; choose another place, or remove it")
            for path in (out, rejected_file):
                remove_unfinished(path)
            _fetch_pages(client, request, columns, state, more, listen)
            listen({"event": "fetch_joins"})
            return _finish(state, request, server, columns, out, rejected_file)


def _fetch_pages(
    client: PoliteClient,
    request: FetchRequest,
    columns: Sequence[Column],
    state: FetchState,
    more: MaterialsProject | None,
    listen: Listener,
) -> None:
    _tell(listen, "fetch_started", request, state)
    seen = {page.url for page in state.pages}
    url = _resume(request, state) if state.pages else _start(request, columns)
    while url is not None and _is_wanted(request, state):
        if url in seen:
            raise DataError(
                f"{request.provider.title}: the link to the next page leads back: {url}"
            )
        seen.add(url)
        page = _ask_page(client, url, request, state, more)
        url = _after(store_page(state, page, columns, request.max_atoms))
        _tell(listen, "page_fetched", request, state)


def _after(page: PageRecord) -> str | None:
    """Give where a page leads; after an empty one nothing comes, whatever its link says."""
    return page.next_url if page.n_entries else None


def _resume(request: FetchRequest, state: FetchState) -> str | None:
    url = _after(state.pages[-1])
    return None if url is None else limit_page(url, request.page_size)


def _start(request: FetchRequest, columns: Sequence[Column]) -> str:
    size = min(request.page_size, request.max_entries or request.page_size)
    return first_url(request.provider, request.filter, columns, size)


def _is_wanted(request: FetchRequest, state: FetchState) -> bool:
    return request.max_entries is None or state.n_entries < request.max_entries


def _ask_page(
    client: PoliteClient,
    url: str,
    request: FetchRequest,
    state: FetchState,
    more: MaterialsProject | None,
) -> Page:
    try:
        answer = client.get_json(url)
    except RefusedError as cause:
        if cause.status in _BAD_QUERY:
            advice = "; try a smaller --page-size" if "page_limit" in str(cause) else ""
            raise ConfigError(f"{cause} (filter: {request.filter!r}){advice}") from cause
        raise
    client.slow_down(asked_delay(answer))
    entries = entries_of(answer, url)
    following, found = next_url(answer, url), count_found(answer)
    if not entries and following and found is not None and found > state.n_entries:
        gap = f"an empty page after {state.n_entries:,} of {found:,} entries"
        raise DataError(f"{request.provider.title}: the server gave {gap}")
    if request.max_entries is not None:
        entries = entries[: request.max_entries - state.n_entries]
    ids = [name for entry in entries if (name := entry_id(entry))]
    added: Mapping[str, Mapping[str, Any]] = more.ask(ids) if more else {}
    return Page(url, following, entries, added, found)


def _tell(listen: Listener, event: str, request: FetchRequest, state: FetchState) -> None:
    told = [page.n_found for page in state.pages if page.n_found is not None]
    found = told[-1] if told else None
    if found is not None and request.max_entries is not None:
        found = min(found, request.max_entries)
    listen(
        {
            "event": event,
            "provider": request.provider.title,
            "pages": len(state.pages),
            "entries": state.n_entries,
            "rejected": state.n_rejected,
            "found": found,
        }
    )


def _finish(
    state: FetchState,
    request: FetchRequest,
    server: ServerFacts,
    columns: Sequence[Column],
    out: Path,
    rejected_file: Path,
) -> Joined:
    if not state.n_entries:
        state.remove()
        raise DataError(f"{request.provider.title}: no entry matches the filter {request.filter!r}")
    _refuse_useless(state, rejected_file)
    about = _about(request, server, columns)
    joined = join_pages(state, columns, out, rejected_file=rejected_file, about=about)
    state.remove()
    return joined


def _refuse_useless(state: FetchState, rejected_file: Path) -> None:
    import pandas as pd

    rejected = [entry for page in state.pages for entry in page.rejected]
    if len(rejected) < state.n_entries:
        return
    write_rejected(pd.DataFrame(rejected, columns=["material_id", "reason"]), rejected_file)
    kinds = sorted({kind_of(reason) for _, reason in rejected})
    counted = f"none of the {state.n_entries:,} entries is a usable crystal"
    state.remove()
    raise DataError(f"{counted}: {'; '.join(kinds[:3])}; {rejected_file} lists them")


def _about(request: FetchRequest, server: ServerFacts, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "provider": request.provider.name or server.prefix,
        "base_url": request.provider.base_url,
        "filter": request.filter,
        "max_entries": request.max_entries,
        "max_atoms": request.max_atoms,
        "properties": [asdict(column) for column in columns],
        "licence": server.licence,
        "api_version": server.api_version,
        "implementation": server.implementation,
        "raymat": raymat.__version__,
    }
