"""Put a comparison into `reports/`: scores, differences and figures, no row of its data.

python tools/export_comparison.py runs/comparison reports/model_comparison --published published.csv

`--published` names a table of published scores (columns model, dataset, property, unit, n_train,
metric, value, source), which are set beside ours in `published.md`.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from raymat.config import build_config
from raymat.reports.comparison_published import published_beside, published_text
from raymat.reports.comparison_statistics import summarise
from raymat.tracking.run_directory import read_header
from raymat.tuning.comparison_cells import ComparisonPlan

FILES = ("comparison.md", "comparison.csv", "differences.csv", "slopes.csv")
FIGURES = "comparison-*.png"


def main() -> None:
    """Export one comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--published", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    export(options.run, options.out)
    if options.published is not None:
        write_published(options.run, options.published, options.out)


def export(run: Path, out: Path) -> None:
    """Copy tables and figures, and the ids of no crystal."""
    for name in FILES:
        shutil.copy(run / name, out / name)
    for figure in sorted(run.glob(FIGURES)):
        shutil.copy(figure, out / figure.name)


def write_published(run: Path, published: Path, out: Path) -> None:
    """Write `published.md`: each published score beside ours, its source, how the data differ."""
    summary = summarise(pd.read_csv(run / "comparison.csv"))
    arguments = read_header(run)["arguments"]
    plan = build_config(ComparisonPlan, arguments["plan"], where=f"{run}/run.json")
    beside = published_beside(summary, pd.read_csv(published), plan)
    (out / "published.md").write_text(published_text(beside), encoding="utf-8")


if __name__ == "__main__":
    main()
