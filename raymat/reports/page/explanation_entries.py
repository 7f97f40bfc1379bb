"""The explanations of a run one by one, from its files or its log, and tables that count them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raymat.explain.explanations import Explanation, Task, class_word
from raymat.explain.finish import EXPLANATIONS
from raymat.explain.record import CHUNK_ENDED
from raymat.explain.summary import motif_of
from raymat.reports.page.partial_files import whole_lines
from raymat.reports.page.parts import Note
from raymat.reports.page.run_files import DAMAGE, RunFiles

Rows = list[dict[str, Any]]
_KNOWN = tuple(Explanation.__dataclass_fields__)


def grown_chunks(run: RunFiles) -> dict[tuple[Task, int], dict[str, Any]]:
    """Give (task, first number) -> what the log says last of these explanations."""
    chunks = (event for event in run.events if event["event"] == CHUNK_ENDED)
    return {
        (Task(e["labels"], e["target_class"], e["member"]), e["first"]): e["result"] for e in chunks
    }


def read_entries(
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


def count_task(
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


def count_table(counted: Rows, per_class: Any, threshold: float | None) -> pd.DataFrame:
    """Give a row for each labelling, class and classifier, as `metrics.json` or the log has it.

    Args:
        counted: see `count_task`.
        per_class: explanations that were asked for.
        threshold: between the classes.
    """
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


def graph_table(
    entries: Sequence[tuple[Task, Explanation]], target: str, threshold: float | None
) -> pd.DataFrame:
    """Give a row for each explanation.

    Args:
        entries: the explanations.
        target: the property.
        threshold: between the classes.
    """
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
