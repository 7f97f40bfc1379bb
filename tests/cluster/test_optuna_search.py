"""What Optuna is told: the truth, also after an interruption."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from spaces import SEARCHED, TINY_MODEL, ended, epoch, small_space, started

from raymat.cluster.optuna_search import BEGUN_ANEW, OptunaSearch
from raymat.tracking.events import Event
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.study import Study

SCORES = {
    "complete": [3.0, 1.0, 2.0],
    "stopped": [2.5, 2.0],
    "failed": [4.0],
    "running": [1.5, 1.25],
}


class Driver:
    """Plays Ray Tune: asks, reports epoch by epoch, ends; and writes the log a run would have."""

    def __init__(self, space: SearchSpace, past: list[Event] | None = None, seed: int = 0) -> None:
        self.events = list(past or [])
        study = Study.from_events(self.events, "regression")
        self.search = OptunaSearch(space, n_trials=space.budget.trials, past=study, seed=seed)

    def ask(self) -> dict[str, Any]:
        name = f"tune-{len(self.events)}"
        asked = self.search.suggest(name)
        if asked == OptunaSearch.FINISHED:
            return {}
        known = Study.from_events(self.events, "regression").trials
        if asked["trial"] not in known:
            self.events.append(started(asked))
        return {**asked, "name": name}

    def play(self, fate: str) -> dict[str, Any]:
        """Run one trial to a fate."""
        asked = self.ask()
        best, score = float("inf"), None
        for number, score in enumerate(SCORES[fate], start=1):
            best = min(best, score)
            result = {"epoch": number, "score": best, "finished": False}
            is_last = number == len(SCORES[fate])
            self.events.append(epoch(asked["trial"], number, score))
            if is_last and fate in ("complete", "stopped"):
                self._end(asked, {**result, "finished": fate == "complete"}, fate)
            else:
                self.search.on_trial_result(asked["name"], result)
        if fate == "failed":
            self._end(asked, {"epoch": 2, "error": "diverged", "finished": True}, fate)
        return asked

    def _end(self, asked: dict[str, Any], result: dict[str, Any], fate: str) -> None:
        self.search.on_trial_complete(asked["name"], result)
        self.events.append(ended(asked["trial"], fate))

    @property
    def optuna(self) -> list[optuna.trial.FrozenTrial]:
        return self.search._study.get_trials(deepcopy=True)


def facts(trials: list[optuna.trial.FrozenTrial]) -> list[Any]:
    return [(t.state, t.params, t.distributions, t.values, t.intermediate_values) for t in trials]


def test_default_configuration_is_trial_0() -> None:
    space = small_space()
    asked = Driver(space).ask()
    assert asked["trial"] == 0
    assert asked["values"] == space.default()
    assert asked["seed"] == 0


def test_optuna_is_told_how_each_trial_ended() -> None:
    driver = Driver(small_space())
    asked = [driver.play(fate) for fate in ("complete", "complete", "stopped", "failed")]
    complete, stopped, failed = driver.optuna  # the default is no point of the space
    assert complete.state == TrialState.COMPLETE
    assert complete.value == 1.0  # the best epoch, not the last
    assert complete.intermediate_values == {1: 3.0, 2: 1.0, 3: 1.0}
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {1: 2.5, 2: 2.0}
    assert failed.state == TrialState.FAIL
    assert failed.value is None
    assert failed.intermediate_values == {1: 4.0}
    for told, given in zip(driver.optuna, asked[1:], strict=True):
        assert {name.partition("[")[0]: v for name, v in told.params.items()} == given["values"]


def test_a_dead_worker_is_told_as_failed() -> None:
    driver = Driver(small_space())
    driver.play("complete")
    asked = driver.ask()
    driver.search.on_trial_complete(asked["name"], None, error=True)
    assert [t.state for t in driver.optuna] == [TrialState.FAIL]


def test_search_ends_after_its_trials() -> None:
    driver = Driver(small_space(budget={"trials": 3, "epochs": 3}))
    assert [driver.play("complete")["trial"] for _ in range(3)] == [0, 1, 2]
    assert not driver.search.has_work()
    assert driver.search.suggest("one more") == OptunaSearch.FINISHED


def test_resumed_search_knows_what_the_first_knew() -> None:
    space = small_space(budget={"trials": 9, "epochs": 3})
    first = Driver(space)
    for fate in ("complete", "complete", "stopped", "failed", "running"):
        first.play(fate)
    resumed = Driver(space, first.events)
    again = resumed.ask()
    assert again["trial"] == 4  # the unfinished one comes first
    assert again["values"] == Study.from_events(first.events, "regression").trials[4].values
    assert facts(resumed.optuna) == facts(first.optuna)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_interruption_does_not_change_what_is_proposed(name: str) -> None:
    space = small_space(budget={"trials": 8, "epochs": 3}, search={"name": name})
    whole = Driver(space, seed=7)
    fates = ["complete", "complete", "stopped", "complete", "failed", "complete", "complete"]
    expected = [whole.play(fate)["values"] for fate in fates]
    parts, found = Driver(space, seed=7), []
    for fate in fates:
        found.append(parts.play(fate)["values"])
        parts = Driver(space, parts.events, seed=7)
    assert found == expected


def test_seed_decides_the_proposals() -> None:
    space = small_space(search={"name": "random"})
    drawn = {}
    for run, seed in {"first": 0, "again": 0, "other": 1}.items():
        driver = Driver(space, seed=seed)
        drawn[run] = [driver.play("complete")["values"] for _ in range(5)]
    assert drawn["first"] == drawn["again"]
    assert drawn["first"][1:] != drawn["other"][1:]
    assert len({str(values) for values in drawn["first"]}) == 5


def test_conditional_key_is_proposed_only_where_it_holds() -> None:
    driver = Driver(small_space(budget={"trials": 30, "epochs": 3}, search={"name": "random"}))
    values = [driver.play("complete")["values"] for _ in range(30)][1:]
    assert {v["training.optimizer"] for v in values} == {"adam", "sgd"}
    for v in values:
        assert ("training.momentum" in v) == (v["training.optimizer"] == "sgd")


GRID = {"model.n_hidden": {"int": [1, 3]}, "training.loss": {"choice": ["mse", "l1"]}}


def grid_space(trials: int = 99) -> SearchSpace:
    return small_space(space=GRID, search={"name": "grid"}, budget={"trials": trials, "epochs": 3})


def tried(driver: Driver) -> list[tuple[Any, ...]]:
    trials = Study.from_events(driver.events, "regression").trials
    return [tuple(trials[n].values[key] for key in GRID) for n in sorted(trials)]


def test_grid_is_tried_once_each_with_the_default_as_one_point() -> None:
    driver = Driver(grid_space())
    assert driver.search.n_trials == 6
    while driver.search.has_work():
        driver.play("complete")
    assert sorted(tried(driver)) == [(n, loss) for n in (1, 2, 3) for loss in ("l1", "mse")]
    assert [t.state for t in driver.optuna] == [TrialState.COMPLETE] * 5


def test_interrupted_grid_is_tried_once_each() -> None:
    driver = Driver(grid_space())
    for fate in ("complete", "complete", "running"):
        driver.play(fate)
    resumed = Driver(grid_space(), driver.events)
    assert resumed.play("complete")["trial"] == 2
    while resumed.search.has_work():
        resumed.play("complete")
    assert sorted(tried(resumed)) == [(n, loss) for n in (1, 2, 3) for loss in ("l1", "mse")]
    told = [tuple(t.params[key] for key in GRID) for t in resumed.optuna]
    assert sorted(told) == sorted(tried(resumed)[1:])


def test_grid_stops_at_the_trials_asked_for() -> None:
    assert Driver(grid_space(trials=4)).search.n_trials == 4


TRIED = (
    {"training.lr": 0.02, "model.dropout": 0.1},
    {"training.lr": 0.03},  # its dropout, the default, is none: no point of the space
    {"model.n_hidden": 2, "model.dropout": 0.0},
)


def test_what_is_to_be_tried_first_follows_the_default() -> None:
    space = small_space(try_first=list(TRIED), budget={"trials": 6, "epochs": 3})
    driver = Driver(space)
    asked = [driver.play("complete") for _ in range(2)]
    driver.play("running")
    resumed = Driver(space, driver.events)
    asked += [resumed.play("complete") for _ in range(3)]
    expected = [space.default(), *({**space.default(), **values} for values in TRIED)]
    assert [a["values"] for a in asked[:4]] == expected
    assert asked[4]["values"] not in expected
    rates = [t.params["training.lr"] for t in resumed.optuna]
    assert rates[:2] == [0.02, 0.01]  # not 0.03, which Optuna cannot know


def test_grid_is_not_repeated_by_what_is_tried_first() -> None:
    space = small_space(
        space=GRID,
        search={"name": "grid"},
        budget={"trials": 99, "epochs": 3},
        try_first=[{"model.n_hidden": 3}, {"model.n_hidden": 2, "training.loss": "l1"}],
    )
    driver = Driver(space)
    assert driver.search.n_trials == 6
    while driver.search.has_work():
        driver.play("complete")
    assert tried(driver)[:3] == [(1, "mse"), (3, "mse"), (2, "l1")]
    assert len(set(tried(driver))) == len(tried(driver)) == 6


def test_trial_outside_the_space_is_run_again_without_optuna() -> None:
    """A space edited by hand between two starts is not possible, but a default outside it is."""
    space = small_space(space={"training.weight_decay": {"log_uniform": [1.0e-6, 1.0e-1]}})
    driver = Driver(space)
    driver.play("running")
    resumed = Driver(space, driver.events)
    assert resumed.play("complete")["trial"] == 0
    assert resumed.optuna == []


def test_small_spaces_stay_valid() -> None:
    assert set(SEARCHED) <= set(small_space().defaults)
    assert set(TINY_MODEL) == set(small_space().fixed)


def test_no_more_trials_are_proposed_than_there_is_room_for() -> None:
    """As many as run, and one that waits; a node that joins makes room."""
    places = [2]
    space = small_space(budget={"trials": 8, "epochs": 4})
    study = Study.from_events([], "regression")
    search = OptunaSearch(space, n_trials=8, past=study, seed=0, room=lambda: places[0])
    asked = [search.suggest(f"trial-{n}") for n in range(3)]
    assert [trial["trial"] for trial in asked] == [0, 1, 2]
    assert search.suggest("later") is None
    search.on_trial_complete("trial-0", {"epoch": 1, "score": 1.0, "finished": True})
    assert search.suggest("next")["trial"] == 3
    assert search.suggest("later") is None
    places[0] = 3
    assert search.suggest("joined")["trial"] == 4


def test_trial_with_half_batches_takes_the_place_of_what_was_proposed() -> None:
    """Optuna learns from the batches that were trained, and from every epoch of them."""
    batches = {"training.batch_size": {"choice": [8, 16, 32]}}
    fixed = {key: value for key, value in TINY_MODEL.items() if key != "training.batch_size"}
    space = small_space(space=batches, fixed=fixed, search={"name": "random"})
    driver = Driver(space)
    driver.play("complete")
    asked = driver.ask()
    while asked["values"]["training.batch_size"] == 8:  # cannot be halved within the space
        asked = driver.ask()
    name, trial = asked["name"], asked["trial"]
    size = asked["values"]["training.batch_size"] // 2
    before = len(driver.optuna)
    driver.search.on_trial_result(name, {"epoch": 1, "score": 5.0})
    driver.search.on_trial_result(name, {"epoch": 2, "score": 4.0})
    for _ in range(2):  # the second is that of a process that was started again
        driver.search.on_trial_result(name, {"epoch": 0, "halved": size})
    driver.search.on_trial_result(name, {"epoch": 1, "score": 3.0})
    end = {"epoch": 2, "score": 2.0, "finished": True}
    driver.search.on_trial_complete(name, end)
    *_, proposed, trained = driver.optuna
    assert len(driver.optuna) == before + 1
    assert proposed.state == TrialState.FAIL
    assert proposed.user_attrs == {BEGUN_ANEW: size}
    assert trained.state == TrialState.COMPLETE
    assert list(trained.params.values()) == [size]
    assert trained.intermediate_values == {1: 3.0, 2: 2.0}
    assert trained.value == 2.0

    events = [*driver.events, epoch(trial, 1, 5.0)]  # and so does a resumed search
    events += [{"event": "batch_halved", "trial": trial, "batch_size": size}]
    events += [epoch(trial, 1, 3.0), epoch(trial, 2, 2.0), ended(trial, "complete")]
    resumed = Driver(space, events)
    (known,) = [t for t in resumed.optuna if t.state == TrialState.COMPLETE]
    assert (known.params, known.value) == (trained.params, 2.0)
    assert known.intermediate_values == trained.intermediate_values


def test_half_batches_outside_the_space_are_unknown_to_optuna() -> None:
    space = small_space(
        space={"training.batch_size": {"int": [3, 4]}}, fixed=None, search={"name": "random"}
    )
    driver = Driver(space)
    driver.play("complete")
    asked = driver.ask()
    driver.search.on_trial_result(asked["name"], {"epoch": 0, "halved": 2})
    driver.search.on_trial_complete(asked["name"], {"epoch": 1, "score": 1.0, "finished": True})
    assert [trial.state for trial in driver.optuna] == [TrialState.FAIL]
