"""The `wandb` folder of a run directory: who writes there, and what is written already."""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raymat.errors import RunError
from raymat.reading import read_json

FOLDER = "wandb"
_BOOK, _UNFINISHED, _STAGED = "projected.json", ".writing", "data"
_WAIT_S, _POLL_S = 20.0, 0.2


class WandbBook:
    """Remembers which W&B runs of a run directory are written; use as a context manager.

    An offline run is written if there is its folder: nothing has to be remembered for that at the
    very instant, so a process may be killed anywhere. The book `projected.json` is for what the
    folders cannot tell: that an online run is complete, or that a folder was uploaded and removed.

    Args:
        run: the run directory.

    Raises:
        RunError: the folder cannot be written, or another process is at work in it.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run.absolute(), run.absolute() / FOLDER
        self.unfinished, self.staged = self.folder / _UNFINISHED, self.folder / _STAGED
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = self._wait_for_lock()
            shutil.rmtree(self.unfinished, ignore_errors=True)  # of a process that was killed
            self.unfinished.mkdir(exist_ok=True)
            self._entries, self._places = self._read(), self._find_places()
        except OSError as cause:
            raise self.cannot_write(cause) from cause
        self._is_changed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.save()
        except RunError:
            if kind is None:
                raise
        finally:
            os.close(self._lock)

    def has(self, run_id: str, *, offline: bool) -> bool:
        """Say whether nothing is left to be written of a W&B run.

        Offline that is also so if it has been written online, but not the other way round: nobody
        knows whether an offline run was ever uploaded, and the server does.
        """
        entry = self._entries.get(run_id)
        if not offline:
            return entry is not None and entry["mode"] == "online"
        return entry is not None or self.place_of(run_id) is not None

    def was_moved(self, run_id: str) -> bool:
        """Say whether an offline run names files where they no longer are, and is yet to upload.

        W&B writes down the whole paths of a model's and a table's files.
        """
        entry, place = self._entries.get(run_id), self.place_of(run_id)
        if place is None or any(place.glob("*.synced")):
            return False
        return entry is None or entry["path"] != str(self.run)

    def place_of(self, run_id: str) -> Path | None:
        """Give the folder of a W&B run that is written offline."""
        return self._places.get(run_id)

    def note(self, run_id: str, mode: str, n_steps: int, place: Path | None) -> None:
        """Remember a W&B run as written, offline in a folder; an older one of it is removed."""
        old = self._places.pop(run_id, None)
        if old is not None and old != place:
            shutil.rmtree(old, ignore_errors=True)
        if place is not None:
            self._places[run_id] = place
        self._entries[run_id] = {"mode": mode, "steps": n_steps, "path": str(self.run)}
        self._is_changed = True

    def save(self) -> None:
        """Write the book, whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        if not self._is_changed:
            return
        try:
            handle, name = tempfile.mkstemp(prefix=f".{_BOOK}.", dir=self.folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._entries, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.folder / _BOOK)
        except OSError as cause:
            raise self.cannot_write(cause) from cause
        self._is_changed = False

    def cannot_write(self, cause: OSError) -> RunError:
        """Give what to tell a user of it."""
        reason = cause.strerror or str(cause)
        return RunError(f"{self.folder}: cannot be written ({reason}); the run is not harmed")

    def _find_places(self) -> dict[str, Path]:
        """Give the folders of offline runs, `offline-run-TIME-ID`, by their ids."""
        places = self.folder.glob("offline-run-*-*")
        return {place.name.split("-", 3)[3]: place for place in places}

    def _read(self) -> dict[str, Any]:
        try:
            content = read_json(self.folder / _BOOK)
        except FileNotFoundError:
            return {}
        except ValueError as cause:
            raise RunError(f"{self.folder / _BOOK}: cannot be read ({cause}); remove it") from cause
        return content

    def _wait_for_lock(self) -> int:
        """The kernel frees the lock when a process ends, however it ends."""
        handle = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as cause:
                if cause.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(handle)
                    raise
                if time.monotonic() > deadline:
                    os.close(handle)
                    text = f"{self.folder}: another process writes this run to W&B; wait for it"
                    raise RunError(text) from cause
                time.sleep(_POLL_S)
            else:
                return handle
