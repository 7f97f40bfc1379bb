"""What a finished ensemble run tells about itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.writers import read_own_csv
from raymat.errors import RunError
from raymat.reading import read_json, regular_file
from raymat.tracking.run_directory import read_header

_COLUMNS = ["part", "target", "mean", "std"]  # without the many members' own predictions


@dataclass(frozen=True, eq=False)
class EnsembleResults:
    """An ensemble run's results.

    Attributes:
        metrics: `metrics.json`.
        calibration: `calibration.json`.
        curve: `member_curve.csv`.
        test: the test rows of `predictions.parquet`: target, mean, std before recalibration.
    """

    metrics: dict[str, Any]
    calibration: dict[str, Any]
    curve: pd.DataFrame
    test: pd.DataFrame

    @property
    def task(self) -> str:
        """Regression or classification."""
        return str(self.metrics["task"])

    @property
    def target(self) -> str:
        """The property."""
        return str(self.metrics["target"])

    @property
    def unit(self) -> str:
        """Of the property; empty for classes and pure numbers."""
        return str(self.metrics["unit"]) if self.task == "regression" else ""

    @property
    def title(self) -> str:
        """What was scored on what."""
        facts = self.calibration
        return (
            f"{self.target}: {facts['n_members']:,} members, {len(self.test):,} test crystals"
            f" ({facts['split']} split)"
        )


def read_results(run: Path) -> EnsembleResults:
    """Read what an ensemble run has written.

    Raises:
        RunError: the folder is not a finished ensemble run, or a file cannot be read.
    """
    header = read_header(run)
    if header.get("command") != "ensemble":
        raise RunError(f"{run}: a {header.get('command')} run, not an ensemble run")
    names = ("metrics.json", "calibration.json", "member_curve.csv", "predictions.parquet")
    missing = [name for name in names if not (run / name).exists()]
    if missing:
        raise RunError(f"{run}: no {missing[0]}; the run is not finished")
    try:
        metrics, calibration = (read_json(run / n) for n in names[:2])
        curve = read_own_csv(run / names[2])
        predictions = pd.read_parquet(regular_file(run / names[3]), columns=_COLUMNS)
    except (OSError, ValueError) as cause:
        raise RunError(f"{run}: its results cannot be read ({cause})") from cause
    test = predictions[predictions["part"] == "test"].reset_index(drop=True)
    return EnsembleResults(metrics, calibration, curve, test)
