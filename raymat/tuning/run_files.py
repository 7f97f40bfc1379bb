"""Files of a run directory that a study and its winner fill."""

from collections.abc import Mapping
from typing import Any

import yaml

from raymat.tracking.run_directory import RunDirectory
from raymat.tuning.study import Study


def write_study_tables(study: Study, run: RunDirectory) -> None:
    """Write `trials.parquet` and `curves.parquet`."""
    for name, table in (
        ("trials.parquet", study.trial_table()),
        ("curves.parquet", study.curve_table()),
    ):
        with run.replacing(name) as path:
            table.to_parquet(path, index=False)


def write_best_yaml(content: Mapping[str, Any], heading: str, run: RunDirectory) -> None:
    """Write `best.yaml`, which `raymat train --config` reads.

    Args:
        content: ``model``, ``config`` (values by dotted key), ``seed``, ``stop_after`` (last
            epoch to train), ``data``, ``target``, ``split``, ``max_rejected``.
        heading: one line on where it comes from.
        run: whose file it is.
    """
    path = run.path / "best.yaml"
    comment = f"# {heading}\n# Train it again with: raymat train --config {path}\n"
    run.write_text(path.name, comment + yaml.safe_dump(dict(content), sort_keys=False))
