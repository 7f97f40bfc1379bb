"""The process that writes a run directory to W&B: once, or alongside a run.

It reads the event log, as anyone may, so the run waits for nothing: neither for W&B's process nor
for a server; and what goes wrong here ends here. It is told to end by a line on its standard input,
and ends by itself when that is closed, for then the run was killed.
"""

import json
import os
import select
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymat.errors import RaymatError, one_line
from raymat.reading import read_json
from raymat.tracking.events import Event
from raymat.tracking.run_directory import read_header
from raymat.tracking.wandb_book import WandbBook
from raymat.tracking.wandb_runs import WHOLE, WandbRun, WandbRuns, run_id

if TYPE_CHECKING:
    from raymat.tracking.wandb import Mode, Stream

POLL_S = 2.0
FINISH = "finish"  # the line that ends it
LOG = "events.jsonl"
_NICE = 19  # trials on this machine come first; Ray gives them 15
_SAVE_EVERY = 50  # runs; the folders themselves say what is written


class Projection:
    """Writes one run directory to W&B, as far as it has come.

    Args:
        path: the run directory.
        group: the study's name.
        mode: offline, or online.
        project: W&B's project.
        patience_s: how long a server may take to answer.
    """

    def __init__(
        self, path: Path, group: str, *, mode: "Mode", project: str, patience_s: float
    ) -> None:
        self.path, self.group, self.mode, self.project = path, group, mode, project
        self.patience_s = patience_s
        self.n_new = self.n_known = self.n_waiting = 0
        self._log = _Follower(path / LOG)
        self._runs = WandbRuns(read_header(path), group)
        self._done = set[str]()
        self._streams: dict[str, Stream] = {}
        self._id = ""

    def advance(self, book: WandbBook, *, is_last: bool) -> None:
        """Write what is new.

        Args:
            book: of the run directory.
            is_last: the run is over or has stopped, so its results are read, too.

        Raises:
            RunError: W&B cannot be reached, or the folder cannot be written.
        """
        for event in self._log.new():
            self._runs.take(event)
        if is_last:
            self._runs.conclude(read_header(self.path), _read_results(self.path))
        if not self._log.place:
            return
        self._id = self._id or run_id(self._runs.header, self.path / LOG)
        for run in self._runs:
            if run.key not in self._done:
                self._advance(run, book)
        if is_last:
            self._suspend()
        book.save()

    def _advance(self, run: WandbRun, book: WandbBook) -> None:
        name, is_offline = f"{self._id}-{run.key}", self.mode == "offline"
        is_astray = run.key == WHOLE and is_offline and book.was_moved(name)
        if book.has(name, offline=is_offline) and not is_astray:
            self._done.add(run.key)
            self.n_known += 1
        elif run.has_ended:
            self._end(run, name, book)
        elif not is_offline and run.rows:
            self._stream(run, name, book).push()

    def _end(self, run: WandbRun, name: str, book: WandbBook) -> None:
        from raymat.tracking.wandb import settle
        from raymat.tracking.wandb_attachments import read_attachments

        if run.key == WHOLE:
            shutil.rmtree(book.staged, ignore_errors=True)  # of a process that was killed
        stream, place = self._stream(run, name, book), None
        stream.end(read_attachments(self.path) if run.key == WHOLE else None)
        if self.mode == "offline":
            place = settle(stream, book.folder)
        else:
            shutil.rmtree(stream.folder, ignore_errors=True)  # the server has it, and the log
        del self._streams[run.key]
        self._done.add(run.key)
        book.note(name, self.mode, len(run.rows), place)
        self.n_new += 1
        if self.n_new % _SAVE_EVERY == 0:
            book.save()

    def _stream(self, run: WandbRun, name: str, book: WandbBook) -> "Stream":
        from raymat.tracking.wandb import Stream  # a second of CPU time, if it is needed at all

        if run.key not in self._streams:
            self._streams[run.key] = Stream(
                run,
                name,
                project=self.project,
                group=self.group,
                mode=self.mode,
                folder=book.unfinished,
                patience_s=self.patience_s,
            )
        return self._streams[run.key]

    def _suspend(self) -> None:
        """Leave online runs that have not ended, to be continued; offline ones wait."""
        self.n_waiting = sum(1 for run in self._runs if run.key not in self._done)
        for stream in self._streams.values():
            stream.run.summary.setdefault("status", "interrupted")
            stream.end()
        self._streams.clear()


class _Follower:
    """Reads a log that another process appends to; a line that is not whole is left for later."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    def new(self) -> Iterator[Event]:
        """Give the events that were appended since the last time."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            content = file.read()
        whole = content.rfind(b"\n") + 1
        self.place += whole
        for line in content[:whole].splitlines():
            if line.strip():
                yield json.loads(line)


def find_parts(path: Path) -> dict[str, Path]:
    """Give a run directory, and those within it that a series has, by their groups' names."""
    within = sorted(file.parent for file in path.glob("*/run.json"))
    return {path.name: path} | {f"{path.name}/{part.name}": part for part in within}


def main() -> None:
    """Write a run directory to W&B as the first argument, a JSON object, says."""
    asked = json.loads(sys.argv[1])
    path = Path(asked["path"])
    options: dict[str, Any] = {key: asked[key] for key in ("project", "patience_s")}
    options["mode"] = asked["mode"]
    try:
        if asked["follow"]:
            os.nice(_NICE)
            said = _follow(path, options)
        else:
            said = _project_all(path, options)
    except (RaymatError, OSError) as error:
        said = {"failed": one_line(error)}
    except Exception as error:  # noqa: BLE001  W&B's package may raise anything
        said = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    if "failed" in said:
        os._exit(1)  # W&B would wait for a server that does not answer; its process ends with us
    _close()


def _follow(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Write what comes, until the run says that it is over; nothing more if it was killed."""
    with WandbBook(path) as book:
        live = Projection(path, path.name, **options)
        while (word := _hear(POLL_S)) is None:
            live.advance(book, is_last=False)
        if word != FINISH:
            return {}
        live.advance(book, is_last=True)
    return _add(_counts(live), _project_within(path, options))


def _project_all(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    return _add(_project(path, path.name, options), _project_within(path, options))


def _project_within(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for group, part in find_parts(path).items():
        if part != path:
            counts = _add(counts, _project(part, group, options))
    return counts


def _project(path: Path, group: str, options: dict[str, Any]) -> dict[str, Any]:
    with WandbBook(path) as book:
        once = Projection(path, group, **options)
        once.advance(book, is_last=True)
    return _counts(once)


def _counts(of: Projection) -> dict[str, Any]:
    return {"new": of.n_new, "known": of.n_known, "waiting": of.n_waiting}


def _add(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {*a, *b}}


def _close() -> None:
    """End W&B's own process, if it was needed."""
    if "raymat.tracking.wandb" in sys.modules:
        sys.modules["raymat.tracking.wandb"].close()


def _read_results(path: Path) -> dict[str, Any]:
    """Read the JSON files of results that are there."""
    files = {name: path / f"{name}.json" for name in ("metrics", "calibration")}
    return {name: read_json(file) for name, file in files.items() if file.is_file()}


def _hear(seconds: float) -> str | None:
    """Give a line of standard input, "" at its end, None if there is none for some seconds."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.readline().strip() if ready else None


if __name__ == "__main__":
    main()
