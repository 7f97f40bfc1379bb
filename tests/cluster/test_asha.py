"""ASHA decides the same with and without an interruption."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from spaces import ended, epoch, small_space, started

from raymat.cluster.asha import ResumableASHA, make_scheduler
from raymat.properties import Task
from raymat.tracking.events import Event
from raymat.tuning.study import Study

MAX_EPOCH = 9
ASHA = {"name": "asha", "grace_period": 1, "reduction_factor": 3}
SPACE = small_space(budget={"trials": 99, "epochs": MAX_EPOCH}, scheduler=ASHA)
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class Driver:
    """Plays Ray Tune: trials report in turns, each start after each other's epoch."""

    def __init__(self, past: list[Event] | None = None, task: Task = "regression") -> None:
        self.events, self.task = list(past or []), task
        self.asha = ResumableASHA(SPACE, self.events, task)
        self.asha.set_search_properties("score", "max" if task == "classification" else "min")
        self.trials: dict[int, Any] = {}

    def start(self, number: int) -> None:
        name = f"{id(self)}-{number}"  # Ray Tune's own names change with every start
        self.trials[number] = SimpleNamespace(trial_id=name, config={"trial": number})
        self.asha.on_trial_add(None, self.trials[number])
        if number not in self.study.trials:
            self.events.append(started({"trial": number, "seed": number, "values": {}}))

    def report(self, number: int, at: int, score: float) -> str:
        known = self.study.trials[number].epochs
        if not known or at > known[-1].epoch:
            self.events.append(epoch(number, at, score))
        best = self.study.trials[number].best_so_far(self.task)[-1]
        result = {"epoch": at, "score": best, "finished": at == MAX_EPOCH}
        decision: str = self.asha.on_trial_result(None, self.trials[number], result)
        return decision

    def end(self, number: int, status: str) -> None:
        record = self.study.trials[number]
        result: dict[str, Any] = {"epoch": len(record.epochs)}
        if status != "failed":
            result["score"] = record.best_so_far(self.task)[-1]
        self.asha.on_trial_complete(None, self.trials[number], result)
        self.events.append(ended(number, status))

    @property
    def study(self) -> Study:
        return Study.from_events(self.events, self.task)


def simulate(seed: int, *, resume_after: int | None, at_once: int = 3) -> list[Any]:
    """Run 25 trials, some of which fail; restart once after some reports. Gives all decisions."""
    rng = np.random.default_rng(seed)
    scores = rng.random((25, MAX_EPOCH))
    fails = rng.random(25) < 0.15
    driver, decisions, reports = Driver(), [], 0
    waiting, running = list(range(25)), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop(0)
            driver.start(number)
            running[number] = 0
        number = min(running, key=lambda n: (running[n], n))  # the one furthest behind
        running[number] = at = running[number] + 1
        decision = driver.report(number, at, scores[number, at - 1])
        decisions.append((number, at, decision))
        if fails[number] and at == 2:
            decision, status = STOP, "failed"
        else:
            status = "complete" if at == MAX_EPOCH else "stopped"
        if decision == STOP:
            driver.end(number, status)
            del running[number]
        reports += 1
        if reports == resume_after:
            driver = Driver(driver.events)
            for left in running:
                driver.start(left)
                if running[left]:
                    again = driver.report(left, running[left], scores[left, running[left] - 1])
                    assert again == CONTINUE
    return decisions


@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_the_same_after_an_interruption(seed: int) -> None:
    whole = simulate(seed, resume_after=None)
    stops = [d for d in whole if d[2] == STOP]
    assert 10 < len(stops) < 25 + 1
    for k in range(1, len(whole), 7):
        assert simulate(seed, resume_after=k) == whole


def begin(scores: dict[int, float]) -> Driver:
    driver = Driver()
    for number, score in scores.items():
        driver.start(number)
        driver.report(number, 1, score)
    return driver


def test_decided_but_not_ended_trial_is_stopped_after_the_resume() -> None:
    driver = begin({1: 1.0, 2: 2.0, 3: 3.0})  # 2 and 3 are worse: stopped, but the log ends here
    resumed = Driver(driver.events)
    for number in (1, 2, 3):
        resumed.start(number)
    assert resumed.report(1, 1, 1.0) == CONTINUE
    assert resumed.report(2, 1, 2.0) == STOP  # the same epoch once more
    assert resumed.report(3, 2, 3.0) == STOP  # its checkpoint was one epoch further


def test_trial_that_went_on_is_not_stopped_for_what_came_later() -> None:
    driver = begin({1: 3.0, 2: 2.0, 3: 1.0})  # each was the best when it reported
    resumed = Driver(driver.events)
    for number in (1, 2, 3):
        resumed.start(number)
        assert resumed.report(number, 1, 0.0) == CONTINUE
    assert resumed.report(1, 3, 3.0) == CONTINUE
    assert resumed.report(2, 3, 4.0) == CONTINUE  # its best is 2.0
    resumed.start(4)
    assert resumed.report(4, 1, 2.5) == STOP


def test_default_runs_to_its_end() -> None:
    driver = begin({1: 0.1, 2: 0.2})
    driver.start(0)
    assert [driver.report(0, k, 99.0) for k in range(1, MAX_EPOCH)] == [CONTINUE] * (MAX_EPOCH - 1)
    assert driver.report(0, MAX_EPOCH, 99.0) == STOP
    resumed = Driver(driver.events)
    resumed.start(0)
    assert resumed.report(0, 3, 99.0) == CONTINUE


def test_higher_is_better_for_classes() -> None:
    driver = Driver(task="classification")
    for number, score in {1: 0.9, 2: 0.8, 3: 0.95}.items():
        driver.start(number)
        assert driver.report(number, 1, score) == (STOP if number == 2 else CONTINUE)


def test_failed_trial_has_no_score_and_disturbs_nothing() -> None:
    driver = begin({1: 1.0, 2: 0.5})
    driver.end(2, "failed")  # after an epoch that counts
    driver.start(3)
    driver.end(3, "failed")  # before its first epoch
    for case in (driver, Driver(driver.events)):
        case.start(4)
        assert case.report(4, 1, 0.75) == STOP  # the cutoff of 0.5 and 1.0 is 0.667


def test_no_scheduler_when_none_is_asked_for() -> None:
    space = small_space(scheduler={"name": "none"})
    assert type(make_scheduler(space, [], "regression")) is FIFOScheduler
    assert type(make_scheduler(SPACE, [], "regression")) is ResumableASHA


def test_trial_that_begins_anew_is_not_held_to_its_larger_batches() -> None:
    """Its epochs are compared anew at every rung, and a resumed run forgets the same."""
    driver = Driver()
    for number in range(4):
        driver.start(number)
    assert driver.report(1, 1, 0.9) == CONTINUE
    assert driver.report(2, 1, 0.1) == CONTINUE
    asked = driver.trials[1]
    for _ in range(2):  # the second is that of a process that was started again
        halved = {"epoch": 0, "halved": 16, "finished": False}
        assert driver.asha.on_trial_result(None, asked, halved) == CONTINUE
    driver.events.append({"event": "batch_halved", "trial": 1, "batch_size": 16})
    resumed = Driver(driver.events)
    resumed.start(1)
    rungs = [
        dict(recorded)
        for side in (driver.asha, resumed.asha)
        for bracket in side._brackets
        for milestone, recorded in bracket._rungs
        if milestone == 1
    ]
    assert rungs == [{"0002": -0.1}, {"0002": -0.1}]
    assert driver.report(1, 1, 0.5) == STOP  # worse than 0.1, though better than its own 0.9
    assert resumed.report(1, 1, 0.05) == CONTINUE
