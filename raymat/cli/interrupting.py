"""What commands do about Ctrl-C, SIGTERM and SIGHUP."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

INTERRUPTED = 130  # exit code, as shells give it after Ctrl-C


ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # of a scheduler; of a terminal that is closed


@contextmanager
def obeying_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does; one that is ignored stays so."""
    before = {number: signal.getsignal(number) for number in ENDINGS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, handler)


def leave_in_peace() -> None:
    """Ignore Ctrl-C from now on, as nothing is left to interrupt; other signals end the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ENDINGS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def interruptible(farewell: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, SIGTERM or SIGHUP write a line that says how the work goes on, and exit 130.

    Args:
        farewell: gives that line, once the work has stopped.

    Raises:
        typer.Exit: it was interrupted.
    """
    try:
        with obeying_signals():
            yield
    except KeyboardInterrupt:
        leave_in_peace()
        sys.stderr.write(f"{farewell()}\n")
        raise typer.Exit(INTERRUPTED) from None


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
