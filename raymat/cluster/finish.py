"""After a search: the winner trained again from its seed, and everything scored once."""

import shutil
from pathlib import Path
from typing import Any

import ray

from raymat.cluster.optuna_search import DEFAULT_TRIAL
from raymat.cluster.tasks import result_of, start_task
from raymat.cluster.trainable import trial_folder
from raymat.properties import Task
from raymat.tracking.run_directory import RunDirectory
from raymat.training.device import prepare_process
from raymat.training.fit import FitData
from raymat.training.inputs import RunInputs
from raymat.training.latent_map import keep_latent_map
from raymat.training.model_files import TrainedModel, save_model
from raymat.training.results import (
    FitResult,
    conclude,
    predict_baselines,
    prediction_table,
    say_if_flat,
    score_against_baselines,
    score_part,
    to_trained_model,
)
from raymat.tuning.request import TuneRequest
from raymat.tuning.run_files import write_best_yaml, write_study_tables
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources
from raymat.tuning.study import Study, TrialRecord
from raymat.tuning.trial import Trial, run_to_epoch
from raymat.tuning.trial_config import TrialConfig


def finish(
    study: Study,
    request: TuneRequest,
    space: SearchSpace,
    *,
    inputs: RunInputs,
    data: FitData,
    resources: Resources,
    run: RunDirectory,
) -> dict[str, Any]:
    """Refit the winner, score it, the default and the baselines, and write the run's files.

    The default is trial 0 as it stands: trained to its end, or until the time budget cut it off.
    Both are scored on the test rows here for the first time.

    Raises:
        RunError: no trial finished an epoch.
    """
    write_study_tables(study, run)  # first: they also tell of trials that all failed
    winner, default = study.best_trial(), study.trials[DEFAULT_TRIAL]
    _write_config(winner, study, request, run)
    refit = _Refit(study, space, ray.put(data), resources, run)
    pending = {"winner": refit.start(winner, "winner")}
    if default.status != "failed":
        pending["default"] = refit.start(default, "default")
    baselines = start_task(predict_baselines, inputs)
    results: dict[str, FitResult] = {role: result_of(task, run) for role, task in pending.items()}
    config = space.configure(winner.values)
    model = store_model(winner, config, results["winner"], inputs=inputs, run=run)
    keep_latent_map(model, data.features.find(model.view.table_config), inputs, run)
    run.emit("refit_ended", **describe_refit(winner, results["winner"], inputs.prop.task))
    text = say_if_flat(inputs, results["winner"].predictions)
    if text is not None:
        run.emit("warning", text=text)
    metrics = _metrics(winner, results, inputs)
    default_result = results.get("default")
    metrics |= score_against_baselines(
        inputs,
        results["winner"].predictions,
        result_of(baselines),
        default=None if default_result is None else default_result.predictions,
    )
    metrics |= _difference_in_mae(metrics["verdict"])
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    shutil.rmtree(run.path / "trials", ignore_errors=True)  # checkpoints; the model is in best/
    return metrics


class _Refit:
    """Trains the winner from scratch, and takes up the default as it stands, as Ray tasks."""

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        data: Any,
        resources: Resources,
        run: RunDirectory,
    ) -> None:
        self.study, self.space, self.data = study, space, data
        self.resources, self.run = resources, run

    def start(self, record: TrialRecord, role: str) -> Any:
        """Start one; the result is a `FitResult`."""
        folder = trial_folder(self.run.path, record.number)
        epoch = max(1, len(record.epochs))
        if role == "winner":
            best = record.best(self.study.task)
            folder, epoch = folder.parent / "winner", best.epoch if best else epoch
        self.run.emit("refit_started", role=role, trial=record.number, epoch=epoch)
        return start_task(
            train_to_epoch,
            self.space.configure(record.values),
            self.data,
            seed=record.seed,
            folder=folder,
            epoch=epoch,
            n_cpus=max(1, int(self.resources.cpu)),
            cpu=self.resources.cpu,
            gpu=self.resources.gpu,
        )


def train_to_epoch(
    config: TrialConfig,
    data: FitData,
    *,
    seed: int,
    folder: Path,
    epoch: int,
    n_cpus: int,
) -> FitResult:
    """Train a trial to an epoch, from its checkpoint in `folder` if there is one; a Ray task."""
    prepare_process(n_cpus)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    return conclude(
        run_to_epoch(Trial(config, data, seed=seed, folder=folder, device=device), epoch)
    )


def _metrics(
    winner: TrialRecord, results: dict[str, FitResult], inputs: RunInputs
) -> dict[str, Any]:
    """Give `metrics.json`; `winner` and `default` also say which trial and epoch they are."""
    best = results["winner"]
    metrics: dict[str, Any] = {
        "target": inputs.prop.name,
        "unit": inputs.prop.unit,
        "task": inputs.prop.task,
        "threshold": inputs.threshold,
        "class_names": inputs.prop.names,
        "winner": describe_refit(winner, best, inputs.prop.task),
        "test": score_part(inputs, "test", best.predictions),
        "validation": score_part(inputs, "validation", best.predictions),
        "leakage": inputs.facts()["leakage"],
    }
    default = results.get("default")
    if default is not None:
        scores = score_part(inputs, "test", default.predictions)
        metrics["default"] = {"trial": DEFAULT_TRIAL, "epoch": default.best.epoch, **scores}
    return metrics


def describe_refit(winner: TrialRecord, refitted: FitResult, task: Task) -> dict[str, Any]:
    """Return which trial won, with the best validation score that each of its trainings reached.

    On a GPU a training does not repeat bit by bit, so that both may be best at different epochs.
    """
    in_search = winner.best(task)
    return {
        "trial": winner.number,
        "seed": winner.seed,
        "epoch": refitted.best.epoch,
        "val_score_refitted": refitted.best.val_score,
        "epoch_in_search": in_search.epoch if in_search else None,
        "val_score_in_search": in_search.val_score if in_search else None,
    }


def _difference_in_mae(verdict: dict[str, Any]) -> dict[str, Any]:
    """Give the MAE of the winner minus that of the default, where both are of numbers."""
    if verdict["metric"] != "mae" or "default" not in verdict:
        return {}
    own = verdict["default"]
    ends = None if own["lo"] is None else [own["lo"], own["hi"]]
    return {"difference": {"mae": own["difference"], "mae_ci95": ends}}


def store_model(
    record: TrialRecord,
    config: TrialConfig,
    result: FitResult,
    *,
    inputs: RunInputs,
    run: RunDirectory,
) -> TrainedModel:
    """Write the model of a trial into `best/` of a run, and its predictions of all rows."""
    training = {
        "settings": config.training.model_dump(mode="json"),
        "trial": record.number,
        "seed": record.seed,
        "best_epoch": result.best.epoch,
        "data_sha256": inputs.source.sha256,
        "split_sha256": inputs.split.sha256,
    }
    model = to_trained_model(config.model, config.architecture, result, inputs, training)
    save_model(model, run.path / "best")
    with run.replacing("predictions.parquet") as path:
        prediction_table(inputs, result.predictions).to_parquet(path, index=False)
    return model


def _write_config(
    winner: TrialRecord, study: Study, request: TuneRequest, run: RunDirectory
) -> None:
    best = winner.best(study.task)
    content = {
        "model": request.space["model"],
        "config": winner.config,
        "seed": winner.seed,
        "stop_after": best.epoch if best else None,
        "data": request.data,
        "target": request.target,
        "classes": request.classes,
        "split": request.split.model_dump(mode="json"),
        "max_rejected": request.max_rejected,
    }
    write_best_yaml(content, f"The winner of {run.path.name}: trial {winner.number:04d}.", run)
