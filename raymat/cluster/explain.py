"""`raymat explain`: classifiers and the explanations of what they learned, as Ray tasks."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymat.cluster.classifier_training import CLASSIFIERS, ClassifierTraining
from raymat.cluster.connect import ray_session
from raymat.cluster.explain_tasks import GrowWork
from raymat.cluster.explaining import Growing
from raymat.cluster.features import find_tables
from raymat.cluster.resources import decide_resources
from raymat.cluster.shared_storage import check_folder_is_shared
from raymat.config import Concurrency, Config, Seed, build_config
from raymat.data.limits import MAX_REJECTED
from raymat.data.splits import SplitConfig
from raymat.errors import RunError
from raymat.explain.coarse_classifier import CoarseConfig
from raymat.explain.coarse_training import TRAINING
from raymat.explain.explanations import Task, classifier_name
from raymat.explain.fill_blanks import ElementShares
from raymat.explain.finish import CLASSES, TrainingCounts, finish_explanations
from raymat.explain.full_model import (
    check_explainable,
    check_same_classes,
    keep_model,
    load_full_model,
)
from raymat.explain.generate import GrowConfig
from raymat.explain.record import ExplainRecord
from raymat.explain.rule_tables import RuleName, make_rules
from raymat.explain.scores import (
    FULL,
    check_better_than_chance,
    predict_classes,
    probability_table,
    score_classifiers,
    weak_classifiers,
)
from raymat.explain.summary import count_crystals
from raymat.features.coarse_graphs import LABEL_KINDS, CoarseView, LabelKind
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.models import load_spec
from raymat.models.cgcnn import CGCNNConfig
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.config import FitConfig
from raymat.training.inputs import RunInputs, load_inputs
from raymat.training.model_files import TrainedModel
from raymat.training.verdict import warning_about_model
from raymat.tuning.trial_config import TrialConfig

CGCNN = "cgcnn"  # the model that is explained
ON_CPUS = 0.0  # GPUs of a task but the full model's: graphs of six nodes are too small for one
SHELL_NEIGHBORS = 12  # kept for the rule of coordination; close packing has as many
VIEW = CoarseView()  # of the coarse classifiers, which all have the default
Floats = NDArray[np.float64]


class ExplainRequest(Config):
    """Explanations, completely described.

    Attributes:
        data: a file, a folder or the name of a built-in set.
        target: the column that is explained.
        classes: class 1 lies above the median of the training rows, or above a value; None takes
            a class as it is and the median of a number.
        split: how rows are divided.
        labels: what nodes are labelled with, one set of explanations for each.
        per_class: explanations of each class and classifier.
        members: coarse classifiers of each labelling, which differ in their seeds.
        model: folder of a trained CGCNN that is the full model; None trains a classifier.
        full: whether there is a full model at all.
        training: settings of the classifiers.
        rules: rules of validity besides the largest degree.
        grow: how graphs are grown.
        max_attempts: policies for one explanation before it is given up.
        seed: of classifiers and explanations.
        ignore_weak: explain classifiers, too, that are not shown to be better than chance.
        max_rejected: share of unusable rows that is tolerated.
        address: a Ray cluster; None for a local Ray.
        concurrency: tasks at a time; None for as many as fit.
    """

    data: str
    target: str
    classes: Literal["median"] | float | None = None
    split: SplitConfig
    labels: tuple[LabelKind, ...] = LABEL_KINDS
    per_class: int = Field(150, ge=1, le=100_000)
    members: int = Field(1, ge=1, le=100)
    model: str | None = None
    full: bool = True
    training: FitConfig = TRAINING
    rules: tuple[RuleName, ...] = ()
    grow: GrowConfig = GrowConfig()
    max_attempts: int = Field(10, ge=1, le=1000)
    seed: Seed = 0
    ignore_weak: bool = False
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
    address: str | None = None
    concurrency: Concurrency | None = None

    @property
    def tasks(self) -> list[Task]:
        """What explanations are grown for."""
        return [
            Task(labels, target_class, member)
            for labels in self.labels
            for target_class in CLASSES
            for member in range(self.members)
        ]


def explain(
    request: ExplainRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Explain a property into a new run directory and give the content of its `metrics.json`.

    Raises:
        ConfigError: the full model cannot be explained, or is of another property.
        DataError: the data cannot be used, or hold one class only.
        ModelFileError: the full model cannot be read.
        RunError: the folder cannot be used, or a classifier could not be trained.
        ClusterError: Ray cannot be reached.
        KeyboardInterrupt: on Ctrl-C; `resume_explain` continues the run.
    """
    header = {
        "command": "explain",
        "arguments": request.model_dump(mode="json"),
        "seed": request.seed,
    }
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_explain(path: Path, *, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Continue an interrupted run; no classifier is trained and no explanation grown again.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "explain":
            raise RunError(f"{path}: a {header.get('command')} run, not an explain run")
        scored = [event["metrics"] for event in run.events() if event["event"] == "scored"]
        if scored:  # it ended between the last result and the word "complete"
            return dict(scored[-1])
        request = build_config(ExplainRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run)


def _run(request: ExplainRequest, run: RunDirectory) -> dict[str, Any]:
    given = _load_given(request)
    doubt = None if request.model is None else warning_about_model(Path(request.model))
    if doubt is not None:
        run.emit("warning", text=doubt)
    inputs = load_inputs(
        run,
        source=request.data,
        target=request.target,
        split_config=request.split,
        max_rejected=request.max_rejected,
        classes=request.classes,
        numbers_as="median",
    )
    if given is not None:
        check_same_classes(given, inputs, run, where=str(request.model))
    record = ExplainRecord.from_events(run.events())
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = decide_resources(None, ON_CPUS)
        full = _full_config(request, given)
        (table,) = find_tables([_table_config(given, full)], inputs.crystals, run)
        assert isinstance(table, NeighborTable)
        if given is not None:
            given = keep_model(given, run.path / CLASSIFIERS / FULL)
        training = ClassifierTraining(
            _coarse_configs(request),
            full,
            training=request.training,
            inputs=inputs,
            seed=request.seed,
            resources=resources,
            full_resources=decide_resources(None, wanted_gpus=None),
            run=run,
        )
        training.train(record, inputs.fit_data(table), at_once=request.concurrency)
        outputs = training.outputs()
        if given is not None:
            outputs = {FULL: predict_classes(given, table, inputs), **outputs}
        scores = _score(outputs, inputs, run)
        if not request.ignore_weak:
            check_better_than_chance(scores)
        counts = _count_training(request, inputs, table)
        growing = Growing(_grow_work(request, inputs, table, run), request.per_class, run)
        growing.grow(record, resources, at_once=request.concurrency)
    return finish_explanations(
        record,
        request.tasks,
        run,
        target=request.target,
        training=counts,
        scores=scores,
        facts={"threshold": inputs.threshold, "per_class": request.per_class},
    )


# --- the classifiers ------------------------------------------------------------------------------


def _load_given(request: ExplainRequest) -> TrainedModel | None:
    """Read the full model that the request names, and check what needs no data."""
    if request.model is None:
        return None
    model = load_full_model(Path(request.model))
    check_explainable(model, request.target, where=request.model)
    return model


def _coarse_configs(request: ExplainRequest) -> dict[str, CoarseConfig]:
    return {
        classifier_name(labels, member): CoarseConfig(labels=labels)
        for labels in request.labels
        for member in range(request.members)
    }


def _full_config(request: ExplainRequest, given: TrainedModel | None) -> TrialConfig | None:
    """Give what the full model is trained with, if it is to be trained."""
    if given is not None or not request.full:
        return None
    return TrialConfig(model=CGCNN, architecture=CGCNNConfig(), training=request.training)


def _table_config(given: TrainedModel | None, full: TrialConfig | None) -> NeighborConfig:
    """Give the graphs that serve coarse classifiers, rules and the full model."""
    config = NeighborConfig(cutoff=VIEW.cutoff, max_neighbors=SHELL_NEIGHBORS)
    if given is not None:
        config = config.union(given.view.table_config) or config
    if full is not None:
        config = config.union(load_spec(CGCNN).reads(full.architecture).table_config) or config
    return config


def _score(
    outputs: dict[str, Floats], inputs: RunInputs, run: RunDirectory
) -> dict[str, dict[str, Any]]:
    with run.replacing("predictions.parquet") as path:
        probability_table(inputs, outputs).to_parquet(path, index=False)
    scores = score_classifiers(inputs, outputs)
    run.mention("classifiers_scored", scores=scores)
    for line in weak_classifiers(scores):
        run.emit("warning", text=line)
    return scores


# --- the explanations -----------------------------------------------------------------------------


def _count_training(
    request: ExplainRequest, inputs: RunInputs, table: NeighborTable
) -> TrainingCounts:
    """Count labels and edges of the training crystals of each class."""
    train, targets = inputs.split.rows("train"), inputs.targets
    return {
        (labels, c): count_crystals(table, train[targets[train] == c], labels, VIEW)
        for labels in request.labels
        for c in CLASSES
    }


def _grow_work(
    request: ExplainRequest, inputs: RunInputs, table: NeighborTable, run: RunDirectory
) -> dict[Task, GrowWork]:
    """Give what is the same for all explanations of a task."""
    train = inputs.split.rows("train")
    elements = table.take(train).atomic_numbers
    full = run.path / CLASSIFIERS / FULL if request.full else None
    work = {}
    for labels in request.labels:
        rules = make_rules(
            request.rules,
            labels,
            max_degree=request.grow.max_degree,
            table=table,
            rows=train,
        )
        shares = ElementShares.of(labels, elements)
        for task in request.tasks:
            if task.labels == labels:
                work[task] = GrowWork(
                    task=task,
                    classifier=run.path / CLASSIFIERS / task.classifier,
                    full_model=full,
                    shares=shares,
                    threshold=inputs.threshold,
                    seed=request.seed,
                    rules=rules,
                    config=request.grow,
                    max_attempts=request.max_attempts,
                )
    return work
