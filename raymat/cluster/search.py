"""Run a search with Ray Tune, writing down everything it says."""

import math
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from ray import tune
from ray.tune import TuneError

from raymat.cluster.asha import make_scheduler
from raymat.cluster.optuna_search import DEFAULT_TRIAL, OptunaSearch
from raymat.cluster.resources import Room
from raymat.cluster.sick_nodes import leave_out_sick_nodes
from raymat.cluster.trainable import TrialRunner, trial_folder
from raymat.errors import RunError
from raymat.tracking.events import Event
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import FitData
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources
from raymat.tuning.study import Study
from raymat.tuning.trial_config import BATCH_SIZE

SEARCH_ENDED = "search_ended"
_TRIAL_EVENTS = ("trial_started", "trial_resumed", "epoch", "trial_ended")
_MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
ALL_AT_ONCE = 10_000  # more than there is ever room for, which `OptunaSearch` keeps to
LOOK_AT_HOSTS_S = 10.0  # at most every so often, after a process has died
MAX_RESTARTS = 3  # of a trial whose process or host dies; a failed configuration is not retried


def search(
    request: TuneRequest,
    space: SearchSpace,
    data: FitData,
    *,
    resources: Resources,
    run: RunDirectory,
    keep_checkpoints: bool = False,
    all_at_once: bool = False,
) -> Study:
    """Run the trials of a space that the run's log does not hold yet, and give all of them.

    With `all_at_once` as many start together as the cluster has room for; without it, or with a
    concurrency, Ray Tune's own limits hold. The default leaves its checkpoint; with
    `keep_checkpoints` the best trial does, too.

    Raises:
        RunError: the log or a checkpoint cannot be written.
        ClusterError: the nodes that can hold a trial went, and did not come back.
    """
    past = run.events()
    study = Study.from_events(past, data.task)
    if any(event["event"] == SEARCH_ENDED for event in past):
        return study
    room = Room(resources)
    all_at_once = all_at_once and request.concurrency is None
    searcher = OptunaSearch(
        space,
        n_trials=space.budget.trials,
        past=study,
        seed=request.seed,
        room=room if all_at_once else None,
    )
    left_s = seconds_left(past, request.time_budget_s)
    budget = _TimeBudget(left_s, study)
    if searcher.has_work() and not budget.stop_all():
        run.emit(
            "search_started",
            trials=searcher.n_trials,
            time_budget_s=None if math.isinf(left_s) else left_s,
            **resources.model_dump(),
        )
        # Ray Tune starts the processes of a search one after another: some seconds for each node.
        os.environ[_MAX_PENDING] = str(ALL_AT_ONCE) if all_at_once else "auto"
        _fit(
            _make_trainable(space, data, resources=resources, run=run),
            _tune_config(searcher, make_scheduler(space, past, data.task), request.concurrency),
            _Recorder(run, study, space, keep_checkpoints=keep_checkpoints),
            tune.stopper.CombinedStopper(budget, _PlaceWatch(room)),
        )
    _end_cut_off_trials(run, study)
    run.emit(SEARCH_ENDED)
    return study


def _tune_config(
    searcher: OptunaSearch, scheduler: Any, concurrency: int | None
) -> tune.TuneConfig:
    return tune.TuneConfig(
        metric="score",
        mode=searcher.mode,
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=-1,
        max_concurrent_trials=concurrency,
        reuse_actors=True,
    )


def _make_trainable(
    space: SearchSpace, data: FitData, *, resources: Resources, run: RunDirectory
) -> Any:
    """Give what Ray Tune runs as a trial; Ray sends the data to every node once."""
    trainable = tune.with_parameters(
        _runner_of_its_own(),
        data=data,
        space=space,
        folder=str(run.path),
        n_cpus=max(1, int(resources.cpu)),
    )
    return tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu})


def _runner_of_its_own() -> type[TrialRunner]:
    """Give a `TrialRunner` under a name that no other search has.

    Ray Tune finds trainables by their name in the whole Ray job, so two searches in one job, such
    as two cells of a comparison, would train each other's trials.
    """
    return type(f"TrialRunner_{uuid.uuid4().hex}", (TrialRunner,), {})


def _fit(
    trainable: Any, tune_config: tune.TuneConfig, recorder: "_Recorder", stop: tune.Stopper
) -> None:
    scratch = recorder.run.path / "ray"  # Ray's own records; the event log has it all
    shutil.rmtree(scratch, ignore_errors=True)
    run_config = tune.RunConfig(
        name="tune",
        storage_path=str(scratch),
        callbacks=[recorder],
        stop=stop,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
        verbose=0,
    )
    try:
        tune.Tuner(trainable, tune_config=tune_config, run_config=run_config).fit()
    except (TuneError, OSError) as error:
        if recorder.problem is not None:
            raise recorder.problem from error
        raise RunError(f"{scratch}: Ray Tune failed: {_last_line(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def seconds_left(past: Sequence[Event], budget_s: float | None) -> float:
    """Give what an interrupted search has left of its time budget; infinite without one."""
    if budget_s is None:
        return math.inf
    begun, last, used = 0.0, 0.0, 0.0
    for event in past:
        time_s = datetime.fromisoformat(event["time"]).timestamp()
        if event["event"] == "search_started":
            used, begun, last = used + last - begun, time_s, time_s
        elif event["event"] in _TRIAL_EVENTS:
            last = time_s
    return budget_s - (used + last - begun)


class _TimeBudget(tune.Stopper):
    """Ends a search after some seconds, but not before there is an epoch to choose from."""

    def __init__(self, seconds: float, study: Study) -> None:
        self.end, self.study = time.monotonic() + seconds, study

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Leave each single trial to the scheduler."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Say whether the time is up."""
        usable = any(t.epochs for t in self.study.trials.values() if t.status != "failed")
        return usable and time.monotonic() > self.end


class _PlaceWatch(tune.Stopper):
    """Ends a search with an error when no node can hold its trials any more; they would wait."""

    def __init__(self, room: Room) -> None:
        self.room = room

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Stop nothing, but fail.

        Raises:
            ClusterError: there has been no place for too long.
        """
        self.room.check()
        return False


class _Recorder(tune.Callback):
    """Writes what Ray Tune says of the trials into the event log."""

    def __init__(
        self, run: RunDirectory, study: Study, space: SearchSpace, *, keep_checkpoints: bool
    ) -> None:
        self.run, self.study, self.space = run, study, space
        self.keep_checkpoints = keep_checkpoints
        self._look_again = 0.0
        self.problem: RunError | None = None  # what made the recorder give up

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray keeps a copy of its settings; a run is resumed from the log instead

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        asked = trial.config
        if asked["trial"] in self.study.trials:
            self._write("trial_resumed", trial=asked["trial"])
            return
        config = self.space.configure(asked["values"]).flat()
        started = {"trial": asked["trial"], "seed": asked["seed"], "values": asked["values"]}
        self._write("trial_started", **started, config=config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["trial"]
        if "problem" in result:
            self._give_up(RunError(result["problem"]))
        size = result.get("halved")
        if size is not None and size != self.study.trials[number].config.get(BATCH_SIZE):
            self._write("batch_halved", durable=True, trial=number, batch_size=size)
        if "score" not in result:
            return
        known = self.study.trials[number].epochs
        if known and result["epoch"] <= known[-1].epoch:
            return  # said once more after a resume
        self._write("epoch", trial=number, **result["metrics"], facts=result["facts"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        if last.get("error"):
            self._end(trial, "failed", last["error"])
        else:
            self._end(trial, "complete" if last.get("finished") else "stopped", None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Look at the hosts before the trial starts again: one that starts none would take all."""
        if time.monotonic() >= self._look_again:
            leave_out_sick_nodes(self.run)
            self._look_again = time.monotonic() + LOOK_AT_HOSTS_S

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = str(trial.get_error() or "its process died").strip()
        name = f"errors/{trial.config['trial']:04d}.txt"
        try:
            (self.run.path / "errors").mkdir(exist_ok=True)
            self.run.write_text(name, error + "\n")
        except (RunError, OSError) as problem:
            self._give_up(RunError(f"{self.run.path / name}: cannot be written ({problem})"))
        brief = error.splitlines()[-1].split(". ")[0]
        self._end(trial, "failed", f"{brief} (after {MAX_RESTARTS} restarts; see {name})")

    def _end(self, trial: Any, status: str, error: str | None) -> None:
        number = trial.config["trial"]
        self._write("trial_ended", durable=True, trial=number, status=status, error=error)
        # The winner is trained again from its seed, so a trial that ended needs no checkpoint;
        # but the default is scored as it stands.
        kept = {DEFAULT_TRIAL, self._best()} if self.keep_checkpoints else {DEFAULT_TRIAL}
        for ended, record in self.study.trials.items():
            if record.status != "running" and ended not in kept:
                shutil.rmtree(trial_folder(self.run.path, ended), ignore_errors=True)

    def _best(self) -> int:
        """Give the number of the trial that would win now; the default's if there is none."""
        usable = any(t.epochs for t in self.study.trials.values() if t.status != "failed")
        return self.study.best_trial().number if usable else DEFAULT_TRIAL

    def _write(self, event: str, **values: Any) -> None:
        record = {key: value for key, value in values.items() if key != "durable"}
        self.study.take({"event": event, **record})
        try:
            self.run.emit(event, **values)
        except RunError as problem:
            self._give_up(problem)

    def _give_up(self, problem: RunError) -> NoReturn:
        self.problem = problem  # Ray Tune gives its own error for it
        raise problem


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _end_cut_off_trials(run: RunDirectory, study: Study) -> None:
    """Ray Tune does not say what became of trials that the time budget cut off."""
    for number, record in study.trials.items():
        if record.status == "running":
            values = {"trial": number, "status": "stopped", "error": None}
            study.take({"event": "trial_ended", **values})
            run.emit("trial_ended", durable=True, **values)
