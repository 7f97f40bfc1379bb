"""ASHA for runs that can be interrupted."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raymat.cluster.optuna_search import DEFAULT_TRIAL
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.study import Study, TrialRecord


class ResumableASHA(ASHAScheduler):
    """Ray's ASHA (Li et al., MLSys 2020), told the results of an interrupted run first.

    It never stops trial 0: the default configuration is what the winner is compared with, so it
    is trained to its end.
    """

    def __init__(self, space: SearchSpace, past: Study) -> None:
        super().__init__(
            time_attr="epoch",
            max_t=space.budget.epochs,
            grace_period=space.scheduler.grace_period,
            reduction_factor=space.scheduler.reduction_factor,
        )
        self._past = deepcopy(past)  # the study itself grows while the search runs
        self._told = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a new trial; the ended trials of the past are told before the first."""
        if not self._told:
            self._told = True
            for record in self._past.trials.values():
                if record.status in ("complete", "stopped"):
                    self._tell(record, SimpleNamespace(trial_id=f"past-{record.number}"))
        super().on_trial_add(tune_controller, trial)
        resumed = self._past.trials.get(trial.config["trial"])
        if resumed is not None:
            self._tell(resumed, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if trial.config["trial"] == DEFAULT_TRIAL and not result["finished"]:
            return str(TrialScheduler.CONTINUE)
        return decision

    def _tell(self, record: TrialRecord, trial: Any) -> None:
        if trial.trial_id not in self._trial_info:
            super().on_trial_add(cast(Any, None), trial)
        for metrics, best in zip(record.epochs, record.best_so_far(self._past.task), strict=True):
            result = {"epoch": metrics.epoch, "score": best}
            super().on_trial_result(cast(Any, None), trial, result)


def make_scheduler(space: SearchSpace, past: Study) -> TrialScheduler:
    """Give the scheduler that a space asks for."""
    if space.scheduler.name == "none":
        return FIFOScheduler()
    return ResumableASHA(space, past)
