"""What `tools/export_explanations.py` writes, from a run made here."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT

sys.path.append(str(PROJECT / "tools"))

import export_explanations

from raymat.explain.explanations import Explanation, Task
from raymat.explain.summary import (
    LabelCounts,
    count_explanations,
    summary_rows,
    summary_table,
)

FOLDER = "/home/somebody/mp.parquet"  # must not come out again
LOW = [Explanation(i, i, (4, 5), ((0, 1),), 0.9, 1) for i in range(3)]
SCORES = {"accuracy": 0.875, "auc": 0.9, "agreement": 0.8}
OWN = {
    "labels": "period", "member": 0, "attempts": 9, "mean_probability": 0.9,
    "mean_probability_full": None, "full_agrees": None, "full_asked": 0,
}  # fmt: skip


def write_run(folder: Path, threshold: float | None, target: str = "band_gap") -> Path:
    folder.mkdir()
    header = {
        "target": target,
        "data": {"path": FOLDER, "name": "mp", "n_used": 1234, "sha256": "0123456789abcdef"},
        "split": {"kind": "random", "rows": {"train": 1000, "validation": 117, "test": 117}},
    }
    training = LabelCounts(np.ones(7, dtype=int), np.zeros((7, 7), dtype=int))
    rows, lines = [], []
    for c, found in ((0, LOW), (1, [])):
        rows += summary_rows(Task("period", c), count_explanations(found, "period"), training)
        head = {"property": target, "labels": "period", "target_class": c, "member": 0}
        lines += [json.dumps({**head, **e.to_dict()}) + "\n" for e in found]
    summary_table(rows).to_csv(folder / "summary.csv", index=False)
    pair = {"labels": "period", "target_class": 0, "members": [0, 1], "nodes": 0.5, "edges": None}
    metrics = {
        "target": target,
        "threshold": threshold,
        "per_class": 3,
        "classifiers": {"period-0": SCORES},
        "explanations": [
            {**OWN, "target_class": 0, "found": 3},
            {**OWN, "target_class": 1, "found": 0, "mean_probability": None},
        ],
        "agreement_of_members": [pair],
    }
    for name, content in (("metrics", metrics), ("run", header)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "explanations.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def run_tool(monkeypatch: pytest.MonkeyPatch, *arguments: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["export_explanations.py", *map(str, arguments)])
    export_explanations.main()


@pytest.mark.parametrize(("threshold", "word"), [(0.5, "high"), (None, "class 1")])
def test_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float | None, word: str
) -> None:
    run, out = write_run(tmp_path / "run", threshold), tmp_path / "report"
    run_tool(monkeypatch, out, run)
    assert {p.name for p in out.iterdir()} == {
        *("agreement.md", "classifiers.md", "explanations.md", "metrics-band_gap.json"),
        *("summary-band_gap.csv", "band_gap-labels-period.png", "band_gap-edges-period.png"),
        "band_gap-motifs-period.png",
    }
    text = {path.stem: path.read_text("utf-8") for path in out.glob("*.md")}
    assert "1,000 training" in text["classifiers"]
    assert "| period-0 | 0.875 | 0.900 | 0.800 |" in text["classifiers"]
    assert f"| periods, {word} | 0 of 3 | 9 |  |  |  |" in text["explanations"]
    assert "| 0 and 1 | 0.500 |  |" in text["agreement"]
    assert not [p for p in out.glob("*.[mcj]*") if FOLDER in p.read_text("utf-8")]
    assert pd.read_csv(out / "summary-band_gap.csv")["count"].sum() == 9


def test_two_runs_of_one_property_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name, 0.5) for name in ("a", "b")]
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, tmp_path / "report", *runs)
    assert "two runs of one property" in capsys.readouterr().err
