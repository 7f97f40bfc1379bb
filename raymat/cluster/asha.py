"""ASHA for runs that can be interrupted."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raymat.cluster.optuna_search import DEFAULT_TRIAL
from raymat.properties import Task
from raymat.tracking.events import Event
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.study import Study


class ResumableASHA(ASHAScheduler):
    """Ray's ASHA (Li et al., MLSys 2020), told what an interrupted run had seen, in its order.

    It knows trials by their number, which a resume keeps. A trial whose end was decided, but not
    carried out before the interruption, is stopped as soon as it reports again. Trial 0 is never
    stopped: the default configuration is what the winner is compared with. A trial that begins
    anew with half batches is forgotten first: its earlier epochs are those of another trial.

    Args:
        space: whose budget and scheduler settings are used.
        past: the run's event log so far.
        task: whether a lower or a higher score is better.
    """

    def __init__(self, space: SearchSpace, past: Sequence[Event], task: Task) -> None:
        super().__init__(
            time_attr="epoch",
            max_t=space.budget.epochs,
            grace_period=space.scheduler.grace_period,
            reduction_factor=space.scheduler.reduction_factor,
        )
        self._past, self._task = list(past), task
        self._overdue: set[int] = set()
        self._halved: dict[int, int] = {}  # trial -> size of its batches since it began anew

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a new trial; before the first one, the past is told."""
        self._replay()
        super().on_trial_add(tune_controller, _named(trial.config["trial"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        number = trial.config["trial"]
        if "halved" in result:
            self._begin_anew(number, result["halved"])
            return str(TrialScheduler.CONTINUE)
        decision: str = super().on_trial_result(tune_controller, _named(number), result)
        if result["finished"]:
            return decision
        if number == DEFAULT_TRIAL:
            return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP) if number in self._overdue else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Take the last result of a trial."""
        super().on_trial_complete(tune_controller, _named(trial.config["trial"]), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that was removed."""
        super().on_trial_remove(tune_controller, _named(trial.config["trial"]))

    def _begin_anew(self, number: int, batch_size: int) -> None:
        """Forget what a trial reported with larger batches; known already after a restart."""
        if self._halved.get(number) == batch_size:
            return
        self._halved[number] = batch_size
        self._overdue.discard(number)
        for bracket in self._brackets:
            for _, recorded in bracket._rungs:
                recorded.pop(_named(number).trial_id, None)

    def _replay(self) -> None:
        events, self._past = self._past, []
        study = Study(self._task)
        for event in events:
            study.take(event)
            if event["event"] == "trial_started":
                super().on_trial_add(cast(Any, None), _named(event["trial"]))
            elif event["event"] == "epoch":
                self._tell(study, event["trial"])
            elif event["event"] == "batch_halved":
                self._begin_anew(event["trial"], event["batch_size"])
            elif event["event"] == "trial_ended":
                self._overdue.discard(event["trial"])

    def _tell(self, study: Study, number: int) -> None:
        record = study.trials[number]
        score = record.best_so_far(self._task)[-1]
        result = {"epoch": record.epochs[-1].epoch, "score": score}
        decision = super().on_trial_result(cast(Any, None), _named(number), result)
        if decision == TrialScheduler.STOP:
            self._overdue.add(number)
        else:
            self._overdue.discard(number)  # it went on: the decision was another one then


def make_scheduler(space: SearchSpace, past: Sequence[Event], task: Task) -> TrialScheduler:
    """Give the scheduler that a space asks for."""
    if space.scheduler.name == "none":
        return FIFOScheduler()
    return ResumableASHA(space, past, task)


def _named(number: int) -> Any:
    return SimpleNamespace(trial_id=f"{number:04d}")
