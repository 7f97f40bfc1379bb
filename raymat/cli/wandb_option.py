"""The option ``--wandb``: whether a run is brought to Weights & Biases while it goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raymat.errors import ConfigError

if TYPE_CHECKING:
    from raymat.tracking.run_directory import Listener
    from raymat.tracking.wandb_projection import LiveProjection

Wandb = Literal["off", "offline", "online"]
WandbOption = Annotated[
    Wandb | None,
    typer.Option(
        "--wandb",
        metavar="off|offline|online",
        help="Bring the run to Weights & Biases: offline writes files for `wandb sync`, online"
        " uploads as it goes on. off unless given; a resumed run goes on as before.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


@contextmanager
def projecting(
    path: Path, asked: Wandb | None, tell: "Listener"
) -> "Iterator[tuple[Listener, ...]]":
    """Give the listener that brings a run to W&B, or none; at the end say what is there.

    Wrap it around the run and the drawing of its figures, which it brings along.

    Args:
        path: the run directory.
        asked: the option; None for what the run did before it was interrupted.
        tell: hears of a problem.

    Raises:
        ConfigError: W&B cannot be used; nothing has been done then.
    """
    live = _prepare(path, asked, tell)
    if live is None:
        yield ()
        return
    try:
        yield (live,)
    except BaseException:
        _say_end(live, is_interrupted=True)
        raise
    _say_end(live, is_interrupted=False)


def _prepare(path: Path, asked: Wandb | None, tell: "Listener") -> "LiveProjection | None":
    from raymat.tracking.events import now
    from raymat.tracking.wandb_projection import LiveProjection, check_wandb, remembered

    mode = asked or remembered(path) or "off"
    if mode == "off":
        return None
    try:
        check_wandb(mode)
    except ConfigError as error:
        if asked is not None:
            raise
        # A resume must not fail for what it was not asked for.
        tell({"event": "warning", "time": now(), "text": str(error)})
        return None
    return LiveProjection(path, mode=mode, tell=tell)


def _say_end(live: "LiveProjection", *, is_interrupted: bool) -> None:
    result = live.finish(is_interrupted=is_interrupted)
    if result is not None:
        for line in result.lines():
            typer.echo(line)
    elif live.problem:  # told when it came up, but that may be pages ago, or was not to be heard
        sys.stderr.write(f"warning: W&B does not have all of the run: {live.problem}\n")
