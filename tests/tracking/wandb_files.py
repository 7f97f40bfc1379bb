"""What lies in W&B's files of a run directory."""

import json
from pathlib import Path
from typing import Any

from raymat.tracking.wandb import read_records

FOLDER = "wandb"


class OfflineRun:
    """One W&B run, read back from its file.

    Attributes:
        id, name, group, job_type, host: as W&B shows them.
        config, summary: as they ended.
        rows: the steps, in the order in which they were written.
        artifacts: type -> names of files.
        exit_code: what it ended with; None if it has no end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (file,) = folder.glob("*.wandb")
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.artifacts: dict[str, list[str]] = {}
        self.exit_code: int | None = None
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            getattr(self, f"_take_{kind}", lambda _: None)(getattr(record, kind))

    def _take_run(self, run: Any) -> None:
        self.id, self.name, self.group = run.run_id, run.display_name, run.run_group
        self.job_type, self.host, self.project = run.job_type, run.host, run.project
        self._take_config(run.config)

    def _take_config(self, config: Any) -> None:
        self.config |= _dotted(_values(config.update))

    def _take_summary(self, summary: Any) -> None:
        self.summary |= _values(summary.update)

    def _take_history(self, history: Any) -> None:
        self.rows.append(_values(history.item))

    def _take_artifact(self, artifact: Any) -> None:
        files = self.artifacts.setdefault(artifact.type, [])
        files += [entry.path for entry in artifact.manifest.contents]

    def _take_exit(self, ended: Any) -> None:
        self.exit_code = ended.exit_code

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.rows]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if name in row]


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def _dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_inner = isinstance(value, dict)
        found |= _dotted(value, f"{prefix}{key}.") if is_inner else {f"{prefix}{key}": value}
    return found


def offline_runs(run: Path) -> dict[str, OfflineRun]:
    """Give the offline W&B runs of a run directory by what tells them apart, each once."""
    found = [OfflineRun(folder) for folder in sorted((run / FOLDER).glob("offline-run-*"))]
    ids = [one.id for one in found]
    assert len(ids) == len(set(ids)), ids
    return {one.id.split("-", 1)[1]: one for one in found}
