"""A server that answers W&B's client as far as runs need it, on this machine; and poor ones."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "f0" * 20  # a key has 40 characters
_OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")


class WandbServer(ThreadingHTTPServer):
    """Keeps what it is sent.

    Attributes:
        runs: id -> what W&B's client says of the run.
        history: id -> the rows of its curves, by their place.
        requests: how many of which kind there were, by operation or path.
        n_bytes: how many bytes they had.
        refuse: how a request is answered: "" as it should be, "close" with a closed connection,
            "files" refuses curves only, a number with that status.
    """

    daemon_threads = True

    def __init__(self, refuse: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = refuse
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, dict[int, dict[str, Any]]] = {}
        self.summary: dict[str, dict[str, Any]] = {}
        self.exits: dict[str, int] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.requests: Counter[str] = Counter()
        self.n_bytes = 0
        self.auth: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""

    def steps(self, run_id: str) -> list[int]:
        rows = self.history.get(run_id, {})
        return [rows[place]["_step"] for place in sorted(rows)]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation == "UpsertBucket":
            return self._upsert(variables)
        if operation == "RunResumeStatus":
            known = variables["name"] in self.runs
            model = {"id": "p", "name": variables["project"], "entity": ENTITY}
            return {"model": {**model, "bucket": self._state(variables["name"]) if known else None}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}"}}
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/up/{f}"} for f in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":
            self.artifacts.append(variables["input"])
            sequence = {"id": "s", "latestArtifact": None}
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        return {}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run_id = variables["name"]
        is_new = run_id not in self.runs
        told = {key: value for key, value in variables.items() if value is not None}
        self.runs.setdefault(run_id, {}).update(told)
        project = {"id": "p", "name": variables.get("project") or "p", "entity": ENTITY}
        bucket = {"id": f"id-{run_id}", "name": run_id, "displayName": run_id, "project": project}
        rest = {"description": None, "config": "{}", "sweepName": None, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": {**bucket, **rest}, "inserted": is_new}}

    def _state(self, run_id: str) -> dict[str, Any]:
        rows = self.history.get(run_id, {})
        tail = [json.dumps(rows[max(rows)])] if rows else []
        return {
            "id": f"id-{run_id}",
            "name": run_id,
            "displayName": run_id,
            "summaryMetrics": json.dumps(self.summary.get(run_id, {})),
            "logLineCount": 0,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "config": self.runs[run_id].get("config", "{}"),
            "tags": [],
            "notes": None,
            "wandbConfig": "{}",
        }

    def take_stream(self, run_id: str, content: dict[str, Any]) -> None:
        files = content.get("files", {})
        lines = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for k, line in enumerate(lines["content"]):
            self.history.setdefault(run_id, {})[lines["offset"] + k] = json.loads(line)
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            self.summary[run_id] = json.loads(line)
        if content.get("complete"):
            self.exits[run_id] = content.get("exitcode", 0)


ENTITY = {"id": "e", "name": "me"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self._take("PUT")
        self._reply(200, {})

    def do_GET(self) -> None:
        self._reply(404, {})

    def do_POST(self) -> None:
        path = self.path.rpartition("/")[2]
        body = self._take(path if path != "graphql" else "")
        refuse = self.server.refuse
        self.server.requests["refused"] += bool(refuse)
        if refuse == "close":
            self.close_connection = True
        elif refuse.isdigit() or (refuse == "files" and path == "file_stream"):
            self._reply(int(refuse) if refuse.isdigit() else 400, {"error": "not now"})
        elif path == "graphql":
            asked = json.loads(body)
            operation = _OPERATION.search(asked["query"]).group(1)
            self.server.requests[operation] += 1
            self._reply(200, {"data": self.server.answer(operation, asked.get("variables") or {})})
        else:
            self.server.take_stream(self.path.split("/")[-2], json.loads(body))
            self._reply(200, {"exitcode": None, "limits": {}})

    def _take(self, kind: str) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.n_bytes += len(body)
        self.server.auth.add(self.headers.get("Authorization", ""))
        if kind:
            self.server.requests[kind] += 1
        return body

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(refuse: str = "") -> Iterator[WandbServer]:
    server = WandbServer(refuse)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
