"""``raymat status``: how far a run is."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymat.cli import options

if TYPE_CHECKING:
    from raymat.reports.run_status import RunStatus

app = typer.Typer(add_completion=False)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    _address: options.Address = None,
    _debug: options.Debug = False,
) -> None:
    """Say what of a run is done, what is running, the best so far, and the time left.

    Reads the run directory only, so it works while another process, also on another host that
    shares the disk, is at the run. With --address http://HEAD:8265 the head reads it.

    Example: raymat status runs/tune-cgcnn-20250301-101500
    """
    from raymat.reports.run_status import read_status

    found = read_status(run)
    typer.echo(f"{found.path}: {found.command}, {say_state(found)}")
    for line in _lines(found):
        typer.echo(f"  {line}")


def _lines(found: "RunStatus") -> list[str]:
    from raymat.cli.progress_text import say_duration
    from raymat.text import plain

    facts = found.facts
    about = {
        "target": f"{facts.target} ({facts.unit})" if facts.unit else facts.target,
        "model": facts.model,
        "data": facts.data,
        "started": facts.started,
    }
    lines = [", ".join(f"{name} {text}" for name, text in about.items() if text)]
    lines = [plain(line) for line in lines if line]
    if found.total:
        running = (
            f", {found.running} running" if found.running and found.status == "running" else ""
        )
        lines.append(f"{found.done:,} of {found.total:,} {found.word} done{running}")
    if found.best:
        lines.append(found.best)
    if found.headline:
        lines.append(found.headline)
    if found.seconds_left is not None:
        lines.append(f"about {say_duration(found.seconds_left)} left")
    if found.status == "running":
        lines.append(f"last event {say_duration(found.last_event)} ago")
    elif found.status != "complete":
        lines.append(f"continue with: raymat resume {shlex.quote(str(found.path))}")
    return lines


def say_state(found: "RunStatus") -> str:
    """Give the status of a run in words."""
    if found.status == "dead":
        return "dead (its process has ended)"
    return found.status
