"""Optuna as Ray Tune's search, told the truth.

Ray's own adapter tells Optuna that a trial stopped early is complete, and leaves a diverged one
running for ever. Here complete is complete, stopped is pruned (with its learning curve, which TPE
uses) and failed is failed. A resumed run is a new search that has been told its own past.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from raymat.tuning.distributions import Choice, Distribution, Int, LogUniform, Uniform
from raymat.tuning.parameters import Alternative
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.study import Study, TrialRecord
from raymat.tuning.trial_config import BATCH_SIZE

DEFAULT_TRIAL = 0
BEGUN_ANEW = "begun_anew_with_batches_of"  # Optuna's attribute of a proposal that did not fit


class OptunaSearch(Searcher):
    """Proposes trials: the default first, then unfinished ones of an earlier start, then new.

    Args:
        space: what to search and how.
        n_trials: trials in all, the default and those of the past included.
        past: trials of an interrupted run.
        seed: of the sampler.
        room: gives the trials that the cluster has room for now; None leaves it to Ray Tune.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        n_trials: int,
        past: Study,
        seed: int,
        room: Callable[[], int] | None = None,
    ) -> None:
        is_class = past.task == "classification"
        super().__init__(metric="score", mode="max" if is_class else "min")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self._task = past.task
        self._study = optuna.create_study(direction="maximize" if is_class else "minimize")
        self._asked: dict[str, optuna.Trial | None] = {}
        self._told: dict[str, int] = {}  # trial_id -> last epoch that Optuna knows
        self._values: dict[str, dict[str, Any]] = {}  # trial_id -> what it trains
        self._grid = _grid_points(space) if space.search.name == "grid" else None
        self._n_trials = (
            n_trials
            if self._grid is None
            else min(n_trials, 1 + len(space.try_first) + len(self._grid))
        )
        self._repeats = space.search.name == "repeat"
        self._next = max(past.trials, default=-1) + 1
        self._waiting = deque(t for t in past.trials.values() if t.status == "running")
        self._seed = seed
        self._room = room
        self._tell_past(t for t in past.trials.values() if t.status != "running")

    @property
    def n_trials(self) -> int:
        """Trials in all; a grid may hold fewer than were asked for."""
        return self._n_trials

    def has_work(self) -> bool:
        """Say whether any trial is left to run."""
        return bool(self._waiting) or self._next < self._n_trials

    def suggest(self, trial_id: str) -> Any:
        """Give the next trial: its number, seed and searched values; or that none is left.

        None, for later, while as many trials run as there is room for, and one waits: what is
        proposed before it can run has learned nothing of those that end until then.
        """
        if self._room is not None and len(self._asked) > self._room():
            return None
        if self._waiting:
            record = self._waiting.popleft()
            self._ask_again(trial_id, record)
            self._values[trial_id] = record.values
            return {"trial": record.number, "seed": record.seed, "values": record.values}
        if self._next >= self._n_trials:
            return self.FINISHED
        number, self._next = self._next, self._next + 1
        values = self._values[trial_id] = self._ask(trial_id, number)
        return {"trial": number, "seed": self._seed + number, "values": values}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna one epoch, or that a trial begins anew with smaller batches."""
        if "halved" in result:
            self._begin_anew(trial_id, result["halved"])
        asked = self._asked.get(trial_id)
        if asked is None or "score" not in result or result["epoch"] <= self._told[trial_id]:
            return  # Optuna does not know it, it failed, or it is said once more after a resume
        asked.report(result["score"], step=result["epoch"])
        self._told[trial_id] = result["epoch"]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended."""
        if result is not None:
            self.on_trial_result(trial_id, result)
        self._values.pop(trial_id, None)
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        if error or result is None or "score" not in result:
            self._study.tell(asked, state=TrialState.FAIL)
        elif result["finished"]:
            self._study.tell(asked, result["score"])
        else:
            self._study.tell(asked, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a run is resumed from its event log."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: see `save`."""

    def _tell_past(self, trials: Iterable[TrialRecord]) -> None:
        for record in trials:
            past = self._past_trial(record)
            if past is not None:
                self._study.add_trial(past)

    def _past_trial(self, record: TrialRecord) -> optuna.trial.FrozenTrial | None:
        distributions = self._distributions(record)
        if distributions is None:
            return None
        best = record.best_so_far(self._task)
        states = {
            "complete": TrialState.COMPLETE,
            "stopped": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        active = self.space.active(record.values)
        return create_trial(
            state=states[record.status],
            params={a.name: record.values[key] for key, a in active.items()},
            distributions=distributions,
            value=best[-1] if best and record.status != "failed" else None,
            intermediate_values={m.epoch: b for m, b in zip(record.epochs, best, strict=True)},
        )

    def _ask(self, trial_id: str, number: int) -> dict[str, Any]:
        if number == DEFAULT_TRIAL or self._repeats:
            self._remember(trial_id, None)
            return self.space.default()
        if number <= len(self.space.try_first):
            values = dict(self.space.try_first[number - 1])
            self._remember(trial_id, self._ask_for(values) if self._is_inside(values) else None)
            return values
        if self._grid is not None:
            values = self._grid[number - 1 - len(self.space.try_first)]
            self._remember(trial_id, self._ask_for(values))
            return values
        # Every trial has a sampler of its own seed, so that a resumed search proposes what an
        # uninterrupted one would have.
        self._study.sampler = _make_sampler(self.space, self._seed, number)
        asked = self._study.ask()
        self._remember(trial_id, asked)
        return self.space.draw(lambda alternative: _suggest(asked, alternative))

    def _ask_again(self, trial_id: str, record: TrialRecord) -> None:
        asked = None if self._distributions(record) is None else self._ask_for(record.values)
        self._remember(trial_id, asked)
        best = record.best_so_far(self._task)
        for metrics, score in zip(record.epochs, best, strict=True):
            self.on_trial_result(trial_id, {"epoch": metrics.epoch, "score": score})

    def _begin_anew(self, trial_id: str, batch_size: int) -> None:
        """Put a trial with the batches that fit in the place of the one that was proposed.

        What was proposed is recorded as failed, which no sampler learns from. The other is known
        to Optuna if its batches lie inside the space.
        """
        values = self._values[trial_id]
        if values.get(BATCH_SIZE) == batch_size:
            return  # reported once more by a process that was started again
        proposed = self._asked.get(trial_id)
        if proposed is not None:
            proposed.set_user_attr(BEGUN_ANEW, batch_size)
            self._study.tell(proposed, state=TrialState.FAIL)
        values = self._values[trial_id] = {**values, BATCH_SIZE: batch_size}
        is_known = proposed is not None and self._is_inside(values)
        self._remember(trial_id, self._ask_for(values) if is_known else None)

    def _ask_for(self, values: dict[str, Any]) -> optuna.Trial:
        """Let Optuna propose given values, which lie inside the space."""
        active = self.space.active(values)
        self._study.enqueue_trial({a.name: values[key] for key, a in active.items()})
        asked = self._study.ask()
        for alternative in active.values():
            _suggest(asked, alternative)
        return asked

    def _remember(self, trial_id: str, asked: optuna.Trial | None) -> None:
        self._asked[trial_id], self._told[trial_id] = asked, 0

    def _distributions(self, record: TrialRecord) -> dict[str, BaseDistribution] | None:
        """Give Optuna's distributions of a trial; None when it lies outside the space."""
        if record.number == DEFAULT_TRIAL or self._repeats or not self._is_inside(record.values):
            return None
        active = self.space.active(record.values)
        return {a.name: _to_optuna(a.distribution) for a in active.values()}

    def _is_inside(self, values: Mapping[str, Any]) -> bool:
        """Say whether Optuna can know a configuration; no L2 is no point of a log scale, say."""
        active = self.space.active(values)
        return all(a.distribution.contains(values.get(key)) for key, a in active.items())


def _grid_points(space: SearchSpace) -> list[dict[str, Any]]:
    """Give the points of the grid that neither the default nor what is tried first covers."""
    before = [space.default(), *space.try_first]
    covered = [{key: values[key] for key in space.active(values)} for values in before]
    return [values for values in space.grid() if values not in covered]


def _make_sampler(space: SearchSpace, seed: int, number: int) -> optuna.samplers.BaseSampler:
    mixed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if space.search.name == "tpe":
        return optuna.samplers.TPESampler(
            seed=mixed, n_startup_trials=space.search.startup_trials, multivariate=False
        )
    return optuna.samplers.RandomSampler(seed=mixed)


def _suggest(trial: optuna.Trial, alternative: Alternative) -> Any:
    name, distribution = alternative.name, alternative.distribution
    if isinstance(distribution, Choice):
        return trial.suggest_categorical(name, distribution.values)
    if isinstance(distribution, Int):
        d = distribution
        return trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
    if isinstance(distribution, LogUniform):
        return trial.suggest_float(name, distribution.low, distribution.high, log=True)
    assert isinstance(distribution, Uniform)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step)


def _to_optuna(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.values)
    if isinstance(distribution, Int):
        d = distribution
        return IntDistribution(d.low, d.high, step=d.step, log=d.log)
    if isinstance(distribution, LogUniform):
        return FloatDistribution(distribution.low, distribution.high, log=True)
    assert isinstance(distribution, Uniform)
    return FloatDistribution(distribution.low, distribution.high, step=distribution.step)
