"""What an OPTIMADE server says of itself, and how its structures are asked for.

The `optimade` package parses the filter before anything is sent. Its client (1.5.0) is not used for
the pages: it gives up at the first 503, asks again after a 429 without end (its count of attempts
begins anew at every one), after a second, whatever `Retry-After` says, and holds all pages.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from raymat.errors import ConfigError, DataError
from raymat.sources.databases.answers import RefusedError, host_of, printable, same_server
from raymat.sources.databases.columns import Column
from raymat.sources.databases.entries import STRUCTURE_FIELDS
from raymat.sources.databases.polite_requests import PoliteClient
from raymat.sources.databases.providers import Provider

_PAGE_LIMIT = re.compile(r"(?<=[?&]page_limit=)\d+")
_PAGE_NUMBER = re.compile(r"[?&]page_number=")
_NOT_THERE = (404, 405, 406, 501)


@dataclass(frozen=True)
class ServerFacts:
    """What ``/info`` and ``/info/structures`` say.

    Attributes:
        prefix: which the provider's own fields begin with.
        api_version: of OPTIMADE.
        implementation: name and version of the server's program.
        licence: of the data: the server's word, else the one raymat knows, else "not stated".
        served: description of every field of a structure; None if the server gives none.
    """

    prefix: str
    api_version: str
    implementation: str
    licence: str
    served: Mapping[str, Mapping[str, Any]] | None


def check_filter(text: str) -> None:
    """Parse an OPTIMADE filter by the grammar of the standard.

    Raises:
        ConfigError: it is none; the place is named.
    """
    from optimade.exceptions import BadRequest
    from optimade.filterparser import LarkParser

    if not text.strip():
        return
    try:
        LarkParser().parse(text)
    except BadRequest as cause:
        place = _place(cause.__cause__, text)
        example = """'elements HAS ALL "Li","O" AND nelements=3'"""
        raise ConfigError(
            f"--filter: {text!r} is no OPTIMADE filter{place}; such as {example}"
        ) from cause


def _place(cause: BaseException | None, text: str) -> str:
    column = getattr(cause, "column", None)
    if not isinstance(column, int) or not 1 <= column <= len(text):
        return " (it ends too early)"
    return f" (at character {column}: {text[column - 1 : column + 14]!r})"


def ask_server(client: PoliteClient, provider: Provider) -> ServerFacts:
    """Ask a server what it is.

    Raises:
        DataError: it does not answer, or is no OPTIMADE server.
    """
    try:
        info = client.get_json(f"{provider.base_url}/v1/info")
    except RefusedError as cause:
        raise DataError(f"{cause}; is {provider.base_url} an OPTIMADE base URL?") from cause
    meta = _object(info.get("meta"))
    if "api_version" not in meta:
        raise DataError(f"{host_of(provider.base_url)}: {provider.base_url} is no OPTIMADE server")
    attributes = _object(_object(info.get("data")).get("attributes"))
    implementation = _object(meta.get("implementation"))
    words = [str(implementation.get(key) or "") for key in ("name", "version")]
    return ServerFacts(
        prefix=provider.prefix or str(_object(meta.get("provider")).get("prefix") or ""),
        api_version=str(meta["api_version"]),
        implementation=" ".join(word for word in words if word),
        licence=_licence(attributes) or provider.licence or "not stated",
        served=_ask_fields(client, provider),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _licence(attributes: Mapping[str, Any]) -> str:
    """Give the server's licence: an SPDX name if it has one, else its address."""
    names = attributes.get("available_licenses")
    if isinstance(names, list) and names:
        return " or ".join(map(str, names))
    licence = attributes.get("license")
    return str(_object(licence).get("href") or "") if not isinstance(licence, str) else licence


def _ask_fields(client: PoliteClient, provider: Provider) -> Mapping[str, Mapping[str, Any]] | None:
    try:
        answer = client.get_json(f"{provider.base_url}/v1/info/structures")
    except RefusedError as cause:
        if cause.status in _NOT_THERE:
            return None
        raise
    fields = _object(_object(answer.get("data")).get("properties"))
    return {name: _object(described) for name, described in fields.items()} or None


def first_url(
    provider: Provider, filter_text: str, columns: Iterable[Column], page_size: int
) -> str:
    """Give the URL of the first page of structures."""
    roots = [c.root for c in columns if c.interface == "optimade"]
    query = {
        "filter": filter_text,
        "response_fields": ",".join(dict.fromkeys([*STRUCTURE_FIELDS, *roots])),
        "page_limit": str(page_size),
    }
    given = {key: value for key, value in query.items() if value.strip()}
    return f"{provider.base_url}/v1/structures?{urlencode(given, quote_via=quote)}"


def next_url(answer: Mapping[str, Any], url: str) -> str | None:
    """Give the URL of the next page, None after the last.

    Raises:
        DataError: the link leads to another host.
    """
    link = _object(answer.get("links")).get("next")
    text = link.get("href") if isinstance(link, Mapping) else link
    if not text:
        return None
    there = same_server(url, str(text))
    if there is None:
        where = urlsplit(urljoin(url, str(text))).netloc
        raise DataError(
            f"{host_of(url)}: the link to the next page leads elsewhere ({printable(where)});"
            " the server is not set up well, tell its owner"
        )
    return there


def limit_page(url: str, page_size: int) -> str:
    """Give the URL of a page of at most so many entries; an earlier command may have wanted more.

    Where pages are counted by number the URL stays: with another size it leads to other entries.
    """
    if _PAGE_NUMBER.search(url):
        return url
    return _PAGE_LIMIT.sub(lambda size: str(min(int(size[0]), page_size)), url)


def entries_of(answer: Mapping[str, Any], url: str) -> list[Any]:
    """Give the entries of a page.

    Raises:
        DataError: there is no list of them.
    """
    data = answer.get("data")
    if not isinstance(data, list):
        raise DataError(f"{host_of(url)}: the page holds no list of entries ('data')")
    return data


def count_found(answer: Mapping[str, Any]) -> int | None:
    """Give how many entries the query has in all, if the server tells."""
    found = _object(answer.get("meta")).get("data_returned")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def asked_delay(answer: Mapping[str, Any]) -> float:
    """Give the seconds that the server wants between requests (OPTIMADE's `request_delay`)."""
    delay = _object(answer.get("meta")).get("request_delay")
    return float(delay) if isinstance(delay, int | float) and delay > 0 else 0.0
