"""One cell of a comparison: a search, or the default with many seeds, scored once.

A cell runs as a Ray task that drives a Ray Tune search of its own, so many cells share a cluster.
Its folder is that of a search; a cell that was killed goes on from its own log.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray

from raymat.cluster.connect import prepare_environment
from raymat.cluster.finish import store_model, train_to_epoch
from raymat.cluster.gpu_share import share_for_trials
from raymat.cluster.optuna_search import DEFAULT_TRIAL
from raymat.cluster.placement_groups import groups_named
from raymat.cluster.resources import trial_resources
from raymat.cluster.search import SEARCH_ENDED, search
from raymat.cluster.tasks import result_of, start_task
from raymat.cluster.trainable import TRIALS, trial_folder
from raymat.data.splits import write_split
from raymat.features.store import time_build
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.properties import Task
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs
from raymat.training.model_files import WEIGHTS
from raymat.training.results import FitResult, predict_baselines, score_part
from raymat.tuning.comparison_cells import Cell, ModelPlan
from raymat.tuning.request import TuneRequest
from raymat.tuning.run_files import write_best_yaml, write_study_tables
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources
from raymat.tuning.space import parse_space
from raymat.tuning.study import Study, TrialRecord
from raymat.tuning.trial_config import TrialConfig

_LEADING: dict[Task, str] = {"regression": "mae", "classification": "auc"}
TIMED_CRYSTALS = 512  # of which the making of features is timed, on one core


@dataclass(frozen=True)
class CellTask:
    """What a cell needs to know to run.

    Attributes:
        cell: which one.
        model: the model and its search space.
        seed: of the search and the trials.
        folder: its folder in the comparison's run directory.
        gpus: GPUs per trial; None leaves it to the space and the machine.
    """

    cell: Cell
    model: ModelPlan
    seed: int
    folder: Path
    gpus: float | None

    def space(self) -> SearchSpace:
        """Give the space to search; for the default setting, the default with as many seeds.

        A model that is solved in closed form draws nothing, so its default needs one trial.
        """
        space = self.model.search_space()
        if self.cell.setting == "tuned":
            return space
        is_closed = load_spec(self.model.name).fit == "closed_form"
        repeated = {**space.content, "search": {"name": "repeat"}}
        default = parse_space(repeated, path=space.path)
        return default.with_budget(trials=1) if is_closed else default

    def request(self, inputs: RunInputs) -> TuneRequest:
        """Give the search in the form that `raymat tune` would have of it."""
        space = self.space()
        return TuneRequest(
            space=dict(space.content),
            space_path=space.path,
            data=inputs.source.path or inputs.source.name,
            target=inputs.prop.name,
            split=inputs.split.config,
            seed=self.seed,
            gpus=self.gpus,
        )


def run_cell(task: CellTask, inputs: RunInputs, *tables: FeatureTable) -> dict[str, Any]:
    """Run a cell, or what is left of it, and give its row of `comparison.csv`; a Ray task.

    Raises:
        RunError: no trial finished an epoch, or the folder cannot be written.
    """
    prepare_environment()
    request = task.request(inputs)
    _drop_hopeless(task.folder, inputs.prop.task)
    with _open(task, request) as run:
        scored = [event["row"] for event in run.events() if event["event"] == "scored"]
        row: dict[str, Any] = scored[-1] if scored else _search_and_score(task, inputs, tables, run)
        shutil.rmtree(run.path / TRIALS, ignore_errors=True)  # the model is in best/
        return row


def _search_and_score(
    task: CellTask, inputs: RunInputs, tables: tuple[FeatureTable, ...], run: RunDirectory
) -> dict[str, Any]:
    request, space = task.request(inputs), task.space().decided_by(inputs.crystals)
    data = inputs.fit_data(*tables)
    resources = share_for_trials(trial_resources(request, space), request, space, data, run)
    run.update_header(**inputs.facts())
    write_split(inputs.split, run.path / "split.parquet")
    run.emit("data", **inputs.facts(), leakage_line=inputs.leakage.line())
    with groups_named(str(task.folder)):
        study = search(request, space, data, resources=resources, run=run, keep_checkpoints=True)
    write_study_tables(study, run)
    row = _Scorer(study, space, inputs, data=ray.put(data), resources=resources, run=run).row(task)
    run.emit("scored", durable=True, row=row)
    return row


def _open(task: CellTask, request: TuneRequest) -> RunDirectory:
    if (task.folder / "run.json").exists():
        return RunDirectory.reopen(task.folder)
    arguments = request.model_dump(mode="json")
    header = {"command": "compare-cell", "arguments": arguments, "seed": task.seed}
    return RunDirectory.create(task.folder, header)


def _drop_hopeless(folder: Path, task: Task) -> None:
    """Begin anew where a search ended without any usable trial: resuming would change nothing."""
    events = read_events(folder / "events.jsonl")
    trials = Study.from_events(events, task).trials.values()
    is_usable = any(trial.status != "failed" and trial.epochs for trial in trials)
    if not is_usable and any(event["event"] == SEARCH_ENDED for event in events):
        shutil.rmtree(folder)


class _Scorer:
    """Takes up trials from their checkpoints and scores them on the test rows."""

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        inputs: RunInputs,
        *,
        data: Any,
        resources: Resources,
        run: RunDirectory,
    ) -> None:
        self.study, self.space, self.inputs = study, space, inputs
        self.data, self.n_cpus, self.run = data, max(1, int(resources.cpu)), run

    def row(self, task: CellTask) -> dict[str, Any]:
        """Score the winner, store its model and predictions, and give the row."""
        winner = self.study.best_trial()
        result = self._take_up(winner)
        config = self.space.configure(winner.values)
        store_model(winner, config, result, inputs=self.inputs, run=self.run)
        keep_baselines(self.inputs, self.run)
        self._write_config(winner, result)
        best = winner.best(self.study.task)
        return {
            "model": task.cell.model,
            "property": task.cell.property,
            "unit": self.inputs.prop.unit,
            "setting": task.cell.setting,
            "repetition": task.cell.repetition,
            "n_train": len(self.inputs.split.rows("train")),
            **self._scores(result),
            "train_time_s": winner.train_time_s,
            "featurize_time_s": self._featurize_time_s(config),
            "n_parameters": result.n_parameters,
            "model_bytes": (self.run.path / "best" / WEIGHTS).stat().st_size,
            "device": winner.facts["device"],
            "task": self.study.task,
            "training_size": "all" if task.cell.n_train is None else task.cell.n_train,
            "trial": winner.number,
            "val_score": best.val_score if best else None,
            **self._first(task, winner, result),
            **self._spent(),
        }

    def _write_config(self, winner: TrialRecord, result: FitResult) -> None:
        """Write `best.yaml`; data and rows are those of the plan, so it names none."""
        content = {
            "model": self.space.model,
            "config": winner.config,
            "seed": winner.seed,
            "stop_after": result.best.epoch,
        }
        write_best_yaml(content, f"The winner of {self.run.path.name}.", self.run)

    def _take_up(self, record: TrialRecord) -> FitResult:
        task = start_task(
            train_to_epoch,
            self.space.configure(record.values),
            self.data,
            seed=record.seed,
            folder=trial_folder(self.run.path, record.number),
            epoch=len(record.epochs),
            n_cpus=self.n_cpus,
            cpu=self.n_cpus,
        )
        result: FitResult = result_of(task, self.run)
        return result

    def _scores(self, result: FitResult) -> dict[str, Any]:
        scores = score_part(self.inputs, "test", result.predictions)
        names = ("mae", "rmse", "r2", "auc", "accuracy", "accuracy_0", "accuracy_1")
        return {"n_test": scores["n"], **{name: scores.get(name) for name in names}}

    def _spent(self) -> dict[str, Any]:
        trials = self.study.trials.values()
        return {
            "n_trials": len(trials),
            "n_trials_complete": sum(t.status == "complete" for t in trials),
            "n_trials_failed": sum(t.status == "failed" for t in trials),
            "n_epochs": sum(len(t.epochs) for t in trials),
            "search_time_s": sum(t.time_s for t in trials),
        }

    def _first(
        self, task: CellTask, winner: TrialRecord, result: FitResult
    ) -> dict[str, float | None]:
        """Score the default with its first seed alone: what a single training would give."""
        first, name = self.study.trials[DEFAULT_TRIAL], _LEADING[self.study.task]
        scores = dict.fromkeys((f"first_{leading}" for leading in _LEADING.values()), None)
        if task.cell.setting != "default" or first.status == "failed" or not first.epochs:
            return {**scores}
        alone = result if first is winner else self._take_up(first)
        return {**scores, f"first_{name}": score_part(self.inputs, "test", alone.predictions)[name]}

    def _featurize_time_s(self, config: TrialConfig) -> float:
        view = load_spec(config.model).reads(config.architecture)
        rows = np.random.default_rng(0).permutation(len(self.inputs.crystals))[:TIMED_CRYSTALS]
        some = self.inputs.crystals.without_properties().take(rows)
        seconds: float = result_of(start_task(time_build, view.table_config, some))
        return seconds * len(self.inputs.crystals) / len(rows)


def keep_baselines(inputs: RunInputs, run: RunDirectory) -> None:
    """Write what the baselines predict of a cell's test rows into its folder.

    A split has one pair of baselines, so they are taken from another cell of the same rows where
    one has made them.
    """
    name = f"baselines-{inputs.split.sha256[:16]}.parquet"
    known = [path for path in run.path.parent.glob(f"*/{name}") if path.parent != run.path]
    with run.replacing(name) as temporary:
        if known:
            shutil.copyfile(known[0], temporary)
            return
        rows = inputs.split.rows("test")
        ids = np.asarray(inputs.crystals.material_ids)[rows]
        table = pd.DataFrame({"material_id": ids, "target": inputs.targets[rows]})
        table.assign(**predict_baselines(inputs)).to_parquet(temporary, index=False)
