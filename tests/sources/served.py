"""The reference OPTIMADE server as a process of its own, with a few faults in front of it.

Run as ``python served.py SETTINGS.json``. It binds a port of loopback, writes it to a file when it
answers, and writes a line for every request that reached it.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn


class Faults:
    """ASGI in front of the server: counts requests, and fails those that the settings name.

    A file maps the number of a request for structures (from 1, since the file was written) to what
    happens to it, ``always`` to what happens to all others: ``429``, ``503``, ``drop`` (the line
    ends in the middle of the answer), ``html``, ``loop`` (the link to the next page is its own),
    ``elsewhere``, ``spoil`` (entries are damaged), ``odd`` (half characters), ``shout`` (codes for
    a terminal), ``empty``, ``last`` (no link to the next), ``again`` (an id of the first page),
    ``busy`` (for an hour) or ``wait`` (half a second).
    """

    def __init__(self, app: Any, settings: dict[str, Any]) -> None:
        self.app, self.settings, self.n_pages = app, settings, 0
        self.log, self.told = Path(settings["log"]), ""

    def next_fault(self) -> str:
        told = Path(self.settings["faults"]).read_text(encoding="utf-8")
        self.n_pages = 1 if told != self.told else self.n_pages + 1
        self.told = told
        faults = json.loads(told)
        return faults.get(str(self.n_pages), faults.get("always", ""))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode()
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{scope['path']}?{query}\n")
        fault = "licensed" if scope["path"] == "/v1/info" and self.settings["licence"] else ""
        if scope["path"].endswith("/structures") and "info" not in scope["path"]:
            fault = self.next_fault()
        await getattr(self, f"_{fault or 'pass'}")(scope, receive, send)

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def _licensed(self, scope: Any, receive: Any, send: Any) -> None:
        # The reference server would ask the internet whether a licence it is told exists.
        told = {"available_licenses": [self.settings["licence"]]}
        await self._change(
            scope, receive, send, lambda info: info["data"]["attributes"].update(told)
        )

    async def _429(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _say(send, 429, b"slower", [(b"retry-after", b"1")])

    async def _busy(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _say(send, 429, b"slower", [(b"retry-after", b"3600")])

    async def _shout(self, _scope: Any, _receive: Any, send: Any) -> None:
        said = {"errors": [{"detail": "\x1b[31mno"}, {"title": "two\nlines"}]}
        await _say(send, 400, json.dumps(said).encode())

    async def _odd(self, scope: Any, receive: Any, send: Any) -> None:
        def change(page: dict[str, Any]) -> None:
            page["data"][0]["id"] = "id-\ud800"
            page["data"][0]["attributes"]["_oqmd_prototype"] = "\udfff\x1b[31m"

        await self._change(scope, receive, send, change)

    async def _empty(self, scope: Any, receive: Any, send: Any) -> None:
        await self._change(scope, receive, send, lambda page: page.update(data=[]))

    async def _last(self, scope: Any, receive: Any, send: Any) -> None:
        await self._change(scope, receive, send, lambda page: page["links"].update(next=None))

    async def _again(self, scope: Any, receive: Any, send: Any) -> None:
        await self._change(
            scope, receive, send, lambda page: page["data"][0].update(id="made-00003")
        )

    async def _503(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _say(send, 503, b"away")

    async def _html(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _say(send, 200, b"<html>a proxy speaks</html>")

    async def _wait(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await self.app(scope, receive, send)

    async def _drop(self, scope: Any, receive: Any, send: Any) -> None:
        status, headers, body = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        raise ConnectionAbortedError  # uvicorn closes the connection

    async def _loop(self, scope: Any, receive: Any, send: Any) -> None:
        url = f"{self.settings['base_url']}{scope['path']}?{scope['query_string'].decode()}"
        await self._change(scope, receive, send, lambda page: page["links"].update(next=url))

    async def _elsewhere(self, scope: Any, receive: Any, send: Any) -> None:
        other = "http://database.invalid/v1/structures"
        await self._change(scope, receive, send, lambda page: page["links"].update(next=other))

    async def _spoil(self, scope: Any, receive: Any, send: Any) -> None:
        await self._change(scope, receive, send, _spoil)

    async def _change(self, scope: Any, receive: Any, send: Any, change: Any) -> None:
        status, _headers, body = await self._answer(scope, receive)
        page = json.loads(body)
        change(page)
        await _say(send, status, json.dumps(page).encode())

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, list[Any], bytes]:
        plain = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
        told: list[Any] = []

        async def listen(message: Any) -> None:
            told.append(message)

        await self.app({**scope, "headers": plain}, receive, listen)
        body = b"".join(m.get("body", b"") for m in told)
        return told[0]["status"], told[0]["headers"], body


def _spoil(page: dict[str, Any]) -> None:
    """Damage the first entries of a page, each in its own way."""
    entries = page["data"]
    entries[0]["attributes"]["lattice_vectors"] = [[1.0, 0.0], [0.0, 1.0]]
    entries[1]["attributes"]["cartesian_site_positions"].append([0.0, 0.0, 0.0])
    del entries[2]["attributes"]
    entries[3] = "nonsense"
    entries[4]["attributes"]["lattice_vectors"][0] = [None, None, None]
    entries[5]["attributes"]["species_at_sites"] = None
    del entries[6]["id"]
    entries[7]["attributes"]["species"] = {"not": "a list"}


async def _say(
    send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    told = [(b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", settings.get("port", 0)))
    listening.listen()  # from here on requests wait; none is refused
    port = listening.getsockname()[1]
    settings["base_url"] = f"http://127.0.0.1:{port}"

    from optimade.server.config import ServerConfig
    from optimade.server.create_app import create_app

    config = ServerConfig(**settings["config"], base_url=settings["base_url"])
    app = create_app(config)
    structures = app.state.entry_collections["structures"]
    structures.insert(json.loads(Path(settings["structures"]).read_text(encoding="utf-8")))
    server = uvicorn.Server(uvicorn.Config(Faults(app, settings), log_level="critical"))
    ready = Path(settings["ready"])
    (ready.with_suffix(".new")).write_text(str(port), encoding="utf-8")
    os.replace(ready.with_suffix(".new"), ready)  # noqa: PTH105
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
