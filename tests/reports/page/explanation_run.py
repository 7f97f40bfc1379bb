"""Explanation runs as tests write them: two labels of periods, low and high."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymat.explain.explanations import Explanation, Task
from raymat.explain.summary import LabelCounts, count_explanations, summary_rows, summary_table
from raymat.tracking.run_directory import RunDirectory

LOW = [Explanation(i, 10 + i, (4, 4, 5), ((0, 1), (1, 2)), 0.9, 1, 0.8) for i in range(3)]
HIGH = [Explanation(i, 20 + i, (1, 2), ((0, 1),), 0.95, 2, 0.4) for i in range(2)]
SCORES = {"auc": 0.9, "accuracy": 0.85, "accuracy_0": 0.8, "accuracy_1": 0.9, "n": 50,
          "auc_ci95": [0.8, 0.95], "agreement": 0.7}  # fmt: skip
ARGUMENTS = {"target": "band_gap", "labels": ["period"], "per_class": 3, "members": 1}
TREND = {"trend": "high: periods 1-3", "verdict": "found", "count": 4, "total": 4,
         "other_count": 0, "other_total": 9, "ratio": np.inf, "training_ratio": 1.5,
         "p_value": 0.0005}  # fmt: skip


def metrics_of(target: str = "band_gap", **scores: Any) -> dict[str, Any]:
    """Give `metrics.json` of a run whose classifier has these scores."""
    counts = [
        {"labels": "period", "target_class": c, "member": 0, "found": len(found),
         "failed": 3 - len(found), "attempts": 3 + 4 * c, "best_rejected": 0.7 if c else None,
         "mean_probability": found[0].probability, "mean_probability_full": 0.5,
         "full_agrees": 0.5, "full_asked": len(found), "mean_nodes": 3.0 - c}
        for c, found in ((0, LOW), (1, HIGH))
    ]  # fmt: skip
    return {
        "target": target, "threshold": 0.597, "per_class": 3, "explanations": counts,
        "classifiers": {"period-0": {**SCORES, **scores}}, "agreement_of_members": [],
    }  # fmt: skip


def write_finished(folder: Path, target: str = "band_gap", **scores: Any) -> Path:
    """Write a finished run of one property."""
    header = {"command": "explain", "target": target, "arguments": {**ARGUMENTS, "target": target}}
    with RunDirectory.create(folder, header) as run:
        run.emit("classifiers_started", names=["period-0"])
        run.write_json("metrics.json", metrics_of(target, **scores))
        run.write_text("explanations.jsonl", "".join(_lines(target)))
    _summary().to_csv(folder / "summary.csv", index=False)
    pd.DataFrame([TREND]).to_csv(folder / "trends.csv", index=False)
    (folder / "motifs-period.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


def write_begun(folder: Path) -> Path:
    """Write a run that was interrupted when all low and no high explanations were grown."""
    header = {"command": "explain", "target": "band_gap", "threshold": 0.597,
              "arguments": ARGUMENTS}  # fmt: skip
    with RunDirectory.create(folder, header) as run:
        run.emit("classifiers_started", names=["period-0"])
        row = {"val_auc": 0.88, "best_epoch": 2, "epochs": 3, "n_parameters": 40}
        run.emit("classifier_ended", name="period-0", row=row)
        run.emit("explaining_started", explanations=6, done=0, per_class=3)
        result = {"failed": 0, "attempts": 4, "best_rejected": 0.6}
        grown = {**result, "explanations": [e.to_dict() for e in LOW]}
        where = {"labels": "period", "target_class": 0, "member": 0, "first": 0, "count": 3}
        run.emit("explanations_grown", **where, result=grown)
    header = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**header, "status": "interrupted"}))
    return folder


def write_series(folder: Path, *targets: str) -> Path:
    """Write a series of which all properties but the last have been explained."""
    asked = [{**ARGUMENTS, "target": target} for target in targets]
    header = {"command": "explain", "arguments": {"properties": asked}}
    with RunDirectory.create(folder, header) as run:
        for number, target in enumerate(targets[:-1], start=1):
            run.emit("property_started", target=target, number=number, properties=len(targets))
            write_finished(folder / target, target)
    return folder


def _lines(target: str) -> list[str]:
    head = {"property": target, "labels": "period", "member": 0}
    rows = [(c, e) for c, found in ((0, LOW), (1, HIGH)) for e in found]
    return [json.dumps({**head, "target_class": c, **e.to_dict()}) + "\n" for c, e in rows]


def _summary() -> pd.DataFrame:
    training = LabelCounts(np.arange(7), np.triu(np.ones((7, 7), dtype=np.int64)))
    rows = []
    for c, found in ((0, LOW), (1, HIGH)):
        rows += summary_rows(Task("period", c), count_explanations(found, "period"), training)
    return summary_table(rows)
