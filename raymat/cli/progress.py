"""Progress of a run on the terminal, told by its events.

On a terminal a live display; elsewhere plain lines, at most one status every ten seconds and one
for every trial that ends. It goes to standard error, so that standard output holds results only.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymat.cli.progress_text import (
    say_best,
    say_counts,
    say_duration,
    say_end_of_session,
    say_event,
    say_status,
    say_time,
)
from raymat.cli.run_state import RunState
from raymat.cli.terminal import Terminal

if TYPE_CHECKING:
    from raymat.tracking.events import Event

STATUS_EVERY_S = 10.0
MAX_SHOWN_TRIALS = 12
REFRESHES_PER_S = 4
BAR_WIDTH = 60


class RunProgress:
    """A listener that shows a run; use as a context manager around it.

    Args:
        what: the run in a few words, such as "tune cgcnn".
        quiet: show nothing.
        console: where to show it; standard error if None.
    """

    def __init__(self, what: str, *, quiet: bool = False, console: Console | None = None) -> None:
        self.what, self.quiet = what, quiet
        self.console = console or Terminal(stderr=True)
        self.state = RunState()
        self.has_begun = False
        self._live: Live | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self.state.started = time.time()
        if self.quiet:
            return self
        if self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=lambda: render(self.what, self.state, time.time()),
                refresh_per_second=REFRESHES_PER_S,
                transient=True,
            )
            self._live.start()
        else:
            self._write(f"{self.what}: starting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if not self.quiet and self.state.trials:
            self._write(say_end_of_session(self.state, time.time()))

    def __call__(self, event: "Event") -> None:
        """Take one event of the run."""
        self.has_begun = True
        self.state.take(event)
        if self.quiet:
            return
        for line in say_event(event, self.state):
            self._write(line)
        now = time.time()
        if self._live is None and now - self._last_line >= STATUS_EVERY_S:
            self._write(say_status(self.state, now))

    def _write(self, line: str) -> None:
        self._last_line = time.time()
        style = "red" if " failed after " in line else "dim"
        is_log = not self.console.is_terminal  # there, a line stays a line
        self.console.print(Text(line, style=style), soft_wrap=is_log)


def render(what: str, state: RunState, now: float) -> RenderableType:
    """Draw the live display: phase, counts, best, times, and the running trials."""
    head = Text.assemble((what, "bold"), "  ", state.phase)
    lines: list[RenderableType] = [head]
    if state.features is not None:
        lines.append(_bar(*state.features))
    if state.total or state.trials:
        if state.total:
            lines.append(_bar(_done(state), state.total))
        lines += [Text(say_counts(state)), Text(say_best(state), style="green")]
    lines.append(Text(say_time(state, now), style="dim"))
    if state.running:
        lines.append(_trial_table(state, now))
    return Group(*lines)


def _bar(done: float, total: int) -> RenderableType:
    grid = Table.grid()
    grid.add_row(ProgressBar(total=total, completed=done, width=BAR_WIDTH))
    return grid  # a bar alone would not end its line


def _done(state: RunState) -> float:
    """Ended trials, and the parts of the running ones."""
    views = [state.trials[n] for n in state.running]
    return state.n_ended + sum(v.epoch / v.epochs_planned for v in views if v.epochs_planned)


def _trial_table(state: RunState, now: float) -> Table:
    unit = state.data.get("unit", "")
    score = f"validation {state.score_name}" + (f" ({unit})" if unit else "")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("trial", "epoch", score, "best", "in epoch", "time"):
        table.add_column(column, justify="right")
    for number in state.running[:MAX_SHOWN_TRIALS]:
        trial = state.trials[number]
        shown = [f"{trial.last:.4g}", f"{trial.best:.4g}", f"{trial.best_epoch}"]
        epoch = f"{trial.epoch} of {trial.epochs_planned}"
        scores = shown if trial.epoch else ["-", "-", "-"]
        table.add_row(f"{number}", epoch, *scores, say_duration(now - trial.started))
    hidden = len(state.running) - MAX_SHOWN_TRIALS
    if hidden > 0:
        table.caption = f"and {hidden} more"
    return table
