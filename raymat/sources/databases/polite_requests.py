"""HTTP to other people's servers: slowly, patiently, one request at a time.

`requests` asks (the synchronous half of the `optimade` package's own client does, too) and
`tenacity` repeats. A server that says 429 or 5xx, does not answer, or drops the line is asked
again with exponential back-off and jitter, not before its ``Retry-After``, until the patience for
one request is used up. No other server is asked, even if this one sends us there.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import requests
import tenacity

import raymat
from raymat.errors import DataError
from raymat.sources.databases.answers import (
    TemporaryError,
    UnreachableError,
    host_of,
    next_hop,
    parse_json,
    read_body,
    refuse,
)
from raymat.sources.databases.limits import PATIENCE_S, REQUESTS_PER_SECOND

_CONNECT_S, _SILENCE_S = 20.0, 120.0  # until connected; between two pieces of an answer
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_ANSWER_S = 300.0  # for a whole answer: a server that drips bytes is never silent
_HOPS = 5  # redirections of one request
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Manners:
    """How a server is treated.

    Attributes:
        requests_per_second: at most so many.
        patience_s: for how long one request is repeated, s.
    """

    requests_per_second: float = REQUESTS_PER_SECOND
    patience_s: float = PATIENCE_S


class _Session(requests.Session):
    """Leaves redirections to us: `requests` would follow them to any server."""

    def get_redirect_target(self, _answer: requests.Response) -> str | None:
        return None


class PoliteClient:
    """Asks one server for JSON.

    Args:
        manners: rate and patience.
        waits: called with a line for people before each wait for a repetition.
    """

    def __init__(self, manners: Manners, waits: Callable[[str], None] = lambda _line: None) -> None:
        self.manners, self._waits = manners, waits
        self._session = _Session()
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
            retry=tenacity.retry_if_exception_type(TemporaryError),
            wait=_wait,
            stop=tenacity.stop_before_delay(self.manners.patience_s),
            before_sleep=self._tell_wait,
            reraise=True,
        )
        try:
            found: dict[str, Any] = retrying(self._get_once, url)
        except TemporaryError as cause:
            times = retrying.statistics["attempt_number"]
            tried = "asked once" if times == 1 else f"asked {times} times"
            wish = f"; it asks to wait {cause.retry_after:.0f} s" if cause.retry_after else ""
            patience = f"{tried} within --patience {self.manners.patience_s:g} s"
            raise UnreachableError(f"{host_of(url)}: {cause}{wish} ({patience})") from cause
        return found

    def _get_once(self, url: str) -> dict[str, Any]:
        address = url
        for _ in range(1 + _HOPS):
            self._keep_rate()
            body, hop = _within(_ANSWER_S, partial(self._ask, address))
            if hop is None:
                return parse_json(body, url)
            address = hop
        raise DataError(f"{host_of(url)}: sends us in a circle; tell its owner")

    def _ask(self, url: str) -> tuple[bytes, str | None]:
        """Give the body of an answer, or where it sends us on."""
        limits = (_CONNECT_S, _SILENCE_S)
        try:
            with self._session.get(url, stream=True, timeout=limits) as answer:
                hop = next_hop(answer)
                if hop is not None:
                    return b"", hop
                refuse(answer)
                return read_body(answer), None
        except (requests.exceptions.InvalidURL, UnicodeError) as cause:
            raise DataError(f"{url!r}: no usable address") from cause
        except requests.RequestException as cause:
            raise TemporaryError(_say_failure(cause)) from cause

    def _keep_rate(self) -> None:
        now = time.monotonic()
        if self._next_request > now:
            time.sleep(self._next_request - now)
        self._next_request = time.monotonic() + 1.0 / self.manners.requests_per_second

    def _tell_wait(self, state: tenacity.RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        self._waits(f"{problem}; asking again in {state.upcoming_sleep:.0f} s")


_back_off = tenacity.wait_exponential_jitter(initial=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    problem = state.outcome.exception() if state.outcome else None
    asked = problem.retry_after if isinstance(problem, TemporaryError) else None
    return max(float(_back_off(state)), asked or 0.0)  # nobody is asked again without a pause


def _within(seconds: float, work: Callable[[], _Found]) -> _Found:
    """Give what `work` gives, if it does so in time; else it is left alone.

    The time-outs of a connection count from one byte to the next, so they do not bound an answer.
    """
    answer: Future[_Found] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as problem:  # noqa: BLE001  it is raised where somebody waits for it
            answer.set_exception(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer.done():
        slow = f"an answer takes more than {seconds:g} s"
        raise TemporaryError(f"{slow}; smaller ones come with --page-size")
    return answer.result()


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
