"""`raymat train`: fit one configuration in this process and score it once on the test rows."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from raymat.config import Config, Epochs, Gpus, Seed, Threads, build_config
from raymat.data.limits import MAX_REJECTED
from raymat.data.splits import SplitConfig
from raymat.errors import RaymatError, RunError
from raymat.features.store import find_or_build
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.device import choose_device, prepare_process
from raymat.training.fit import EpochMetrics, FitData
from raymat.training.forecast import slow_fit_warning
from raymat.training.inputs import ClassRule, RunInputs, leave_out, load_inputs
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
from raymat.tuning.forecast import check_memory
from raymat.tuning.run_files import write_best_yaml, write_study_tables
from raymat.tuning.study import Study
from raymat.tuning.trial import Trial
from raymat.tuning.trial_config import TrialConfig

TRIAL = 0  # the only one of the run
TRIALS = "trials"  # folder of its checkpoint
_KEPT = {"data", "target", "classes", "split", "max_rejected"}  # what best.yaml keeps of a request


class TrainRequest(Config):
    """A training, completely described.

    Attributes:
        config: ``{"model": name, "config": {dotted key: value}}``.
        config_path: where it was read from, for messages.
        data: a file, a folder or the name of a built-in set.
        target: the column to learn.
        classes: learn whether a number lies above the median of the training rows, or above a
            value, instead of the number; "none" learns a column of 0 and 1 as a number; None
            leaves it to the values.
        split: how rows are divided.
        seed: of weights, order and dropout.
        max_rejected: share of unusable rows that is tolerated.
        gpus: 0 trains on the CPU; None on a GPU if there is one.
        threads: CPU threads; with one, a run on a CPU repeats bit by bit.
        stop_after: last epoch to train, before the schedule's end; a search writes the winner's
            best epoch here, so that training it again gives the same model.
    """

    config: dict[str, Any]
    config_path: str
    data: str
    target: str
    classes: ClassRule | None = None
    split: SplitConfig
    seed: Seed = 0
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
    gpus: Gpus | None = None
    threads: Threads = 1
    stop_after: Epochs | None = None


def train(
    request: TrainRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Train into a new run directory and give the content of its `metrics.json`.

    Raises:
        ConfigError: the configuration cannot be used.
        DataError: the data cannot be used.
        RunError: the folder cannot be used.
        DivergedError: a loss or prediction was not finite.
    """
    header = {"command": "train", "arguments": request.model_dump(mode="json")}
    with RunDirectory.create(out, {**header, "seed": request.seed}, listeners=listeners) as run:
        return _run(request, run)


def resume_train(path: Path, *, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Continue an interrupted training from its last epoch.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "train":
            raise RunError(f"{path}: a {header.get('command')} run, not a train run")
        request = build_config(TrainRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run)


def _run(request: TrainRequest, run: RunDirectory) -> dict[str, Any]:
    config = TrialConfig.from_dict(request.config, where=request.config_path)
    prepare_process(request.threads)
    device = choose_device(request.gpus)
    inputs = load_inputs(
        run,
        source=request.data,
        target=request.target,
        split_config=request.split,
        max_rejected=request.max_rejected,
        classes=request.classes,
    )
    config = config.decided_by(inputs.crystals)
    check_memory([config], inputs.crystals, inputs.prop.task, n_workers=1)
    table = _find_table(config, inputs, run)
    view = load_spec(config.model).reads(config.architecture)
    unusable = view.unusable(inputs.crystals, table)
    inputs = leave_out(inputs, unusable, run, max_rejected=request.max_rejected)
    data = inputs.fit_data(table)
    text = slow_fit_warning(load_spec(config.model), config.architecture, data)
    if text is not None:
        run.emit("warning", text=text)
    training = _Training(request, config, run)
    result = training.train(data, device)
    return _finish(result, training, inputs, table)


def _find_table(config: TrialConfig, inputs: RunInputs, run: RunDirectory) -> FeatureTable:
    view = load_spec(config.model).reads(config.architecture)
    run.mention("features", done=0, total=len(inputs.crystals))
    start = time.perf_counter()
    table = find_or_build(inputs.crystals, view.table_config)
    run.emit("features_ready", **table.facts(), time_s=time.perf_counter() - start)
    return table


class _Training:
    """The one trial of the run, its epochs written into the log as they end."""

    def __init__(self, request: TrainRequest, config: TrialConfig, run: RunDirectory) -> None:
        self.request, self.config, self.run = request, config, run

    def train(self, data: FitData, device: str) -> FitResult:
        """Train to the end, from the checkpoint if there is one."""
        self.study = Study.from_events(self.run.events(), data.task)
        self._announce(device)
        trial = Trial(
            self.config,
            data,
            seed=self.request.seed,
            folder=self.run.path / TRIALS / f"{TRIAL:04d}",
            device=device,
        )
        try:
            for metrics in trial.fit.history:  # the log may lack the last epoch before a crash
                self._log_epoch(metrics, trial)
            while not (trial.finished or trial.fit.epoch == self.request.stop_after):
                self._log_epoch(trial.step(), trial)
        except RaymatError as error:
            self._write("trial_ended", trial=TRIAL, status="failed", error=str(error))
            raise
        if self.study.trials[TRIAL].status == "running":
            self._write("trial_ended", trial=TRIAL, status="complete", error=None)
        return conclude(trial.fit)

    def _announce(self, device: str) -> None:
        self.run.mention("training_started", device=device, threads=self.request.threads)
        if TRIAL in self.study.trials:
            self.study.trials[TRIAL].status = "running"  # a resume may follow a failure
            self.run.emit("trial_resumed", trial=TRIAL)
            return
        self._write(
            "trial_started",
            trial=TRIAL,
            seed=self.request.seed,
            values={},
            config=self.config.flat(),
        )

    def _log_epoch(self, metrics: EpochMetrics, trial: Trial) -> None:
        known = self.study.trials[TRIAL].epochs
        if not known or metrics.epoch > known[-1].epoch:
            self._write("epoch", trial=TRIAL, **asdict(metrics), facts=trial.facts())

    def _write(self, event: str, **values: Any) -> None:
        self.study.take({"event": event, **values})
        self.run.emit(event, durable=event == "trial_ended", **values)


def _finish(
    result: FitResult, training: _Training, inputs: RunInputs, table: FeatureTable
) -> dict[str, Any]:
    run, request = training.run, training.request
    write_study_tables(training.study, run)
    _write_config(training)
    model = _write_model(result, training, inputs)
    with run.replacing("predictions.parquet") as path:
        prediction_table(inputs, result.predictions).to_parquet(path, index=False)
    keep_latent_map(model, table, inputs, run)
    text = say_if_flat(inputs, result.predictions)
    if text is not None:
        run.emit("warning", text=text)
    metrics: dict[str, Any] = {
        "target": inputs.prop.name,
        "unit": inputs.prop.unit,
        "task": inputs.prop.task,
        "threshold": inputs.threshold,
        "class_names": inputs.prop.names,
        "winner": {"trial": TRIAL, "seed": request.seed, "epoch": result.best.epoch},
        "test": score_part(inputs, "test", result.predictions),
        "validation": score_part(inputs, "validation", result.predictions),
        **score_against_baselines(inputs, result.predictions, predict_baselines(inputs)),
        "leakage": inputs.facts()["leakage"],
    }
    run.write_json("metrics.json", metrics)
    run.emit("scored", durable=True, metrics=metrics)
    shutil.rmtree(run.path / TRIALS, ignore_errors=True)  # the checkpoint has served
    return metrics


def _write_config(training: _Training) -> None:
    request = training.request
    content = {
        **training.config.to_yaml_dict(),
        "seed": request.seed,
        **request.model_dump(mode="json", include=_KEPT),
    }
    write_best_yaml(content, f"From {request.config_path}.", training.run)


def _write_model(result: FitResult, training: _Training, inputs: RunInputs) -> TrainedModel:
    config = training.config
    facts = {
        "settings": config.training.model_dump(mode="json"),
        "seed": training.request.seed,
        "best_epoch": result.best.epoch,
        "data_sha256": inputs.source.sha256,
        "split_sha256": inputs.split.sha256,
    }
    model = to_trained_model(config.model, config.architecture, result, inputs, facts)
    save_model(model, training.run.path / "best")
    return model
