"""`raymat explain` of several properties: one after another, and their lists joined.

Each property has a folder of its own in the folder of the series, which is a whole explanation run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from raymat.cluster.explain import ExplainRequest, explain, resume_explain
from raymat.config import Config, build_config
from raymat.data.readers import load_crystals
from raymat.data.writers import read_own_csv, write_csv
from raymat.errors import ConfigError, DataError
from raymat.explain.finish import EXPLANATIONS, SUMMARY, TRENDS
from raymat.tracking.run_directory import Listener, RunDirectory, safe_name
from raymat.training.inputs import choose_task

PROPERTY_ENDED = "property_ended"  # the event, once for each property
PROPERTIES = "properties"  # key of a series in `run.json` and `metrics.json`


class ExplainSeries(Config):
    """Explanations of several properties, completely described.

    Attributes:
        properties: what is explained, one request for each property.
    """

    properties: tuple[ExplainRequest, ...] = Field(min_length=1)


def explain_series(
    series: ExplainSeries, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Explain several properties into a new run directory and give the content of `metrics.json`.

    A property whose values cannot be explained, such as a constant, is told and left out.

    Raises:
        ConfigError, DataError: a property is not there, or none can be explained.
        RunError: a folder cannot be used, or a classifier could not be trained.
        ClusterError: Ray cannot be reached.
        KeyboardInterrupt: on Ctrl-C; `resume_series` continues the run.
    """
    header = {
        "command": "explain",
        "arguments": series.model_dump(mode="json"),
        "seed": series.properties[0].seed,
    }
    _check_folders(series)
    with RunDirectory.create(out, header, listeners=listeners) as run:
        for request in series.properties:  # a slip of the pen must not show after hours
            _check_column(request)
        return _run(series, run)


def resume_series(path: Path, *, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Continue an interrupted series; no explanation is grown again.

    Raises:
        RunError: another process is at work in the folder.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        arguments = run.header["arguments"]
        return _run(build_config(ExplainSeries, arguments, where=f"{path}/run.json"), run)


def is_series(header: dict[str, Any]) -> bool:
    """Say whether a `run.json` is that of a series."""
    return header.get("command") == "explain" and PROPERTIES in header.get("arguments", {})


def _check_folders(series: ExplainSeries) -> None:
    """Refuse properties that would share a folder, and so each other's results."""
    folders: dict[str, str] = {}
    for request in series.properties:
        other = folders.setdefault(safe_name(request.target), request.target)
        if other != request.target:
            raise ConfigError(
                f"--target {other!r} and {request.target!r} would have the same folder"
                f" ({safe_name(other)}); explain them in two runs"
            )


def _check_column(request: ExplainRequest) -> None:
    loaded = load_crystals(request.data, target=request.target, max_rejected=request.max_rejected)
    choose_task(loaded, request.classes)


def _run(series: ExplainSeries, run: RunDirectory) -> dict[str, Any]:
    found, failed = dict[str, Any](), dict[str, str]()
    ended = {event["target"] for event in run.events() if event["event"] == PROPERTY_ENDED}
    for number, request in enumerate(series.properties, start=1):
        target = request.target
        run.emit(
            "property_started", target=target, number=number, properties=len(series.properties)
        )
        try:
            found[target] = _explain_one(request, run)
        except (ConfigError, DataError) as error:
            failed[target] = str(error)
            run.emit("warning", text=f"{target} is left out: {error}")
        if target not in ended:
            run.emit(PROPERTY_ENDED, target=target)
    if not found:
        raise DataError(f"no property can be explained; {next(iter(failed.values()))}")
    _join_lists(list(found), run)
    metrics = {PROPERTIES: found, "left_out": failed}
    run.write_json("metrics.json", metrics)
    return metrics


def _explain_one(request: ExplainRequest, run: RunDirectory) -> dict[str, Any]:
    folder = run.path / safe_name(request.target)
    if (folder / "run.json").exists():
        return resume_explain(folder, listeners=run.listeners)
    return explain(request, folder, listeners=run.listeners)


def _join_lists(targets: Sequence[str], run: RunDirectory) -> None:
    """Write the lists of all properties as one, whose column or key `property` tells them apart."""
    folders = {target: run.path / safe_name(target) for target in targets}
    lines = [(folder / EXPLANATIONS).read_text("utf-8") for folder in folders.values()]
    run.write_text(EXPLANATIONS, "".join(lines))
    for name in (SUMMARY, TRENDS):
        tables = {
            target: read_own_csv(folder / name)
            for target, folder in folders.items()
            if (folder / name).exists()
        }
        if tables:
            joined = pd.concat(tables, names=["property"]).reset_index(level=0)
            with run.replacing(name) as path:
                write_csv(joined.astype({"b": "Int64"} if name == SUMMARY else {}), path)
