"""One answer of other people's servers: its JSON, where it sends us on, or why there is none."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from raymat.errors import DataError

MAX_RESPONSE_MB = 512  # of one response; more is no page but a mistake
_CHUNK = 1 << 20  # bytes
_REPEATED = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHOWN = 300  # characters of a server's message


class UnreachableError(DataError):
    """A server that did not answer, or not well, for as long as we were patient."""


class RefusedError(DataError):
    """A server that answered, and refused; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class TemporaryError(Exception):
    """A failure that a repetition may mend; `retry_after` is the server's wish, s."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def host_of(url: str) -> str:
    """Give the server of a URL, with its port."""
    return urlsplit(url).netloc


def printable(text: str) -> str:
    """Give a server's words in one line, without codes for the terminal."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())


def same_server(url: str, link: str) -> str | None:
    """Give where a server's link leads, as a whole URL; None if that is another server.

    A server behind a proxy may not know that it is called by https, and calls itself http.
    """
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, link))
        _ = there.port  # a port that is no number raises here
    except ValueError:
        return None
    if there.hostname != here.hostname or there.scheme not in ("http", "https"):
        return None
    if here.scheme == "https" and there.scheme == "http":
        there = there._replace(scheme="https", netloc=here.netloc)
    return urlunsplit(there)


def next_hop(answer: requests.Response) -> str | None:
    """Give the URL that a redirection names; None for any other answer.

    Raises:
        DataError: it leads to another server.
    """
    if not answer.is_redirect:
        return None
    link = answer.headers["Location"]
    there = same_server(answer.url, link)
    if there is None:
        elsewhere = f"{host_of(answer.url)}: sends us on to another server, which is not asked"
        raise DataError(f"{elsewhere}; if you trust it, give {_base_url(link)} as PROVIDER")
    return there


def _base_url(link: str) -> str:
    """Give the base URL of the server that a redirection names."""
    address = printable(link)[:_SHOWN].partition("?")[0]
    whole = f"https:{address}" if address.startswith("//") else address
    return whole.partition("/v1/")[0]


def refuse(answer: requests.Response) -> None:
    """Let a good answer pass.

    Raises:
        TemporaryError: a repetition may help.
        RefusedError: the server refuses; its words are in the message.
    """
    status = answer.status_code
    if status < 300:
        return
    said = f"the server says {status} {printable(answer.reason or '')[:_SHOWN]}".rstrip()
    if status in _REPEATED:
        asked = _retry_after(answer.headers.get("Retry-After"))
        raise TemporaryError(said, asked)
    words = _server_words(read_body(answer))
    raise RefusedError(f"{host_of(answer.url)}: {said}{words}", status=status)


def _retry_after(header: str | None) -> float | None:
    """Give the seconds of a ``Retry-After``, which is a number or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _server_words(body: bytes) -> str:
    """Give what an OPTIMADE server says about an error, in one line."""
    try:
        errors = json.loads(body)["errors"]
        said = [str(e.get("detail") or e.get("title") or "") for e in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    text = printable("; ".join(line for line in said if line))
    return f": {text[:_SHOWN]}" if text else ""


def read_body(answer: requests.Response) -> bytes:
    """Read an answer to its end.

    Raises:
        DataError: it is too large.
    """
    pieces, size = [], 0
    for piece in answer.iter_content(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE_MB * 1_000_000:
            limit = f"{MAX_RESPONSE_MB} MB"
            advice = "ask for smaller pages with --page-size"
            raise DataError(f"{host_of(answer.url)}: an answer of more than {limit}; {advice}")
    return b"".join(pieces)


def parse_json(body: bytes, url: str) -> dict[str, Any]:
    """Give the JSON object of an answer.

    Raises:
        TemporaryError: it is no JSON.
        DataError: it is JSON, but no object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as cause:
        start = body[:40].decode("utf-8", "replace")
        # A proxy's page in place of the server's answer goes away by itself, as a rule.
        raise TemporaryError(f"the answer is no JSON (begins {start!r})") from cause
    if not isinstance(found, dict):
        raise DataError(f"{host_of(url)}: the answer is no JSON object, so no OPTIMADE server")
    return found
