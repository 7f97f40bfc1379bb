"""Brings run directories to Weights & Biases: `project` at any time, `LiveProjection` alongside.

The event log is the truth and W&B a projection of it, made by a process of its own. So W&B can
neither stop nor slow a run: what fails there is told once, and made up for by `project`.
"""

import json
import os
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from raymat.errors import ConfigError, RaymatError, RunError
from raymat.reading import read_json
from raymat.tracking.events import Event
from raymat.tracking.run_directory import BEGINNINGS, read_header
from raymat.tracking.wandb_state import has_credentials

Mode = Literal["offline", "online"]
PROJECT = "raymat"
PATIENCE_S = 30.0  # for a server to answer
_FINISH_S, _LEAVE_S = 600.0, 10.0  # to wait for uploads at a run's end; when it was interrupted
_FOLDER, _ASKED = "wandb", "asked.json"
_WORKER = "raymat.tracking.wandb_worker"
# What of the environment may reach W&B. The rest is for scripts that call it themselves: an id or
# a name would make all trials one run.
_KEPT = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_CONFIG_DIR", "WANDB_APP_URL"),
    *("WANDB_IDENTITY_TOKEN_FILE", "WANDB_CREDENTIALS_FILE", "WANDB_INSECURE_DISABLE_SSL"),
    *("WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY"),
)


@dataclass(frozen=True)
class ProjectionResult:
    """What was brought to W&B.

    Attributes:
        path: the run directory.
        mode: offline, or online.
        new: W&B runs written now.
        known: W&B runs that were complete before.
        waiting: W&B runs that come when what they show has ended.
    """

    path: Path
    mode: Mode
    new: int
    known: int
    waiting: int

    def lines(self) -> list[str]:
        """Say it, and what to do next."""
        before = f", {self.known} there before" if self.known else ""
        later = f", {self.waiting} to come when the run has ended" if self.waiting else ""
        where = f" in {self.path / _FOLDER}" if self.mode == "offline" else ""
        said = [f"W&B:              {self.new} runs written{before}{later}{where}"]
        if self.mode == "offline" and self.new + self.known:
            said.append(f"upload them:      wandb sync {shlex.quote(str(self.path / _FOLDER))}")
        return said


def check_wandb(mode: Mode) -> None:
    """Check that W&B can be used, before anything is done.

    Raises:
        ConfigError: its package is missing, or there is no key for its server.
    """
    if find_spec("wandb") is None:
        raise ConfigError("--wandb needs the package wandb: pip install 'raymat[wandb]'")
    if mode == "online" and not has_credentials(os.environ, Path.home()):
        raise ConfigError(
            "--wandb online: there is no key for W&B; run `wandb login`, set WANDB_API_KEY, or take"
            " --wandb offline and upload later"
        )


def project(
    path: Path, *, mode: Mode, project: str | None = None, patience_s: float = PATIENCE_S
) -> ProjectionResult:
    """Bring a run directory to W&B, as far as it has come; what is there is left alone.

    Args:
        path: the run directory; also of a run that another process is at.
        mode: offline writes files for `wandb sync` into its folder `wandb`, online uploads.
        project: W&B's project; `WANDB_PROJECT` or "raymat" unless given.
        patience_s: how long a server may take to answer.

    Raises:
        ConfigError: W&B's package or key is missing.
        RunError: it is no run directory, its folder cannot be written, or the server does not
            take it; what has been written stays, and is not written again.
    """
    check_wandb(mode)
    read_header(path)
    worker = _Worker(path, mode, project, patience_s, is_live=False)
    try:
        said = worker.hear(None)
    finally:
        worker.end()
    if said is None or "failed" in said:
        raise RunError(f"{path}: W&B ({mode}): {_problem(said, worker)}")
    return ProjectionResult(path, mode, said["new"], said["known"], said["waiting"])


def remembered(path: Path) -> Mode | None:
    """Give how a run that is resumed was brought to W&B; None if it was not."""
    try:
        mode = read_json(path / _FOLDER / _ASKED)["mode"]
    except (OSError, ValueError, KeyError):
        return None
    return mode if mode in ("offline", "online") else None


class LiveProjection:
    """A listener that has a run brought to W&B while it goes on; it never raises.

    A problem is given back once, as a warning for the run's log; after that it is silent.

    Args:
        path: the run directory.
        mode: offline, or online.
        project: W&B's project.
        patience_s: how long a server may take to answer.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: Mode,
        project: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.path, self.mode, self.project, self.patience_s = path, mode, project, patience_s
        self.problem = ""
        self._worker: _Worker | None = None

    def __call__(self, event: Event) -> str | None:
        """Take an event: the first begins the projection, all others only ask how it goes."""
        if self.problem:
            return None
        if self._worker is None and event["event"] in BEGINNINGS:
            self._start()
        elif self._worker is not None and (said := self._worker.hear(0.0)) is not None:
            self._give_up(_problem(said, self._worker))
        return self._warning() if self.problem else None

    def finish(self, *, is_interrupted: bool = False) -> ProjectionResult | None:
        """Bring the rest and give how much it was; None if there was a problem, or no run.

        Args:
            is_interrupted: somebody waits to leave; what does not arrive soon can be made up for.
        """
        if self._worker is None:
            return None
        self._worker.ask_to_finish()
        said = self._worker.hear(_LEAVE_S if is_interrupted else _FINISH_S)
        if said is None or "new" not in said:
            self._give_up(_problem(said, self._worker) if said else "it takes too long")
            return None
        self._worker.end()
        self._worker = None
        return ProjectionResult(self.path, self.mode, said["new"], said["known"], said["waiting"])

    def _start(self) -> None:
        try:
            (self.path / _FOLDER).mkdir(exist_ok=True)
            asked = json.dumps({"mode": self.mode, "project": self.project})
            (self.path / _FOLDER / _ASKED).write_text(asked, encoding="utf-8")
            self._worker = _Worker(
                self.path, self.mode, self.project, self.patience_s, is_live=True
            )
        except (OSError, RaymatError) as error:
            self._give_up(str(error))

    def _give_up(self, problem: str) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
        self.problem = problem

    def _warning(self) -> str:
        later = f"raymat report {shlex.quote(str(self.path))} --wandb {self.mode} --overwrite"
        return f"W&B: {self.problem}; the run continues; `{later}` uploads what is missing"


class _Worker:
    """The process that writes to W&B."""

    def __init__(
        self, path: Path, mode: Mode, project: str | None, patience_s: float, *, is_live: bool
    ) -> None:
        asked = {
            "path": str(path.absolute()),
            "mode": mode,
            "project": project or os.environ.get("WANDB_PROJECT") or PROJECT,
            "patience_s": patience_s,
            "follow": is_live,
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            # -P: a folder `wandb` where the command was typed is no package
            [sys.executable, "-P", "-m", _WORKER, json.dumps(asked)],
            stdin=subprocess.PIPE if is_live else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(path.absolute() / _FOLDER, mode),
            start_new_session=True,  # Ctrl-C is for the run, which then ends this in order
        )
        self._heard = b""

    def hear(self, seconds: float | None) -> dict[str, Any] | None:
        """Give what it says at its end; None if it says nothing for some seconds."""
        pipe = self._process.stdout
        deadline = None if seconds is None else time.monotonic() + seconds
        while pipe is not None and not self._heard.endswith(b"\n"):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                return None
            content = os.read(pipe.fileno(), 65_536)
            if not content:  # it ended without a word
                return {"failed": self.last_line()}
            self._heard += content
        return dict(json.loads(self._heard))

    def ask_to_finish(self) -> None:
        """Have it write the rest and end."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(b"finish\n")
                self._process.stdin.close()
        except OSError:
            return  # it has ended; what it said is heard

    def last_line(self) -> str:
        """Give the last line that it wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its process ended without a word"

    def end(self) -> None:
        """End it, if it has not ended by itself."""
        try:
            self._process.wait(timeout=1.0 if self._heard else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # everything it writes may be cut off anywhere
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                _close(pipe)


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        return  # a last word that nobody reads


def _environment(folder: Path, mode: Mode) -> dict[str, str]:
    kept = {key: text for key, text in os.environ.items() if not key.startswith("WANDB_")}
    kept |= {key: os.environ[key] for key in _KEPT if key in os.environ}
    if mode == "offline":
        kept.pop("WANDB_API_KEY", None)
    return kept | {
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_CACHE_DIR": str(folder / ".writing"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }


def _problem(said: Mapping[str, Any] | None, worker: _Worker) -> str:
    return str((said or {}).get("failed") or worker.last_line())
