"""A W&B Report of run directories, by code: trials with their curves, comparisons as bars.

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
from raymat.reading import read_json
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import read_header
from raymat.tracking.wandb_projection import PROJECT
from raymat.tracking.wandb_runs import COMPARED, WandbRuns

FILE = "wandb_report.json"
_MOST_AXES = 8  # of parallel coordinates: more cannot be read


@dataclass(frozen=True)
class ReportedStudy:
    """What a report needs to know of a run directory.

    Attributes:
        group: its group in W&B.
        score: the name of its validation score.
        searched: the keys that were searched.
        compared: of a comparison, the score that its cells were given, by property.
    """

    group: str
    score: str
    searched: tuple[str, ...]
    compared: tuple[tuple[str, str], ...] = ()


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
    compared: dict[str, str] = {}
    for event in read_events(path / "events.jsonl"):
        if event["event"] == "data":
            runs.take(event)
        if event["event"] == "trial_started":
            keys |= dict.fromkeys(event["values"])
        if event["event"] == "cell_ended":
            is_number = event["row"].get("mae") is not None
            compared[str(event["row"].get("property"))] = "mae" if is_number else "auc"
    return ReportedStudy(runs.group, runs.score_name, tuple(keys), tuple(compared.items()))


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
        content = read_json(path)
        studies = [
            ReportedStudy(
                s["group"],
                s["score"],
                searched=tuple(s["searched"]),
                compared=tuple((name, score) for name, score in s.get("compared", ())),
            )
            for s in content.pop("studies")
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
    studies, place = definition.studies, {"project": definition.project, "entity": entity}
    blocks: list[Any] = [wr.TableOfContents(), wr.H1("Studies"), _say_studies(wr, studies)]
    for study in studies:
        for prop, score in study.compared:
            cells = _run_set(wr, study, place, prop)
            blocks += [wr.H1(f"Comparison: {prop} ({study.group})")]
            blocks += [wr.PanelGrid(runsets=[cells], panels=_bars(wr, score))]
    for score in sorted({study.score for study in studies if not study.compared}):
        own = [study for study in studies if study.score == score and not study.compared]
        sets, panels = [_run_set(wr, study, place) for study in own], _panels(wr, own, score)
        blocks += [wr.H1(f"Trials: {score}"), wr.PanelGrid(runsets=sets, panels=panels)]
    return wr.Report(**place, title=definition.title, blocks=blocks, width="fluid")


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
    lines = [
        f"{s.group}: comparison of {', '.join(name for name, _ in s.compared)}"
        if s.compared
        else f"{s.group}: {s.score}, {len(s.searched)} searched keys"
        for s in studies
    ]
    return wr.UnorderedList(items=lines)


def _bars(wr: Any, score: str) -> list[Any]:
    """Give what is shown of one property's cells: means and ranges over the repetitions."""
    by = {"groupby": wr.Config(COMPARED), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    cost = wr.SummaryMetric("train_time_s")
    return [
        wr.BarPlot(title=f"test {score.upper()}", metrics=[score], **by),
        wr.BarPlot(title="training time (s)", metrics=["train_time_s"], **by),
        wr.ScatterPlot(title="cost", x=cost, y=wr.SummaryMetric(score)),
    ]


def _run_set(
    wr: Any, study: ReportedStudy, place: dict[str, str], cells_of: str | None = None
) -> Any:
    """Give a study's trials, or its cells of a property."""
    expr = _package("wandb_workspaces.expr")
    kind = "trial" if cells_of is None else "cell"
    wanted = [expr.Metric("Group") == study.group, expr.Metric("JobType") == kind]
    if cells_of is not None:
        wanted.append(expr.Config("property") == cells_of)
    return wr.Runset(**place, name=study.group, filters=expr.And(*wanted))


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
