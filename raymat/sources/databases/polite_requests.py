"""HTTP to other people's servers: slowly, patiently, one request at a time.

`requests` asks (the synchronous half of the `optimade` package's own client does, too) and
`tenacity` repeats. A server that says 429 or 5xx, does not answer, or drops the line is asked
again with exponential back-off and jitter, or after the time that its ``Retry-After`` names, until
the patience for one request is used up.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import tenacity

import raymat
from raymat.errors import DataError
from raymat.sources.databases.limits import PATIENCE_S, REQUESTS_PER_SECOND

MAX_RESPONSE_MB = 512  # of one response; more is no page but a mistake
_CONNECT_S, _SILENCE_S = 20.0, 120.0  # until connected; between two pieces of an answer
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
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

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_refused, (str(self), self.status)


@dataclass(frozen=True)
class Manners:
    """How a server is treated.

    Attributes:
        requests_per_second: at most so many.
        patience_s: for how long one request is repeated, s.
    """

    requests_per_second: float = REQUESTS_PER_SECOND
    patience_s: float = PATIENCE_S


class PoliteClient:
    """Asks one server for JSON.

    Args:
        manners: rate and patience.
        waits: called with a line for people before each wait for a repetition.
    """

    def __init__(self, manners: Manners, waits: Callable[[str], None] = lambda _line: None) -> None:
        self.manners, self._waits = manners, waits
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"raymat/{raymat.__version__}"
        self._session.headers["Accept"] = "application/vnd.api+json, application/json"
        self._next_request = 0.0

    def __enter__(self) -> "PoliteClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def slow_down(self, seconds: float) -> None:
        """Leave at least so many seconds before the next request, within reason."""
        wait = min(seconds, _LONGEST_WAIT_S)
        self._next_request = max(self._next_request, time.monotonic() + wait)

    def get_json(self, url: str) -> dict[str, Any]:
        """Give the JSON object at a URL, asking again where that may help.

        Raises:
            UnreachableError: no good answer within the patience.
            RefusedError: the server refuses; its words are in the message.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TemporaryError),
            wait=_wait,
            stop=tenacity.stop_before_delay(self.manners.patience_s),
            before_sleep=self._tell_wait,
            reraise=True,
        )
        try:
            found: dict[str, Any] = retrying(self._get_once, url)
        except _TemporaryError as cause:
            times = retrying.statistics["attempt_number"]
            tried = "asked once" if times == 1 else f"asked {times} times"
            wish = f"; it asks to wait {cause.retry_after:.0f} s" if cause.retry_after else ""
            patience = f"{tried} within --patience {self.manners.patience_s:g} s"
            raise UnreachableError(f"{host_of(url)}: {cause}{wish} ({patience})") from cause
        return found

    def _get_once(self, url: str) -> dict[str, Any]:
        self._keep_rate()
        try:
            with self._session.get(url, stream=True, timeout=(_CONNECT_S, _SILENCE_S)) as answer:
                _refuse(answer)
                body = _read(answer)
        except (requests.exceptions.InvalidURL, UnicodeError) as cause:
            raise DataError(f"{url!r}: no usable address") from cause
        except requests.RequestException as cause:
            raise _TemporaryError(_say_failure(cause)) from cause
        return _parse(body, url)

    def _keep_rate(self) -> None:
        now = time.monotonic()
        if self._next_request > now:
            time.sleep(self._next_request - now)
        self._next_request = time.monotonic() + 1.0 / self.manners.requests_per_second

    def _tell_wait(self, state: tenacity.RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        self._waits(f"{problem}; asking again in {state.upcoming_sleep:.0f} s")


class _TemporaryError(Exception):
    """A failure that a repetition may mend; `retry_after` is the server's wish, s."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def host_of(url: str) -> str:
    """Give the server of a URL, with its port."""
    return urlsplit(url).netloc


_back_off = tenacity.wait_exponential_jitter(initial=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    problem = state.outcome.exception() if state.outcome else None
    asked = problem.retry_after if isinstance(problem, _TemporaryError) else None
    return float(_back_off(state)) if asked is None else asked


def _refuse(answer: requests.Response) -> None:
    status = answer.status_code
    if status < 400:
        return
    if status in _REPEATED:
        asked = _retry_after(answer.headers.get("Retry-After"))
        raise _TemporaryError(f"the server says {status} {answer.reason}", asked)
    words = _server_words(_read(answer))
    raise RefusedError(
        f"{host_of(answer.url)}: the server says {status} {answer.reason}{words}", status=status
    )


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
    joined = "; ".join(line for line in said if line)
    plain = "".join(c if c.isprintable() else " " for c in joined)  # no codes for the terminal
    text = " ".join(plain.split())
    return f": {text[:_SHOWN]}" if text else ""


def _read(answer: requests.Response) -> bytes:
    pieces, size = [], 0
    for piece in answer.iter_content(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE_MB * 1_000_000:
            limit = f"{MAX_RESPONSE_MB} MB"
            advice = "ask for smaller pages with --page-size"
            raise DataError(f"{host_of(answer.url)}: an answer of more than {limit}; {advice}")
    return b"".join(pieces)


def _say_failure(cause: requests.RequestException) -> str:
    if isinstance(cause, requests.Timeout):
        return "the server does not answer"
    if isinstance(cause, requests.exceptions.SSLError):
        return "the server's certificate cannot be checked"
    if isinstance(cause, requests.exceptions.ChunkedEncodingError):
        return "the line dropped in the middle of an answer"
    if isinstance(cause, requests.ConnectionError):
        return "the server cannot be reached, or dropped the line"
    return f"the request failed ({type(cause).__name__})"


def _parse(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as cause:
        start = body[:40].decode("utf-8", "replace")
        # A proxy's page in place of the server's answer goes away by itself, as a rule.
        raise _TemporaryError(f"the answer is no JSON (begins {start!r})") from cause
    if not isinstance(found, dict):
        raise DataError(f"{host_of(url)}: the answer is no JSON object, so no OPTIMADE server")
    return found


def _rebuild_refused(message: str, status: int) -> RefusedError:
    return RefusedError(message, status=status)
