"""What every command that can go on later does about Ctrl-C and SIGTERM."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

INTERRUPTED = 130  # exit code, as shells give it after Ctrl-C


@contextmanager
def interruptible(farewell: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C or SIGTERM write a line that says how the work goes on, and exit 130.

    Args:
        farewell: gives that line, once the work has stopped.

    Raises:
        typer.Exit: it was interrupted.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
        sys.stderr.write(f"{farewell()}\n")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
