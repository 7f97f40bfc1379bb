"""A fetch on disk while it goes on: one finished file per page, so that nothing is asked twice.

``FILE.parquet.partial/`` holds

- what is asked, so that another query does not continue here (see `partial_folder`);
- ``page-000001.parquet``: the usable crystals of a page;
- ``page-000001.json``: counts, rejected entries, the hash and the link to the next page. It is
  written last: a page without it was never fetched.

A process may be killed at any instant. The same command goes on at the first page without a record.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raymat.data.writers import atomic_file
from raymat.sources.partial_folder import hold_folder, hold_partial, partial_folder, remove_partial


@dataclass(frozen=True)
class PageRecord:
    """One finished page.

    Attributes:
        number: from 1.
        url: that gave it.
        next_url: of the page after it; None for the last.
        n_entries: entries that the server sent.
        rejected: (id, reason) of those that cannot be used.
        kinds: for each of the provider's own fields, the kinds of value met.
        data_sha256: of the response's ``data``, as canonical JSON.
        file_sha256: of the page's Parquet file.
        fetched: time in UTC.
        n_found: entries that the query has in all, where the server tells.
    """

    number: int
    url: str
    next_url: str | None
    n_entries: int
    rejected: list[tuple[str, str]]
    kinds: dict[str, list[str]]
    data_sha256: str
    file_sha256: str
    fetched: str
    n_found: int | None = None


@dataclass
class FetchState:
    """The folder of an unfinished fetch; made by `open_state`."""

    folder: Path
    query: dict[str, Any]
    pages: list[PageRecord] = field(default_factory=list)

    @property
    def n_entries(self) -> int:
        """Entries received so far."""
        return sum(page.n_entries for page in self.pages)

    @property
    def n_rejected(self) -> int:
        """Entries that cannot be used, so far."""
        return sum(len(page.rejected) for page in self.pages)

    def page_file(self, number: int) -> Path:
        """Give the Parquet file of a page."""
        return self.folder / f"page-{number:06d}.parquet"

    def record(self, page: PageRecord) -> None:
        """Finish a page whose Parquet file stands.

        Raises:
            DataError: it cannot be written.
        """
        _write_json(_record_file(self.folder, page.number), asdict(page))
        self.pages.append(page)

    def remove(self) -> None:
        """Remove the folder; the fetch is finished."""
        remove_partial(self.folder)


def remove_leftover(out: Path, page_sha256: Sequence[str]) -> bool:
    """Remove the pages of a fetch that was killed after its output took its name.

    Args:
        out: the output.
        page_sha256: of the data of its pages, as its provenance tells them.

    Returns:
        whether there were such pages, and no others.

    Raises:
        RunError: another process is at them.
    """
    folder = partial_folder(out)
    if not folder.is_dir():
        return False
    with hold_folder(folder):
        is_known = all(_is_one_of(path, page_sha256) for path in folder.glob("page-*.json"))
        if is_known:
            remove_partial(folder)
    return is_known


def _is_one_of(record: Path, page_sha256: Sequence[str]) -> bool:
    page = _read_json(record) or {}
    return page.get("data_sha256") in page_sha256


@contextmanager
def open_state(out: Path, query: Mapping[str, Any]) -> Iterator[FetchState]:
    """Begin a fetch, or go on with one, and hold its folder while the block lasts.

    Args:
        out: the Parquet file that will be.
        query: everything that decides what the pages hold.

    Raises:
        DataError: the folder holds another query, or cannot be made or read.
        RunError: another process is at it.
    """
    with hold_partial(out, query, finished="page-*.json") as folder:
        yield FetchState(folder, dict(query), _finished_pages(folder))


def _finished_pages(folder: Path) -> list[PageRecord]:
    """Give the finished pages, from the first on without a gap."""
    pages: list[PageRecord] = []
    while (page := _read_page(folder, len(pages) + 1)) is not None:
        pages.append(page)
    return pages


def _read_page(folder: Path, number: int) -> PageRecord | None:
    """Give a finished page; None if it is not there, or not as it was written."""
    content = _read_json(_record_file(folder, number))
    if content is None:
        return None
    try:
        page = PageRecord(**content)
        data = (folder / f"page-{number:06d}.parquet").read_bytes()
    except (TypeError, OSError):
        return None
    return page if hashlib.sha256(data).hexdigest() == page.file_sha256 else None


def _record_file(folder: Path, number: int) -> Path:
    return folder / f"page-{number:06d}.json"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_json(path: Path, content: Any) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
