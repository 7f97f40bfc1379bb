"""The members of an ensemble as Ray tasks, as many at a time as fit; each is stored as it ends."""

import shutil
from collections import deque
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from raymat.cluster.member import TrainedMember, epochs_done, train_member
from raymat.cluster.resources import Room
from raymat.cluster.tasks import ProcessDiedError, result_of, start_task, wait_for_some
from raymat.ensembles.members import MemberPlan, plan_member
from raymat.ensembles.record import (
    MEMBER_ENDED,
    MEMBER_FAILED,
    MEMBER_STARTED,
    EnsembleRecord,
)
from raymat.ensembles.stored import store_member
from raymat.errors import DivergedError, one_line
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import FitData
from raymat.training.inputs import RunInputs
from raymat.training.model_files import TrainedModel
from raymat.training.results import to_trained_model
from raymat.tuning.settings import Resources
from raymat.tuning.trial_config import TrialConfig

TRIALS = "trials"  # folder of the checkpoints of members in training


class MemberTraining:
    """Trains the members that an ensemble lacks.

    Args:
        configs: members take them in turn.
        inputs: crystals, target and split.
        fraction: of the training rows that each member learns from.
        seed: of the ensemble.
        resources: what one member occupies.
        run: where members and the log are written.
    """

    def __init__(
        self,
        configs: list[TrialConfig],
        inputs: RunInputs,
        *,
        fraction: float,
        seed: int,
        resources: Resources,
        run: RunDirectory,
    ) -> None:
        self.configs, self.inputs, self.fraction, self.seed = configs, inputs, fraction, seed
        self.resources, self.run = resources, run
        self._train_rows = inputs.split.rows("train")

    def train(self, record: EnsembleRecord, data: FitData, *, at_once: int | None) -> None:
        """Train every member that the record lacks, and take it into the record.

        A member that fails is tried once more with other rows and weights, or with the same ones if
        its process or host died; all of it is logged.

        Args:
            record: of the members so far.
            data: what a fit may see.
            at_once: members at a time; None for as many as fit.

        Raises:
            DataError: the share of rows is too small for a fit.
            RunError: the run's files cannot be written.
        """
        waiting = deque(self._plan(*place) for place in record.missing())
        self._announce(record)
        shared = ray.put(data)
        running, room = dict[Any, MemberPlan](), Room(self.resources)
        while waiting or running:
            while waiting and len(running) < (at_once or room()):
                plan = waiting.popleft()
                running[self._start(plan, shared)] = plan
            for task in wait_for_some(running, room):
                again = self._end(running.pop(task), task, record)
                waiting.extend([again] if again is not None else [])
            self._say_epochs(running)

    def _announce(self, record: EnsembleRecord) -> None:
        epochs = [getattr(config.training, "epochs", 1) for config in self.configs]
        self.run.emit(
            "ensemble_started",
            members=record.n_planned,
            done=len(record.ended),
            failed=len(record.given_up),
            epochs=max(epochs),
            n_train=round(self.fraction * len(self._train_rows)),
            **self.resources.model_dump(),
        )

    def _plan(self, number: int, attempt: int) -> MemberPlan:
        return plan_member(
            number,
            attempt,
            seed=self.seed,
            fraction=self.fraction,
            train=self._train_rows,
            n_configurations=len(self.configs),
        )

    def _start(self, plan: MemberPlan, shared: Any) -> Any:
        self.run.emit(MEMBER_STARTED, member=plan.number, attempt=plan.attempt, seed=plan.seed)
        return start_task(
            train_member,
            plan,
            self.configs[plan.configuration],
            shared,
            folder=self._folder(plan),
            n_cpus=max(1, int(self.resources.cpu)),
            cpu=self.resources.cpu,
            gpu=self.resources.gpu,
        )

    def _folder(self, plan: MemberPlan) -> Path:
        return self.run.path / TRIALS / f"{plan.name}-{plan.attempt}"

    def _end(self, plan: MemberPlan, task: Any, record: EnsembleRecord) -> MemberPlan | None:
        """Store a member that has ended, or give its second attempt if it may have one."""
        try:
            trained: TrainedMember = result_of(task, self.run)
        except (DivergedError, ProcessDiedError, RayTaskError) as error:
            attempt = {"attempt": plan.attempt, "seed": plan.seed}
            reason = self._reason(plan, error)
            is_own = not isinstance(error, ProcessDiedError)
            how = {
                "error": reason,
                "diverged": isinstance(error, DivergedError),
                "died": not is_own,
            }
            failure = {"member": plan.number, **attempt, **how}
            record.take({"event": MEMBER_FAILED, **failure})
            next_attempt = dict(record.missing()).get(plan.number)  # none if it is given up
            again = next_attempt is not None
            self.run.emit(MEMBER_FAILED, durable=True, **failure, again=again)
            return None if next_attempt is None else self._plan(plan.number, next_attempt)
        store_member(self._describe(plan, trained), trained.result, plan.number, self.run)
        self._log(record, MEMBER_ENDED, member=plan.number, row=trained.row)
        shutil.rmtree(self._folder(plan), ignore_errors=True)
        return None

    def _reason(self, plan: MemberPlan, error: Exception) -> str:
        """Give one line on a failure; what is not ours keeps its traceback in a file."""
        if not isinstance(error, RayTaskError):
            return one_line(error)
        name = f"errors/member-{plan.name}-{plan.attempt}.txt"
        (self.run.path / "errors").mkdir(exist_ok=True)
        self.run.write_text(name, f"{error}\n")
        return " ".join(f"{type(error.cause).__name__}: {error.cause} (see {name})".split())

    def _describe(self, plan: MemberPlan, trained: TrainedMember) -> TrainedModel:
        config, size = self.configs[plan.configuration], trained.row["batch_size"]
        trained_with = {} if size is None else {"batch_size": size}  # halved if memory was short
        training = {
            "settings": config.training.model_dump(mode="json") | trained_with,
            "seed": plan.seed,
            "n_train": len(plan.rows),
            "best_epoch": trained.result.best.epoch,
            "data_sha256": self.inputs.source.sha256,
            "split_sha256": self.inputs.split.sha256,
        }
        return to_trained_model(
            config.model, config.architecture, trained.result, self.inputs, training
        )

    def _log(self, record: EnsembleRecord, event: str, **values: Any) -> None:
        self.run.emit(event, durable=True, **values)
        record.take({"event": event, **values})

    def _say_epochs(self, running: dict[Any, MemberPlan]) -> None:
        epochs = {plan.number: epochs_done(self._folder(plan)) for plan in running.values()}
        self.run.mention("member_epochs", epochs=epochs)
