"""Run a search with Ray Tune, writing down everything it says."""

import shutil
from typing import Any

import ray
from ray import tune

from raymat.cluster.asha import make_scheduler
from raymat.cluster.connect import cluster_cpus, cluster_gpus
from raymat.cluster.optuna_search import DEFAULT_TRIAL, OptunaSearch
from raymat.cluster.trainable import TrialRunner, trial_folder
from raymat.errors import ClusterError
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import FitData
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources
from raymat.tuning.study import Study

MAX_RESTARTS = 3  # of a trial whose process or host dies; a failed configuration is not retried
DEFAULT_GPU_SHARE = 0.25


def search(
    request: TuneRequest,
    space: SearchSpace,
    data: FitData,
    *,
    resources: Resources,
    run: RunDirectory,
) -> Study:
    """Run the trials of a space that the run's log does not hold yet, and give all of them.

    Raises:
        ClusterError: the cluster can never place a trial.
    """
    study = Study.from_events(run.events(), data.task)
    searcher = OptunaSearch(space, n_trials=space.budget.trials, past=study, seed=request.seed)
    if not searcher.has_work():
        return study
    run.emit("search_started", trials=searcher.n_trials, **resources.model_dump())
    trainable = tune.with_parameters(
        TrialRunner,
        data=data,
        space=space,
        folder=str(run.path),
        n_cpus=max(1, int(resources.cpu)),
    )
    scratch = run.path / "ray"
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            metric="score",
            mode=searcher.mode,
            search_alg=searcher,
            scheduler=make_scheduler(space, study),
            num_samples=-1,
            max_concurrent_trials=request.concurrency,
            time_budget_s=request.time_budget_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            callbacks=[_Recorder(run, study, space)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
            verbose=0,
        ),
    )
    tuner.fit()
    _end_cut_off_trials(run, study)
    shutil.rmtree(scratch, ignore_errors=True)  # Ray's own records; the event log has it all
    return study


def trial_resources(request: TuneRequest, space: SearchSpace) -> Resources:
    """Decide what a trial occupies: --gpus, else the space, else what the cluster has.

    A space that asks for GPUs runs on CPUs where there are none; --gpus does not.

    Raises:
        ClusterError: no node can ever hold one trial.
    """
    asked = space.resources or Resources(gpu=DEFAULT_GPU_SHARE)
    gpus = cluster_gpus()
    if request.gpus is not None:
        if request.gpus > 0 and gpus == 0:
            raise ClusterError(
                f"--gpus {request.gpus:g}: Ray sees no GPU here; leave it out to train on CPUs"
            )
        asked = asked.model_copy(update={"gpu": request.gpus})
    elif gpus == 0:
        asked = asked.model_copy(update={"gpu": 0.0})
    if not any(_fits(asked, node) for node in ray.nodes() if node["Alive"]):
        raise ClusterError(
            f"no node has {asked.cpu:g} CPU and {asked.gpu:g} GPU for one trial (in all there are"
            f" {cluster_cpus()} CPU and {gpus:g} GPU); lower `resources` in the space or --gpus"
        )
    return asked


def _fits(asked: Resources, node: dict[str, Any]) -> bool:
    has = node["Resources"]
    return bool(has.get("CPU", 0) >= asked.cpu and has.get("GPU", 0) >= asked.gpu)


class _Recorder(tune.Callback):
    """Writes what Ray Tune says of the trials into the event log."""

    def __init__(self, run: RunDirectory, study: Study, space: SearchSpace) -> None:
        self.run, self.study, self.space = run, study, space

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray keeps a copy of its settings; a run is resumed from the log instead

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        asked = trial.config
        if asked["trial"] in self.study.trials:
            self.run.emit("trial_resumed", trial=asked["trial"])
            return
        config = self.space.configure(asked["values"]).flat()
        started = {"trial": asked["trial"], "seed": asked["seed"], "values": asked["values"]}
        self._write("trial_started", **started, config=config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["trial"]
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

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = str(trial.get_error() or "its process died").strip()
        folder = trial_folder(self.run.path, trial.config["trial"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(error + "\n", encoding="utf-8")
        message = error.splitlines()[-1]
        self._end(trial, "failed", f"{message} (after {MAX_RESTARTS} restarts; see {folder})")

    def _end(self, trial: Any, status: str, error: str | None) -> None:
        number = trial.config["trial"]
        self._write("trial_ended", durable=True, trial=number, status=status, error=error)
        # The winner is trained again from its seed, so a trial that ended needs no checkpoint;
        # but the default is scored as it stands.
        if number != DEFAULT_TRIAL and status != "failed":
            shutil.rmtree(trial_folder(self.run.path, number), ignore_errors=True)

    def _write(self, event: str, **values: Any) -> None:
        record = {key: value for key, value in values.items() if key != "durable"}
        self.study.take({"event": event, **record})
        self.run.emit(event, **values)


def _end_cut_off_trials(run: RunDirectory, study: Study) -> None:
    """Ray Tune does not say what became of trials that the time budget cut off."""
    for number, record in study.trials.items():
        if record.status == "running":
            values = {"trial": number, "status": "stopped", "error": None}
            study.take({"event": "trial_ended", **values})
            run.emit("trial_ended", durable=True, **values)
