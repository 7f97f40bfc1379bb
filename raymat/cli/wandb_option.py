"""The option ``--wandb``: whether a run is brought to Weights & Biases while it goes on."""

import os
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
        " uploads as it goes on. What the space or plan says unless given; a resumed run goes on as"
        " before.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


def wanted(option: Wandb | None, in_file: Wandb | None) -> Wandb | None:
    """Give the option, else what a space or plan says: online becomes offline without a key."""
    if option is not None or in_file != "online":
        return option or in_file
    from raymat.tracking.wandb_state import has_credentials

    return "online" if has_credentials(os.environ, Path.home()) else "offline"


@contextmanager
def projecting(path: Path, asked: Wandb | None) -> "Iterator[tuple[Listener, ...]]":
    """Give the listener that brings a run to W&B, or none; at the end say what is there.

    Wrap it around the run and the drawing of its figures, which it brings along.

    Args:
        path: the run directory.
        asked: what was asked for; None for what the run did before it was interrupted.

    Raises:
        ConfigError: W&B cannot be used; nothing has been done then.
    """
    live = _prepare(path, asked)
    if live is None:
        yield ()
        return
    try:
        yield (live,)
    except BaseException:
        _say_end(live, is_interrupted=True)
        raise
    _say_end(live, is_interrupted=False)


def _prepare(path: Path, asked: Wandb | None) -> "LiveProjection | None":
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
        sys.stderr.write(f"warning: {error}\n")
        return None
    return LiveProjection(path, mode=mode)


def _say_end(live: "LiveProjection", *, is_interrupted: bool) -> None:
    result = live.finish(is_interrupted=is_interrupted)
    if result is not None:
        for line in result.lines():
            typer.echo(line)
    elif live.problem:  # told when it came up, but that may be pages ago, or was not to be heard
        sys.stderr.write(f"warning: W&B does not have all of the run: {live.problem}\n")
