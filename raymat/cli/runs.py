"""What every command that works in a run directory does about Ctrl-C and failures."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raymat.cli.interrupting import interruptible
from raymat.cli.live import LiveProgress
from raymat.cli.progress import RunProgress
from raymat.errors import RaymatError, RunError


class FailedRunError(RunError):
    """A run that had begun and failed: exit code 1, not 2 for unusable input."""

    exit_code = 1


@contextmanager
def running(path: Path, progress: RunProgress | LiveProgress) -> Iterator[None]:
    """Show progress; on Ctrl-C or SIGTERM say how the run at `path` is continued, and exit 130.

    Raises:
        FailedRunError: the run failed after it had begun.
        typer.Exit: it was interrupted.
    """
    with interruptible(lambda: _farewell(path)):
        try:
            with progress:
                yield
        except RaymatError as error:
            # What cannot be used is refused before there is a run; a run that is there has failed.
            if not (progress.has_begun and (path / "run.json").exists()):
                raise
            raise FailedRunError(f"{error} (run: {path})") from error


def _farewell(path: Path) -> str:
    if (path / "run.json").exists():
        return f"interrupted; continue with: raymat resume {shlex.quote(str(path))}"
    return "interrupted before the run began"
