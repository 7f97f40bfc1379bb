"""From the explanations of a run to its files: lists, counts, scores."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raymat.data.writers import write_csv
from raymat.explain.explanations import Explanation, Task
from raymat.explain.record import ExplainRecord
from raymat.explain.summary import (
    LabelCounts,
    count_explanations,
    rank_agreement,
    summary_rows,
    summary_table,
)
from raymat.explain.trends import PUBLISHED, TestedTrend, check_trends
from raymat.features.coarse_graphs import LabelKind
from raymat.tracking.run_directory import RunDirectory

EXPLANATIONS, SUMMARY, TRENDS = "explanations.jsonl", "summary.csv", "trends.csv"
CLASSES = (0, 1)

TrainingCounts = Mapping[tuple[LabelKind, int], LabelCounts]


def finish_explanations(
    record: ExplainRecord,
    tasks: Sequence[Task],
    run: RunDirectory,
    *,
    target: str,
    training: TrainingCounts,
    scores: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the run's files and give `metrics.json`.

    Args:
        record: with all explanations.
        tasks: what they were grown for.
        run: where to write.
        target: property that is explained.
        training: (labels, class) -> what the training crystals of the class have.
        scores: of the classifiers, as `score_classifiers` gives them.
        facts: what else `metrics.json` says.

    Raises:
        RunError: a file cannot be written.
    """
    found = {task: record.explanations(task) for task in tasks}
    _write_explanations(found, target, run)
    _write_summary(found, training, run)
    trends = _test_published(found, training, target)
    _write_trends(trends, run)
    metrics = {
        **facts,
        "target": target,
        "classifiers": dict(scores),
        "explanations": [_count(task, found[task], record) for task in tasks],
        "agreement_of_members": _member_agreement(found),
    }
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    return metrics


def pool_members(
    found: Mapping[Task, Sequence[Explanation]], labels: LabelKind, target_class: int
) -> list[Explanation]:
    """Give the explanations of one class, those of all classifiers together."""
    return [
        explanation
        for task, own in found.items()
        if (task.labels, task.target_class) == (labels, target_class)
        for explanation in own
    ]


def _labels(found: Mapping[Task, Any]) -> list[LabelKind]:
    return list(dict.fromkeys(task.labels for task in found))


def _write_explanations(
    found: Mapping[Task, list[Explanation]], target: str, run: RunDirectory
) -> None:
    lines = []
    for task, explanations in found.items():
        head = {"property": target, "labels": task.labels, "target_class": task.target_class}
        for explanation in explanations:
            content = {**head, "member": task.member, **explanation.to_dict()}
            lines.append(json.dumps(content) + "\n")
    run.write_text(EXPLANATIONS, "".join(lines))


def _write_summary(
    found: Mapping[Task, list[Explanation]], training: TrainingCounts, run: RunDirectory
) -> None:
    rows = []
    for labels in _labels(found):
        for target_class in CLASSES:
            counts = count_explanations(pool_members(found, labels, target_class), labels)
            task = Task(labels, target_class)
            rows += summary_rows(task, counts, training[labels, target_class])
    with run.replacing(SUMMARY) as path:
        write_csv(summary_table(rows), path)


def _test_published(
    found: Mapping[Task, list[Explanation]], training: TrainingCounts, target: str
) -> list[TestedTrend]:
    tested = []
    for labels in _labels(found):
        own = [t for t in PUBLISHED if (t.target, t.labels) == (target, labels)]
        pooled = {c: pool_members(found, labels, c) for c in CLASSES}
        tested += check_trends(own, pooled, {c: training[labels, c] for c in CLASSES})
    return tested


def _write_trends(tested: Sequence[TestedTrend], run: RunDirectory) -> None:
    """Write `trends.csv`, where the figures of the published explanations name any."""
    if not tested:
        return
    import pandas as pd

    rows = [
        {
            "trend": t.trend.say(),
            "verdict": t.verdict,
            "count": t.count,
            "total": t.total,
            "other_count": t.other_count,
            "other_total": t.other_total,
            "ratio": t.ratio,
            "training_ratio": t.training_ratio,
            "p_value": t.p_value,
        }
        for t in tested
    ]
    with run.replacing(TRENDS) as path:
        write_csv(pd.DataFrame(rows), path)


def _count(task: Task, found: list[Explanation], record: ExplainRecord) -> dict[str, Any]:
    full = [e.probability_full for e in found if e.probability_full is not None]
    return {
        "labels": task.labels,
        "target_class": task.target_class,
        "member": task.member,
        "found": len(found),
        "failed": record.total(task, "failed"),
        "attempts": record.total(task, "attempts"),
        "best_rejected": record.best_rejected(task),
        "mean_probability": _mean([e.probability for e in found]),
        "mean_probability_full": _mean(full),
        "full_agrees": _mean([float(p > 0.5) for p in full]),
        "full_asked": len(full),
        "mean_nodes": _mean([float(len(e.nodes)) for e in found]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _member_agreement(found: Mapping[Task, list[Explanation]]) -> list[dict[str, Any]]:
    """Give the rank correlations between the summaries of every two classifiers of one class."""
    counts = {task: count_explanations(own, task.labels) for task, own in found.items() if own}
    return [
        {
            "labels": a.labels,
            "target_class": a.target_class,
            "members": [a.member, b.member],
            **rank_agreement(counts[a], counts[b]),
        }
        for a in counts
        for b in counts
        if (a.labels, a.target_class) == (b.labels, b.target_class) and a.member < b.member
    ]
