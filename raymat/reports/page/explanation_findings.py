"""What is known of the explanations of one property: from the run's files, or its log till then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from raymat.errors import RunError
from raymat.explain.explanations import Explanation, Task, class_word
from raymat.explain.finish import CLASSES, EXPLANATIONS, SUMMARY, TRENDS
from raymat.explain.record import CHUNK_ENDED, CLASSIFIER_ENDED
from raymat.explain.scores import FULL, weak_classifiers
from raymat.explain.summary import (
    LabelCounts,
    count_explanations,
    motif_of,
    summary_rows,
    summary_table,
)
from raymat.features.coarse_graphs import N_LABELS
from raymat.properties import find_property
from raymat.reports.page.partial_files import whole_lines, whole_rows
from raymat.reports.page.parts import Note
from raymat.reports.page.run_files import DAMAGE, RunFiles

Rows = list[dict[str, Any]]
_KNOWN = tuple(Explanation.__dataclass_fields__)


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
    grown = _grown(run)
    entries = _entries(run, grown, notes)
    per_class = metrics.get("per_class", asked.get("per_class"))
    counted = metrics.get("explanations") or [_count(task, entries, grown) for task in tasks]
    notes += [Note(f"Mistrust: {line}.") for line in _weak(metrics)]
    return Findings(
        run=run,
        target=target,
        threshold=threshold,
        labels=tuple(dict.fromkeys(task.labels for task in tasks)),
        classifiers=_classifiers(run, metrics, threshold),
        counts=_count_table(counted, per_class, threshold),
        summary=_summary(run, tasks, entries, notes),
        graphs=_graph_table(entries, target, threshold),
        agreement=_agreement(metrics, threshold),
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


# --- explanations --------------------------------------------------------------------------------


def _grown(run: RunFiles) -> dict[tuple[Task, int], dict[str, Any]]:
    """Give (task, first number) -> what the log says last of these explanations."""
    chunks = (event for event in run.events if event["event"] == CHUNK_ENDED)
    return {
        (Task(e["labels"], e["target_class"], e["member"]), e["first"]): e["result"] for e in chunks
    }


def _entries(
    run: RunFiles, grown: dict[tuple[Task, int], dict[str, Any]], notes: list[Note]
) -> list[tuple[Task, Explanation]]:
    """Give all explanations, each with what it was grown for."""
    if not run.has(EXPLANATIONS):
        found = {
            (task, content["number"]): Explanation.from_dict(content)
            for (task, _), result in grown.items()
            for content in result["explanations"]
        }
        return [(task, explanation) for (task, _), explanation in found.items()]
    lines, told = whole_lines(run, EXPLANATIONS)
    entries = [entry for line in lines if (entry := _entry(line)) is not None]
    odd = len(lines) - len(entries)
    if odd:
        text = f"{EXPLANATIONS}: {odd:,} lines are no explanations and are left out."
        told = [*told, Note(text, is_warning=True)]
    notes += told
    return entries


def _entry(line: dict[str, Any]) -> tuple[Task, Explanation] | None:
    try:
        task = Task(line["labels"], line["target_class"], line.get("member", 0))
        own = Explanation.from_dict({key: line[key] for key in _KNOWN if key in line})
        motif_of(own)  # edges may name nodes that are not there
    except (*DAMAGE, IndexError):
        return None
    return task, own


def _count(
    task: Task,
    entries: Sequence[tuple[Task, Explanation]],
    grown: dict[tuple[Task, int], dict[str, Any]],
) -> dict[str, Any]:
    """Count what a task has so far, as `metrics.json` does at the end."""
    own = [explanation for of, explanation in entries if of == task]
    results = [result for (of, _), result in grown.items() if of == task]
    full = [e.probability_full for e in own if e.probability_full is not None]
    rejected = [r["best_rejected"] for r in results if r["best_rejected"] is not None]
    return {
        "labels": task.labels,
        "target_class": task.target_class,
        "member": task.member,
        "found": len(own),
        "failed": sum(result["failed"] for result in results),
        "attempts": sum(result["attempts"] for result in results),
        "best_rejected": max(rejected, default=None),
        "mean_probability": _mean([e.probability for e in own]),
        "mean_probability_full": _mean(full),
        "full_agrees": _mean([float(p > 0.5) for p in full]),
        "mean_nodes": _mean([float(len(e.nodes)) for e in own]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _count_table(counted: Rows, per_class: Any, threshold: float | None) -> pd.DataFrame:
    several = any(own.get("member") for own in counted)
    rows = [
        {
            "labels": own["labels"],
            "class": class_word(own["target_class"], threshold),
            **({"classifier": own["member"]} if several else {}),
            "asked": per_class,
            "found": own["found"],
            "given up": own.get("failed"),
            "attempts": own.get("attempts"),
            "mean p": own.get("mean_probability"),
            "mean p, full model": own.get("mean_probability_full"),
            "full model agrees": own.get("full_agrees"),
            "mean nodes": own.get("mean_nodes"),
            "best rejected p": own.get("best_rejected"),
        }
        for own in counted
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _graph_table(
    entries: Sequence[tuple[Task, Explanation]], target: str, threshold: float | None
) -> pd.DataFrame:
    several = any(task.member for task, _ in entries)
    rows = [
        {
            "property": target,
            "labels": task.labels,
            "class": class_word(task.target_class, threshold),
            **({"classifier": task.member} if several else {}),
            "number": own.number,
            "seed": own.seed,
            "nodes": len(own.nodes),
            "edges": len(own.edges),
            "probability": own.probability,
            "probability, full model": own.probability_full,
            "attempts": own.attempts,
            "edges by labels": motif_of(own),
        }
        for task, own in entries
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


# --- classifiers ---------------------------------------------------------------------------------


def _classifiers(run: RunFiles, metrics: dict[str, Any], threshold: float | None) -> pd.DataFrame:
    """Give test scores, or before there are any the validation scores of those that are trained."""
    trained = {e["name"]: e["row"] for e in run.events if e["event"] == CLASSIFIER_ENDED}
    scored = metrics.get("classifiers") or {}
    rows = [
        {
            "classifier": name,
            **_scores(scored.get(name), threshold),
            "validation AUC": trained.get(name, {}).get("val_auc"),
            "best epoch": trained.get(name, {}).get("best_epoch"),
            "epochs": trained.get(name, {}).get("epochs"),
            "parameters": trained.get(name, {}).get("n_parameters"),
        }
        for name in dict.fromkeys([*scored, *trained])
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _scores(own: dict[str, Any] | None, threshold: float | None) -> dict[str, Any]:
    if not own:
        return {}
    low, high = own.get("auc_ci95") or (None, None)
    return {
        "AUC": own.get("auc"),
        "AUC from": low,
        "AUC to": high,
        "accuracy": own.get("accuracy"),
        **{f"accuracy, {class_word(c, threshold)}": own.get(f"accuracy_{c}") for c in CLASSES},
        f"agrees with {FULL}": own.get("agreement"),
        "test rows": own.get("n"),
    }


def _agreement(metrics: dict[str, Any], threshold: float | None) -> pd.DataFrame:
    rows = [
        {
            "labels": own["labels"],
            "class": class_word(own["target_class"], threshold),
            "classifiers": " and ".join(str(member) for member in own["members"]),
            "rank correlation of labels": own["nodes"],
            "rank correlation of edges": own["edges"],
        }
        for own in metrics.get("agreement_of_members") or ()
    ]
    return pd.DataFrame(rows)


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
