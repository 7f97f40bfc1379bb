r"""Standard output and error as all commands write to them.

Ids, formulas, paths and messages come from files of others. Control characters in them are written
as ``\\x1b``, so that no terminal obeys them; only what Rich draws passes as it is, see `terminal`.
A stream that is closed, a reader that has left and a terminal that knows ASCII only are no reason
to end a run.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from raymat.text import plain

_NOBODY_READS = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO)


class Stream(io.TextIOBase):
    """A standard stream that never raises; what can no longer be written is dropped.

    Args:
        raw: the stream of the interpreter.

    Attributes:
        problem: why text was lost, such as a full disk; None while none was, or if nobody reads it.
    """

    def __init__(self, raw: TextIO) -> None:
        super().__init__()
        self.raw, self.problem = raw, None

    problem: OSError | None

    def write(self, text: str) -> int:
        """Write text as it is; characters that the stream's encoding lacks are escaped."""
        self._try(lambda: self.raw.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._try(self.raw.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as cause:
            if cause.errno not in _NOBODY_READS:
                self.problem = cause
            self._write_nowhere()
        except ValueError:  # closed by somebody else
            pass

    def _write_nowhere(self) -> None:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, self.raw.fileno())  # also what still waits in its buffer
        os.close(sink)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream."""
        return self.raw.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How characters that the encoding lacks are written."""
        return self.raw.errors

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """Give the descriptor."""
        return self.raw.fileno()

    def writable(self) -> bool:
        """Whether it can be written."""
        return True


class PlainStream(Stream):
    """A standard stream that no text can control a terminal through.

    Args:
        raw: the stream of the interpreter.

    Attributes:
        rich_proxied_file: the same stream for what Rich has drawn, which Rich takes by itself.
    """

    def __init__(self, raw: TextIO) -> None:
        super().__init__(raw)
        self.rich_proxied_file = Stream(raw)

    def write(self, text: str) -> int:
        """Write text, its control characters escaped."""
        super().write(plain_lines(text))
        return len(text)

    @property
    def lost(self) -> OSError | None:
        """Why text was lost, whoever wrote it."""
        return self.problem or self.rich_proxied_file.problem


def plain_lines(text: str) -> str:
    """Return text of several lines whose control characters are escaped."""
    if text.isprintable():
        return text
    return "\n".join(plain(line, at_most=len(line)) for line in text.split("\n"))


@contextmanager
def plain_streams() -> Iterator[tuple[PlainStream, PlainStream]]:
    """Let everything that this process prints be safe to show, and never end it.

    Descriptors that are closed would be taken by the next files that are opened, which would then
    hold what is printed; they lead nowhere instead.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest one that is free
    before = sys.stdout, sys.stderr
    streams = PlainStream(_raw(sys.stdout, 1)), PlainStream(_raw(sys.stderr, 2))
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def _raw(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # closed from the beginning
        return open(descriptor, "w", encoding="utf-8", closefd=False)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
