"""How a server is asked: only that one, never without a pause, never for longer than allowed."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raymat.errors import DataError
from raymat.sources.databases import polite_requests
from raymat.sources.databases.answers import RefusedError, UnreachableError, same_server
from raymat.sources.databases.polite_requests import Manners, PoliteClient
from raymat.sources.databases.server import limit_page

QUICK = Manners(requests_per_second=1000.0, patience_s=0.0)


class Server(ThreadingHTTPServer):
    """A server on loopback; what it does is in the path that it is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, float]] = []
        self.elsewhere = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, time.monotonic()))
        getattr(self, f"say_{self.path.rpartition('/')[2]}")()

    def say_info(self) -> None:
        self.say(200, {"here": True})

    def say_near(self) -> None:
        self.say(302, {}, Location="info")

    def say_far(self) -> None:
        self.say(301, {}, Location=f"{self.server.elsewhere}/optimade/v1/info?a=\x1b[31m")

    def say_circle(self) -> None:
        self.say(307, {}, Location=self.path)

    def say_odd(self) -> None:
        self.say(307, {}, Location="http://[nonsense")

    def say_nowhere(self) -> None:
        self.say(302, {})

    def say_now(self) -> None:
        self.say(429, {}, **{"Retry-After": "0"})

    def say_past(self) -> None:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        self.say(503, {}, **{"Retry-After": format_datetime(yesterday)})

    def say_shout(self) -> None:
        self.send_response_only(404, "\x1b[31mnone\x07 here")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def say_drip(self) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.drip()

    def say_slow(self) -> None:
        self.send_response_only(200)
        self.flush_headers()
        self.drip()

    def drip(self) -> None:
        try:
            for _ in range(40):
                time.sleep(0.1)
                self.wfile.write(b" ")
                self.wfile.flush()
        except OSError:
            pass

    def say(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def ask(server: Server, path: str, manners: Manners = QUICK) -> dict[str, object]:
    with PoliteClient(manners) as client:
        return client.get_json(f"{server.url}/base/v1/{path}")


def test_a_redirection_within_the_server_is_followed(server):
    assert ask(server, "near") == {"here": True}
    assert [path for path, _ in server.asked] == ["/base/v1/near", "/base/v1/info"]


def test_another_server_is_not_asked(server):
    with serving() as other:
        server.elsewhere = other.url.replace("127.0.0.1", "localhost")
        with pytest.raises(DataError, match="sends us on to another server, which is not") as error:
            ask(server, "far")
        assert str(error.value).endswith(f"give {server.elsewhere}/optimade as PROVIDER")
        assert other.asked == []
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("circle", "sends us in a circle"),
        ("odd", "sends us on to another server"),
        ("nowhere", "the server says 302 Found"),
    ],
)
def test_redirections_that_lead_nowhere(server, path, words):
    with pytest.raises(DataError, match=words):
        ask(server, path)
    assert len(server.asked) <= 6


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("/v2/info", "http://a.org/v2/info"),
        ("https://a.org/v1", "https://a.org/v1"),
        ("//a.org:80/v1", "http://a.org:80/v1"),
        ("https://b.org/v1", None),
        ("https://a.org.b.org/", None),
        ("https://a.org@b.org/", None),
        ("ftp://a.org/", None),
        ("http://a.org:port/", None),
    ],
)
def test_who_is_the_same_server(link, there):
    assert same_server("http://a.org/v1/info", link) == there


def test_https_is_not_left():
    assert same_server("https://a.org/x", "http://a.org/y") == "https://a.org/y"


@pytest.mark.parametrize("path", ["now", "past"])
def test_a_server_that_names_no_pause_gets_one(server, path):
    waits: list[str] = []
    with (
        PoliteClient(Manners(1000.0, 2.5), waits.append) as client,
        pytest.raises(UnreachableError, match=r"asked 2 times within --patience 2\.5 s"),
    ):
        client.get_json(f"{server.url}/v1/{path}")
    first, second = (when for _, when in server.asked)
    assert second - first >= 1.0


def test_the_words_of_a_refusal_hold_no_codes(server):
    with pytest.raises(RefusedError, match=r"the server says 404 \[31mnone here$") as error:
        ask(server, "shout")
    assert error.value.status == 404
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", ["drip", "slow"])
def test_a_server_that_drips_is_left(server, path, monkeypatch):
    """Each byte comes in time; the whole answer would not."""
    monkeypatch.setattr(polite_requests, "_ANSWER_S", 0.5)
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"takes more than 0\.5 s; .* --page-size"):
        ask(server, path)
    assert time.monotonic() - start < 3.0


@pytest.mark.parametrize(
    ("url", "limited"),
    [
        (
            "http://a.org?page_limit=500&page_offset=500",
            "http://a.org?page_limit=20&page_offset=500",
        ),
        (
            "http://a.org?page_cursor=a%2Fb&page_limit=50",
            "http://a.org?page_cursor=a%2Fb&page_limit=20",
        ),
        ("http://a.org?page_limit=10", "http://a.org?page_limit=10"),
        ("http://a.org?page_limit=500&page_number=3", "http://a.org?page_limit=500&page_number=3"),
        ("http://a.org?my_page_limit=500", "http://a.org?my_page_limit=500"),
    ],
)
def test_a_link_is_limited_where_that_leads_to_the_same_entries(url, limited):
    assert limit_page(url, 20) == limited
