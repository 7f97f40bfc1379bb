"""The classifiers of an explanation run as Ray tasks; each is stored as it ends."""

import shutil
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from raymat.cluster.explain_tasks import TRIALS, train_coarse_task
from raymat.cluster.member import TrainedMember, epochs_done, train_member
from raymat.cluster.resources import Room
from raymat.cluster.tasks import ProcessDiedError, result_of, start_task, wait_for_some
from raymat.ensembles.members import MemberPlan, member_seed
from raymat.errors import DivergedError, RaymatError, RunError
from raymat.explain.coarse_classifier import CoarseConfig
from raymat.explain.coarse_training import (
    OUTPUTS,
    CoarseFacts,
    load_coarse,
    read_outputs,
    save_coarse,
)
from raymat.explain.record import CLASSIFIER_ENDED, ExplainRecord
from raymat.explain.scores import FULL
from raymat.tracking.run_directory import RunDirectory
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.inputs import RunInputs
from raymat.training.model_files import load_model, save_model
from raymat.training.results import FitResult, to_trained_model
from raymat.tuning.settings import Resources
from raymat.tuning.trial_config import TrialConfig

CLASSIFIERS = "classifiers"  # folder of the run


class ClassifierTraining:
    """Trains the classifiers that an explanation run lacks.

    Args:
        coarse: name -> configuration of each coarse classifier.
        full: configuration of the full model; None if it is given, or not wanted.
        training: settings of the coarse classifiers.
        inputs: crystals, classes and split.
        seed: of the run.
        resources: what one coarse classifier occupies.
        full_resources: what the full model occupies.
        run: where they are stored.
    """

    def __init__(
        self,
        coarse: dict[str, CoarseConfig],
        full: TrialConfig | None,
        *,
        training: FitConfig,
        inputs: RunInputs,
        seed: int,
        resources: Resources,
        full_resources: Resources,
        run: RunDirectory,
    ) -> None:
        self.coarse, self.full, self.training = coarse, full, training
        self.inputs, self.seed, self.run = inputs, seed, run
        self.resources, self.full_resources = resources, full_resources
        # The full model takes longest, so it begins first.
        self.names = [*([FULL] if full is not None else []), *coarse]

    def train(self, record: ExplainRecord, data: FitData, *, at_once: int | None) -> None:
        """Train every classifier that the record lacks, and take it into the record.

        Raises:
            RunError: one diverged, or cannot be written.
        """
        self._forget_damaged(record)
        waiting = deque(name for name in self.names if name not in record.classifiers)
        self.run.emit(
            "classifiers_started",
            names=self.names,
            done=len(self.names) - len(waiting),
            epochs=self.training.epochs,
        )
        shared, running, room = ray.put(data), dict[Any, str](), Room(self.resources)
        while waiting or running:
            while waiting and len(running) < (at_once or room()):
                name = waiting.popleft()
                running[self._start(name, shared)] = name
            for task in wait_for_some(running, room):
                self._end(running.pop(task), task, record)
            epochs = {name: epochs_done(self._scratch(name)) for name in running.values()}
            self.run.mention("classifier_epochs", epochs=epochs)
        shutil.rmtree(self.run.path / TRIALS, ignore_errors=True)

    def _forget_damaged(self, record: ExplainRecord) -> None:
        """Let classifiers that cannot be read be trained again: a host may have lost power."""
        for name in [name for name in self.names if name in record.classifiers]:
            folder = self._folder(name)
            try:
                load_model(folder) if name == FULL else load_coarse(folder)
                read_outputs(folder)
            except RaymatError as error:
                record.forget(name)
                self.run.emit("warning", text=f"{name} is trained again: {error}")

    def outputs(self) -> dict[str, NDArray[np.float64]]:
        """Give name -> (n_crystals,) probabilities of class 1.

        Raises:
            RunError: one cannot be read.
        """
        return {name: read_outputs(self._folder(name)) for name in self.names}

    def _folder(self, name: str) -> Path:
        return self.run.path / CLASSIFIERS / name

    def _scratch(self, name: str) -> Path:
        return self.run.path / TRIALS / name

    def _seed(self, name: str) -> int:
        """Give a seed that a classifier has whichever others there are."""
        labels, _, member = name.partition("-")
        place = {FULL: 0, "group": 1, "period": 2}[labels]
        return member_seed(self.seed, int(member or 0), place)

    def _start(self, name: str, shared: Any) -> Any:
        resources = self.full_resources if name == FULL else self.resources
        places_of: dict[str, Any] = {
            "folder": self._scratch(name),
            "n_cpus": max(1, int(resources.cpu)),
            "cpu": resources.cpu,
            "gpu": resources.gpu,
        }
        self.run.mention("classifier_started", name=name)
        if name != FULL:
            config, seed = self.coarse[name], self._seed(name)
            return start_task(
                train_coarse_task, config, self.training, shared, seed=seed, **places_of
            )
        plan = MemberPlan(0, 0, 0, self._seed(name), self.inputs.split.rows("train"))
        return start_task(train_member, plan, self.full, shared, **places_of)

    def _end(self, name: str, task: Any, record: ExplainRecord) -> None:
        try:
            ended: TrainedMember | FitResult = result_of(task, self.run)
        except RaymatError as error:
            advice = (
                ""  # only chance differs with the seed; what is wrong with the data stays wrong
            )
            if isinstance(error, ProcessDiedError):
                advice = "; `raymat resume` tries it again"
            elif isinstance(error, DivergedError):
                advice = "; try another --seed"
            if name == FULL and not isinstance(error, ProcessDiedError):
                advice += ", or leave it out with --no-full"
            raise RunError(
                f"the classifier {name} could not be trained: {error}{advice}"
            ) from error
        result = ended.result if isinstance(ended, TrainedMember) else ended
        self._store(name, result)
        row = {
            "val_auc": result.best.val_score,
            "best_epoch": result.best.epoch,
            "epochs": result.epochs,
            "n_parameters": result.n_parameters,
            "seed": self._seed(name),
        }
        self.run.emit(CLASSIFIER_ENDED, durable=True, name=name, row=row)
        record.take({"event": CLASSIFIER_ENDED, "name": name, "row": row})
        shutil.rmtree(self._scratch(name), ignore_errors=True)

    def _store(self, name: str, result: FitResult) -> None:
        """Write a classifier's folder, whole or not at all."""
        folder = self._folder(name)
        begun = folder.with_name(f".{name}")
        for old in (begun, folder):  # of a run killed before it was logged
            shutil.rmtree(old, ignore_errors=True)
        try:
            self._write(name, result, begun)
            begun.replace(folder)
        except OSError as cause:
            raise RunError(f"{folder}: cannot be written ({cause.strerror or cause})") from cause

    def _write(self, name: str, result: FitResult, begun: Path) -> None:
        source, split = self.inputs.source.sha256, self.inputs.split.sha256
        if self.full is not None and name == FULL:
            facts = {
                "settings": self.full.training.model_dump(mode="json"),
                "seed": self._seed(name),
                "best_epoch": result.best.epoch,
                "data_sha256": source,
                "split_sha256": split,
            }
            architecture = self.full.architecture
            model = to_trained_model(self.full.model, architecture, result, self.inputs, facts)
            save_model(model, begun)
            np.savez(begun / OUTPUTS, prediction=result.predictions)
        else:
            prop, threshold = self.inputs.prop.name, self.inputs.threshold
            own = CoarseFacts(prop, threshold, self._seed(name), source, split, result.best.epoch)
            save_coarse(result, own, begun)
