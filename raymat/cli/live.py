"""What the progress displays of commands share: a live display, or plain lines in a log.

Progress goes to standard error, so that standard output holds results only.
"""

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymat.cli.terminal import Terminal

if TYPE_CHECKING:
    from raymat.tracking.events import Event

STATUS_EVERY_S = 30.0  # in a log
REFRESHES_PER_S = 2
BAR_WIDTH = 60


class LiveProgress(ABC):
    """A listener that shows a run by its events; use as a context manager around it.

    A subclass takes an event ``x`` in its method ``_take_x``; events without one pass.

    Args:
        quiet: show nothing.
        console: where to show it; standard error if None.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet, self.console = quiet, console or Terminal(stderr=True)
        self.has_begun = False
        self.phase = "starting"
        self.total = 0  # 0 while it is not known what there is to do
        self._live: Live | None = None
        self._last_line = 0.0

    @abstractmethod
    def status(self) -> str:
        """Give everything in one line."""

    @abstractmethod
    def render(self) -> RenderableType:
        """Draw the live display."""

    def __enter__(self) -> Self:
        if not self.quiet and self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self.render,
                refresh_per_second=REFRESHES_PER_S,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.total:
            self.say(self.status())

    def __call__(self, event: "Event") -> None:
        """Take one event of the run."""
        self.has_begun = True
        handler = getattr(self, f"_take_{event['event']}", None)
        if handler is not None:
            handler(event)
        is_due = bool(self.total) and time.time() - self._last_line >= STATUS_EVERY_S
        if self._live is None and is_due:
            self.say(self.status())

    def say(self, line: str, *, style: str = "dim") -> None:
        """Write a line that stays."""
        if self.quiet:
            return
        self._last_line = time.time()
        self.console.print(Text(line, style=style), soft_wrap=not self.console.is_terminal)


def bar(done: float, total: float) -> RenderableType:
    """Draw how much is done."""
    grid = Table.grid()
    grid.add_row(ProgressBar(total=total, completed=done, width=BAR_WIDTH))
    return grid  # a bar alone would not end its line
