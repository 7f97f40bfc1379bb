"""Put a finished tune run into `reports/`: scores, trials and picture, no row of its data.

python tools/export_report.py runs/elastic reports/elastic_shear_modulus
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from raymat.reports.study_figures import save_study_figure
from raymat.tracking.run_directory import read_header

ROWS = (("winner", "test"), ("default", "default"))
# Of each task: the score that leads, with its interval, and those that follow.
SCORES = {
    "regression": ("mae", ("rmse", "r2")),
    "classification": ("auc", ("accuracy", "accuracy_0", "accuracy_1")),
}
NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "auc": "ROC AUC",
    "accuracy": "accuracy",
    "accuracy_0": "accuracy of class 0",
    "accuracy_1": "accuracy of class 1",
}


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    export(options.run, options.out)


def export(run: Path, out: Path) -> None:
    """Write `metrics.json`, `best.yaml`, `trials.csv`, `study.png` and `table.md` into a folder."""
    header = read_header(run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    shutil.copy(run / "metrics.json", out / "metrics.json")
    best = yaml.safe_load((run / "best.yaml").read_text(encoding="utf-8"))
    best["data"] = Path(best["data"]).name  # the folder is of the machine, not of the result
    heading = "# Train it again with: raymat train --config best.yaml --data PATH/TO/THE/DATA\n"
    text = heading + yaml.safe_dump(best, sort_keys=False)
    (out / "best.yaml").write_text(text, encoding="utf-8")
    trials = pd.read_parquet(run / "trials.parquet").drop(columns="host")
    trials.to_csv(out / "trials.csv", index=False, float_format="%.6g")
    save_study_figure(run, out / "study.png")
    (out / "table.md").write_text(table(header, metrics, trials), encoding="utf-8")


def table(header: dict[str, Any], metrics: dict[str, Any], trials: pd.DataFrame) -> str:
    """Give the scores as Markdown."""
    lines = [describe(header, metrics), "", *score_lines(metrics)]
    if (metrics.get("difference") or {}).get("mae_ci95"):
        low, high = metrics["difference"]["mae_ci95"]
        change = f"{metrics['difference']['mae']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
        lines += ["", f"MAE of the winner minus that of the default, paired by row: {change}."]
    counts = trials["status"].value_counts()
    said = ", ".join(f"{n} {status}" for status, n in counts.items())
    epochs, hours = int(trials["epochs"].sum()), trials["time_s"].sum() / 3600
    lines += ["", f"{len(trials)} trials ({said}), {epochs} epochs, {hours:.2f} core hours."]
    leak = metrics["leakage"]
    lines += [
        "",
        f"Leakage: {leak['n_formula']} of {leak['n_test']} test rows share a reduced formula with"
        f" training rows, {leak['n_formula_spacegroup']} also the space group.",
    ]
    return "\n".join(lines) + "\n"


def _cell(value: float | None, decimals: int = 4) -> str:
    return "not estimated" if value is None else f"{value:.{decimals}f}"


def describe(header: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Say what was learned from what."""
    data, split, threshold = header["data"], header["split"], metrics.get("threshold")
    what = f" ({metrics['unit']})" if metrics["unit"] else ""
    what += "" if threshold is None else f" above {threshold:.6g}"
    return (
        f"Target `{metrics['target']}`{what}; data `{data['name']}`, {data['n_used']} crystals,"
        f" SHA-256 {data['sha256'][:12]}; split {split['kind']}, seed {split['seed']}:"
        f" {split['rows']['train']} training, {split['rows']['validation']} validation and"
        f" {split['rows']['test']} test rows."
    )


def score_lines(metrics: dict[str, Any]) -> list[str]:
    """Give the table of models and baselines."""
    rows = {name: metrics[key] for name, key in ROWS if key in metrics}
    rows |= {f"baseline: {name}": scores for name, scores in metrics["baselines"].items()}
    leading, others = SCORES[metrics["task"]]
    unit = f" ({metrics['unit']})" if metrics["unit"] else ""
    heads = [NAMES[key] + (unit if key in ("mae", "rmse") else "") for key in (leading, *others)]
    heads.insert(1, "95 % interval")
    lines = [f"| on the test rows | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for name, scores in rows.items():
        ends = scores[f"{leading}_ci95"]
        cells = [_cell(scores[leading]), " to ".join(_cell(end) for end in ends or [None])]
        cells += [_cell(scores[key], 3 if key == "r2" else 4) for key in others]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
