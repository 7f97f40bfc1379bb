"""A W&B Report of several run directories, by code: run sets, curves, what mattered.

Its definition is made without network or account, as a file; publishing it needs both:
``python -m raymat.tracking.wandb_report wandb_report.json ENTITY``.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raymat.errors import ConfigError, RunError
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import read_header
from raymat.tracking.wandb_projection import PROJECT
from raymat.tracking.wandb_runs import WandbRuns

FILE = "wandb_report.json"
_MOST_AXES = 8  # of parallel coordinates: more cannot be read


@dataclass(frozen=True)
class ReportedStudy:
    """What a report needs to know of a run directory.

    Attributes:
        group: its group in W&B.
        score: the name of its validation score.
        searched: the keys that were searched.
    """

    group: str
    score: str
    searched: tuple[str, ...]


@dataclass(frozen=True)
class ReportDefinition:
    """What a report shows.

    Attributes:
        title: over it.
        project: W&B's project.
        studies: side by side.
    """

    title: str
    project: str
    studies: tuple[ReportedStudy, ...]


def define_report(paths: Sequence[Path], *, title: str, project: str = PROJECT) -> ReportDefinition:
    """Define a report of run directories that were, or will be, brought to W&B.

    Raises:
        RunError: a path is no run directory.
    """
    return ReportDefinition(title, project, tuple(describe_study(path) for path in paths))


def describe_study(path: Path) -> ReportedStudy:
    """Read from a run directory what a report needs.

    Raises:
        RunError: it is no run directory.
    """
    runs = WandbRuns(read_header(path), path.absolute().name)
    keys: dict[str, None] = {}
    for event in read_events(path / "events.jsonl"):
        if event["event"] == "data":
            runs.take(event)
        if event["event"] == "trial_started":
            keys |= dict.fromkeys(event["values"])
    return ReportedStudy(runs.group, runs.score_name, tuple(keys))


def write_definition(definition: ReportDefinition, folder: Path) -> Path:
    """Write a definition into a folder, such as `wandb` of a run directory, and give its file.

    Raises:
        RunError: the folder cannot be written.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(definition), indent=1) + "\n", encoding="utf-8")
    except OSError as cause:
        raise RunError(f"{path}: cannot be written ({cause.strerror or cause})") from cause
    return path


def read_definition(path: Path) -> ReportDefinition:
    """Read a definition.

    Raises:
        RunError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        studies = [
            ReportedStudy(**{**s, "searched": tuple(s["searched"])}) for s in content.pop("studies")
        ]
        return ReportDefinition(**content, studies=tuple(studies))
    except (OSError, ValueError, TypeError, KeyError) as cause:
        raise RunError(f"{path}: cannot be read ({cause})") from cause


def build_report(definition: ReportDefinition, *, entity: str) -> Any:
    """Build the report; nothing is sent.

    Args:
        definition: what it shows.
        entity: W&B's user or team, where the runs are.

    Returns:
        A `wandb_workspaces.reports.v2.Report`, whose `save` publishes it.

    Raises:
        ConfigError: the package is missing.
    """
    wr = _package("wandb_workspaces.reports.v2")
    studies, project = definition.studies, definition.project
    blocks: list[Any] = [wr.TableOfContents(), wr.H1("Studies"), _say_studies(wr, studies)]
    for score in sorted({study.score for study in studies}):
        own = [study for study in studies if study.score == score]
        sets = [_run_set(wr, study, project, entity) for study in own]
        panels = _panels(wr, own, score)
        blocks += [wr.H1(f"Trials: {score}"), wr.PanelGrid(runsets=sets, panels=panels)]
    title = definition.title
    return wr.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def publish_report(path: Path, entity: str) -> str:
    """Publish a definition with the account that W&B knows here, and give its address.

    Raises:
        RunError: it cannot be read.
        ConfigError: the package is missing.
    """
    return str(build_report(read_definition(path), entity=entity).save().url)


def _package(name: str) -> Any:
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(
            "a W&B report needs the package wandb-workspaces: pip install 'raymat[wandb]'"
        )
    with warnings.catch_warnings():  # it is written for an older pydantic
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module(name)


def _say_studies(wr: Any, studies: Sequence[ReportedStudy]) -> Any:
    lines = [f"{s.group}: {s.score}, {len(s.searched)} searched keys" for s in studies]
    return wr.UnorderedList(items=lines)


def _run_set(wr: Any, study: ReportedStudy, project: str, entity: str) -> Any:
    expr = _package("wandb_workspaces.expr")
    filters = expr.And(expr.Metric("Group") == study.group, expr.Metric("JobType") == "trial")
    return wr.Runset(entity=entity, project=project, name=study.group, filters=filters)


def _panels(wr: Any, studies: Sequence[ReportedStudy], score: str) -> list[Any]:
    """Give curves, then what mattered; keys that only some studies searched come last."""
    best = wr.SummaryMetric(f"best_{score}")
    keys = [wr.Config(key) for key in _shared_first(studies)]
    axes = [*keys[: _MOST_AXES - 1], best]
    panels = [
        wr.LinePlot(title=f"{score} of every trial", x="epoch", y=[score]),
        wr.LinePlot(title="training loss", x="epoch", y=["train_loss"], log_y=True),
        wr.ScatterPlot(title="cost", x=wr.SummaryMetric("total_time_s"), y=best),
        wr.ParameterImportancePlot(with_respect_to=best.name),
    ]
    if keys:
        columns = [wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        panels.append(wr.ParallelCoordinatesPlot(title="settings and score", columns=columns))
    panels += [wr.ScatterPlot(title=key.name, x=key, y=best) for key in keys[:2]]
    return panels


def _shared_first(studies: Sequence[ReportedStudy]) -> list[str]:
    counts: dict[str, int] = {}
    for study in studies:
        for key in study.searched:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])


def main() -> None:
    """Publish the definition that the first argument names, for the user or team of the second."""
    path, entity = sys.argv[1:]
    sys.stdout.write(f"{publish_report(Path(path), entity)}\n")


if __name__ == "__main__":
    main()
