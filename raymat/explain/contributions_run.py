"""`raymat contributions`: what every site contributes, computed into a run directory.

It takes seconds to minutes, so a run that was killed is begun anew in its folder.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from raymat.config import Config, Gpus, Threads, build_config
from raymat.data.writers import write_csv
from raymat.ensembles.usable_crystals import UsableCrystals, load_usable, say_doubts
from raymat.errors import RunError
from raymat.explain.full_model import load_full_model
from raymat.explain.site_contributions import (
    SiteContributions,
    explain_sites,
    linear_network,
    write_contributions,
)
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.device import choose_device, prepare_process
from raymat.training.model_files import TrainedModel
from raymat.training.verdict import warning_about_model

COMMAND = "contributions"
STARTED = "contributions_started"
# Draws what was found into a folder.
Draw = Callable[[SiteContributions, Path], object]


class ContributionsRequest(Config):
    """Contributions, completely described.

    Attributes:
        crystals: a file, a folder or the name of a built-in set.
        model: folder of a cgcnn that was trained with `model.readout: linear`.
        max_rejected: share of unusable rows that is tolerated; None for the usual one, and
            elements that the model was not made for are then refused.
        gpus: 0 computes on the CPU; None on a GPU if there is one.
        threads: CPU threads.
    """

    crystals: str
    model: str
    max_rejected: float | None = Field(None, ge=0.0, le=1.0)
    gpus: Gpus | None = None
    threads: Threads = 1


def contribute(
    request: ContributionsRequest, out: Path, draw: Draw, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Compute contributions into a new run directory and give the content of `metrics.json`.

    Args:
        request: what is asked for.
        out: the folder.
        draw: called before the run is complete, with what was found and the folder.
        listeners: hear of every event.

    Raises:
        ModelFileError: there is no model, or one that has no contributions.
        DataError: the crystals cannot be used, or a file cannot be written.
        RunError: the folder cannot be used.
    """
    header = {"command": COMMAND, "arguments": request.model_dump(mode="json")}
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run, draw)


def resume_contributions(
    path: Path, draw: Draw, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Compute the contributions of an interrupted run once more.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != COMMAND:
            raise RunError(f"{path}: a {header.get('command')} run, not a {COMMAND} run")
        request = build_config(ContributionsRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run, draw)


def _run(request: ContributionsRequest, run: RunDirectory, draw: Draw) -> dict[str, Any]:
    prepare_process(request.threads)
    device = choose_device(request.gpus)
    model = load_full_model(Path(request.model))
    linear_network(model, where=request.model)  # before crystals are read
    doubt = warning_about_model(Path(request.model))
    if doubt is not None:
        run.emit("warning", text=doubt)
    run.mention("reading")
    usable = load_usable(model, request.crystals, request.max_rejected)
    run.update_header(**_facts(model, usable), device=device)
    run.emit(STARTED, crystals=len(usable.crystals), rejected=len(usable.rejected))
    for warning in (*usable.source.notes, *say_doubts(model, usable)):
        run.emit("warning", text=warning)
    with run.replacing("rejected.csv") as path:
        write_csv(usable.rejected, path)
    found = explain_sites(model, usable.crystals, usable.features, device=device)
    write_contributions(found, run.path)
    run.mention("drawing")
    draw(found, run.path)
    metrics = _metrics(found, usable)
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    return metrics


def _facts(model: TrainedModel, usable: UsableCrystals) -> dict[str, Any]:
    """Give what `run.json` says of model and data; what the model cannot take is rejected, too."""
    counts = {"n_used": len(usable.crystals), "n_rejected": len(usable.rejected)}
    return {
        "target": model.target,
        "unit": model.unit,
        "task": model.task,
        "data": {**asdict(usable.source), **counts},
        "model": {"name": model.name, **model.training},
    }


def _metrics(found: SiteContributions, usable: UsableCrystals) -> dict[str, Any]:
    values = found.sites["contribution"]
    return {
        "target": found.target,
        "unit": found.unit,
        "contributions": {
            "crystals": len(usable.crystals),
            "rejected": len(usable.rejected),
            "sites": len(values),
            "elements": len(found.elements),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        },
    }
