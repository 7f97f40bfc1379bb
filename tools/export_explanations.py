"""Put finished explanation runs into `reports/`: scores, counts, trends, pictures, no row of data.

python tools/export_explanations.py reports/explanations runs/explain-band_gap runs/explain-energy
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.explain.explanations import class_word
from raymat.reports.explanation_figures import save_explanation_figures
from raymat.tracking.run_directory import read_header


def main() -> None:
    """Export runs, one for each property."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    targets = [read_header(run)["target"] for run in options.runs]
    if len(set(targets)) < len(targets):
        parser.error(f"two runs of one property ({', '.join(targets)}); give each a folder")
    options.out.mkdir(parents=True, exist_ok=True)
    parts = [export(run, options.out) for run in options.runs]
    for name, place in (("classifiers", 0), ("explanations", 1), ("trends", 2), ("agreement", 3)):
        text = "\n\n".join(part[place] for part in parts if part[place])
        if text:
            (options.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def export(run: Path, out: Path) -> tuple[str, str, str, str]:
    """Write one run's files; give its tables of classifiers, explanations, trends, agreement."""
    header = read_header(run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    target = metrics["target"]
    shutil.copy(run / "metrics.json", out / f"metrics-{target}.json")
    summary = pd.read_csv(run / "summary.csv").astype({"b": "Int64"})
    summary.to_csv(out / f"summary-{target}.csv", index=False, float_format="%.5g")
    scratch = out / ".drawn"
    scratch.mkdir(exist_ok=True)
    for path in save_explanation_figures(run, folder=scratch):
        if path.suffix == ".png":
            path.replace(out / f"{target}-{path.name}")
    shutil.rmtree(scratch)
    trends = trend_table(run, target) if (run / "trends.csv").exists() else ""
    return (
        classifier_table(header, metrics),
        explanation_table(metrics),
        trends,
        agreement_table(metrics),
    )


def classifier_table(header: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Give what was learned from what, and how well, as Markdown."""
    data, rows = header["data"], header["split"]["rows"]
    lines = [
        f"`{metrics['target']}`{_say_threshold(metrics['threshold'])}; data `{data['name']}`,"
        f" {data['n_used']:,} crystals, SHA-256 {data['sha256'][:12]}; split"
        f" {header['split']['kind']}: {rows['train']:,} training, {rows['validation']:,} validation"
        f" and {rows['test']:,} test rows.",
        "",
        "| classifier | accuracy on test rows | AUC | agrees with the full model |",
        "| --- | --- | --- | --- |",
    ]
    for name, own in metrics["classifiers"].items():
        same = f"{own['agreement']:.3f}" if "agreement" in own else ""
        lines.append(f"| {name} | {own['accuracy']:.3f} | {own['auc']:.3f} | {same} |")
    return "\n".join(lines)


def explanation_table(metrics: dict[str, Any]) -> str:
    """Give how many explanations there are, and what the full model says of them."""
    lines = [
        f"| `{metrics['target']}` | found | policies | mean p | mean p by the full model |"
        " full model agrees |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for own in metrics["explanations"]:
        member = f", classifier {own['member']}" if own["member"] else ""
        word = class_word(own["target_class"], metrics["threshold"])
        cells = [
            f"{own['labels']}s, {word}{member}",
            f"{own['found']} of {metrics['per_class']}",
            str(own["attempts"]),
            *(_number(own[key]) for key in ("mean_probability", "mean_probability_full")),
            ""
            if own["full_agrees"] is None
            else f"{own['full_agrees']:.0%} of {own['full_asked']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _say_threshold(threshold: float | None) -> str:
    return "" if threshold is None else f", high above {threshold:.4g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def trend_table(run: Path, target: str) -> str:
    """Give every published trend with its verdict and its counts."""
    lines = [
        f"| `{target}` | verdict | in its class | in the other class | ratio of shares |"
        " ratio in training crystals |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.trend} | **{row.verdict}** | {row.count} of {row.total} |"
        f" {row.other_count} of {row.other_total} | {row.ratio:.2f} | {row.training_ratio:.2f} |"
        for row in pd.read_csv(run / "trends.csv").itertuples(name="Trend")
    ]
    return "\n".join(lines)


def agreement_table(metrics: dict[str, Any]) -> str:
    """Give the rank correlations between the summaries of several classifiers."""
    pairs = metrics["agreement_of_members"]
    if not pairs:
        return ""
    lines = [
        f"| `{metrics['target']}` | classifiers | labels | edges |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {own['labels']}s, {class_word(own['target_class'], metrics['threshold'])} |"
        f" {' and '.join(str(member) for member in own['members'])} |"
        f" {_number(own['nodes'])} | {_number(own['edges'])} |"
        for own in pairs
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
