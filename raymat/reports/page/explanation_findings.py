"""What is known of the explanations of one property: from the run's files, or its log till then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from raymat.errors import RunError
from raymat.explain.explanations import Explanation, Task, class_word
from raymat.explain.finish import CLASSES, SUMMARY, TRENDS
from raymat.explain.scores import weak_classifiers
from raymat.explain.summary import (
    LabelCounts,
    count_explanations,
    summary_rows,
    summary_table,
)
from raymat.features.coarse_graphs import N_LABELS
from raymat.properties import find_property
from raymat.reports.page.explanation_entries import (
    Rows,
    count_table,
    count_task,
    graph_table,
    grown_chunks,
    read_entries,
)
from raymat.reports.page.explanation_scores import agreement_table, classifier_table
from raymat.reports.page.partial_files import whole_rows
from raymat.reports.page.parts import Note
from raymat.reports.page.run_files import RunFiles


@dataclass(frozen=True, eq=False)
class Findings:
    """What a page says of the explanations of one property.

    Attributes:
        run: its run directory.
        target: the property.
        threshold: between the classes; None where the target is a class itself.
        labels: labellings that were asked for.
        classifiers: a row for each, with its scores.
        counts: a row for each labelling, class and classifier.
        summary: as in `summary.csv`; `training_share` and `ratio` are nan before the end.
        graphs: a row for each explanation.
        agreement: a row for each two classifiers of a labelling and class.
        trends: as in `trends.csv`; empty without.
        notes: on what is weak, missing or damaged.
    """

    run: RunFiles
    target: str
    threshold: float | None
    labels: tuple[str, ...]
    classifiers: pd.DataFrame
    counts: pd.DataFrame
    summary: pd.DataFrame
    graphs: pd.DataFrame
    agreement: pd.DataFrame
    trends: pd.DataFrame
    notes: list[Note] = field(default_factory=list)

    def word(self, target_class: int) -> str:
        """Give what a class is called."""
        return class_word(target_class, self.threshold)

    def say_classes(self) -> str:
        """Give what the classes are, such as ``band_gap: high is above 0.597 eV``."""
        if self.threshold is None:
            return f"{self.target}: classes 0 and 1, as the data have them"
        unit = find_property(self.target).unit
        return f"{self.target}: high is above {self.threshold:.4g}{' ' if unit else ''}{unit}"


def read_findings(run: RunFiles) -> Findings:
    """Read what is there of an explanation run of one property.

    Raises:
        RunError: its log cannot be read.
    """
    notes: list[Note] = []
    metrics = _metrics(run, notes)
    asked = run.header.get("arguments") or {}
    target = str(run.header.get("target") or metrics.get("target") or asked.get("target", ""))
    threshold = metrics.get("threshold", run.header.get("threshold"))
    tasks = _tasks(metrics, asked)
    grown = grown_chunks(run)
    entries = read_entries(run, grown, notes)
    per_class = metrics.get("per_class", asked.get("per_class"))
    counted = metrics.get("explanations") or [count_task(task, entries, grown) for task in tasks]
    notes += [Note(f"Mistrust: {line}.") for line in _weak(metrics)]
    return Findings(
        run=run,
        target=target,
        threshold=threshold,
        labels=tuple(dict.fromkeys(task.labels for task in tasks)),
        classifiers=classifier_table(run, metrics, threshold),
        counts=count_table(counted, per_class, threshold),
        summary=_summary(run, tasks, entries, notes),
        graphs=graph_table(entries, target, threshold),
        agreement=agreement_table(metrics, threshold),
        trends=_trends(run, notes),
        notes=notes,
    )


def _metrics(run: RunFiles, notes: list[Note]) -> dict[str, Any]:
    """Give `metrics.json`, or what the log says of it where the file is damaged."""
    try:
        return run.json("metrics.json")
    except RunError as error:
        notes.append(Note(f"{error}.", is_warning=True))
        scored = run.last("scored")
        return dict(scored["metrics"]) if scored else {}


def _tasks(metrics: dict[str, Any], asked: dict[str, Any]) -> list[Task]:
    """Give what explanations are grown for, in the order of the run."""
    known = metrics.get("explanations")
    if known:
        return [Task(own["labels"], own["target_class"], own["member"]) for own in known]
    members = range(int(asked.get("members") or 1))
    return [
        Task(labels, c, m) for labels in asked.get("labels", ()) for c in CLASSES for m in members
    ]


def _weak(metrics: dict[str, Any]) -> list[str]:
    return weak_classifiers(metrics.get("classifiers") or {})


# --- tables of the run ---------------------------------------------------------------------------


def _summary(
    run: RunFiles,
    tasks: Sequence[Task],
    entries: Sequence[tuple[Task, Explanation]],
    notes: list[Note],
) -> pd.DataFrame:
    """Give `summary.csv`, or the counts of what there is so far."""
    if run.has(SUMMARY):
        try:
            found, told = whole_rows(run, SUMMARY)
        except RunError as error:
            text = f"{error}; the counts are those of the listed graphs."
            notes.append(Note(text, is_warning=True))
        else:
            notes += told
            return found
    rows: Rows = []
    for of in dict.fromkeys(Task(task.labels, task.target_class) for task in tasks):
        n = N_LABELS[of.labels]
        own = [e for t, e in entries if (t.labels, t.target_class) == (of.labels, of.target_class)]
        none = LabelCounts(np.zeros(n, dtype=np.int64), np.zeros((n, n), dtype=np.int64))
        rows += summary_rows(of, count_explanations(own, of.labels), none)
    if not rows:
        return pd.DataFrame()
    return summary_table(rows).assign(training_share=np.nan, ratio=np.nan)


def _trends(run: RunFiles, notes: list[Note]) -> pd.DataFrame:
    if not run.has(TRENDS):
        return pd.DataFrame()
    try:
        found, told = whole_rows(run, TRENDS)
    except RunError as error:
        found, told = pd.DataFrame(), [Note(f"{error}.", is_warning=True)]
    notes += told
    return found
