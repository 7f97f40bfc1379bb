"""ASHA for runs that can be interrupted."""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raymat.cluster.optuna_search import DEFAULT_TRIAL
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.study import Study


class ResumableASHA(ASHAScheduler):  # type: ignore[misc]
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
        self._past: Study | None = past

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a new trial; the past is told before the first."""
        past, self._past = self._past, None
        if past is not None:
            self._tell(past)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if trial.config["trial"] == DEFAULT_TRIAL and not result["finished"]:
            return str(TrialScheduler.CONTINUE)
        return decision

    def _tell(self, past: Study) -> None:
        for record in past.trials.values():
            if record.status not in ("complete", "stopped"):
                continue
            stand_in = SimpleNamespace(trial_id=f"past-{record.number}", config={"trial": -1})
            super().on_trial_add(None, stand_in)
            best = None
            for metrics in record.epochs:
                scores = [metrics.val_score, *([best] if best is not None else [])]
                best = max(scores) if past.task == "classification" else min(scores)
                result = {"epoch": metrics.epoch, "score": best, "finished": False}
                super().on_trial_result(None, stand_in, result)


def make_scheduler(space: SearchSpace, past: Study) -> TrialScheduler:
    """Give the scheduler that a space asks for."""
    if space.scheduler.name == "none":
        return FIFOScheduler()
    return ResumableASHA(space, past)
