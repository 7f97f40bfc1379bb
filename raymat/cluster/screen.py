"""`raymat screen`: candidates in shards through ensembles and a criterion, as Ray tasks."""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from pydantic import Field

from raymat.cluster.connect import ray_session
from raymat.cluster.resources import check_folder_is_shared, decide_resources, places
from raymat.cluster.tasks import result_of, start_task
from raymat.config import Config, build_config
from raymat.data.shards import Shard, describe_source, iter_shards
from raymat.ensembles.stored import Ensemble, load_ensemble
from raymat.errors import ConfigError, RunError
from raymat.screening.criterion import Criterion, parse_criterion
from raymat.screening.criterion_inputs import check_columns, check_ensembles
from raymat.screening.finish import finish_screening
from raymat.screening.shard import screen_shard
from raymat.screening.shard_files import write_shard
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.device import use_threads
from raymat.tuning.settings import Resources

SHARD_ENDED = "shard_ended"
MIN_SHARE_TRAINED = 0.5  # of the planned members; an ensemble of what is left is none


class ScreenRequest(Config):
    """A screening, completely described.

    Attributes:
        criterion: in its YAML form.
        criterion_path: where it was read from, for messages.
        ensembles: prediction of the criterion -> run directory of the ensemble.
        candidates: a file, a folder or the name of a built-in set.
        shard_size: candidates in one task.
        gpus: GPUs per task; None uses what is there.
        address: a Ray cluster; None for a local Ray.
        concurrency: shards at a time; None for as many as fit.
    """

    criterion: dict[str, Any]
    criterion_path: str
    ensembles: dict[str, str]
    candidates: str
    shard_size: int = Field(1000, ge=1)
    gpus: float | None = Field(None, ge=0.0)
    address: str | None = None
    concurrency: int | None = Field(None, ge=1)

    def checked_criterion(self) -> Criterion:
        """Give the criterion.

        Raises:
            ConfigError: something in it cannot be used.
        """
        return parse_criterion(self.criterion, path=self.criterion_path)


def screen(
    request: ScreenRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Screen candidates into a new run directory and give the content of its `metrics.json`.

    Raises:
        ConfigError: criterion and ensembles do not fit.
        DataError: the candidates cannot be used, or all are excluded.
        ModelFileError: an ensemble is none or not complete.
        RunError: the folder cannot be used.
        ClusterError: Ray cannot be reached or can never place a task.
        KeyboardInterrupt: on Ctrl-C; `resume_screen` continues the run.
    """
    header = {"command": "screen", "arguments": request.model_dump(mode="json")}
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_screen(path: Path, *, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Continue an interrupted screening; no finished shard is screened again.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "screen":
            raise RunError(f"{path}: a {header.get('command')} run, not a screen run")
        request = build_config(ScreenRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run)


def load_ensembles(folders: dict[str, str]) -> dict[str, Ensemble]:
    """Read the ensembles of a screening; only members that count in all of them are kept.

    Raises:
        ModelFileError: a folder is no ensemble, or its run is not complete.
        ConfigError: an ensemble lost too many members, or no two numbers count in all of them.
    """
    found = {name: load_ensemble(Path(folder)) for name, folder in folders.items()}
    for name, ensemble in found.items():
        n = len(ensemble.members)
        if n < MIN_SHARE_TRAINED * ensemble.n_planned:
            raise ConfigError(
                f"{ensemble.folder} ('{name}'): only {n} of {ensemble.n_planned} members could be"
                " trained; a probability needs most of them: train the ensemble again"
            )
    common = set.intersection(*map(_counted, found.values()))
    if len(common) < 2:
        raise ConfigError(
            f"the ensembles have {len(common)} member numbers in common that have a weight; member"
            " n of one is paired with member n of the others, so train them with the same"
            " --members, and all of them with equal weights"
        )
    return {name: ensemble.take(common) for name, ensemble in found.items()}


def _counted(ensemble: Ensemble) -> set[int]:
    """Give the numbers of the members that have a weight: no other one changes an average."""
    return {
        number
        for number, weight in zip(ensemble.numbers, ensemble.weights, strict=True)
        if weight > 0
    }


def _run(request: ScreenRequest, run: RunDirectory) -> dict[str, Any]:
    criterion = request.checked_criterion()
    ensembles = load_ensembles(request.ensembles)
    check_ensembles(criterion, {name: e.target for name, e in ensembles.items()})
    source = describe_source(request.candidates)
    _check_same_source(run, asdict(source))
    n_members = len(next(iter(ensembles.values())).members)
    run.update_header(
        data=asdict(source),
        n_members=n_members,
        ensembles={name: str(e.folder) for name, e in ensembles.items()},
    )
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = decide_resources(None, request.gpus)
        _say_dropped(run, ensembles)
        _screen_shards(request, run, source.n_rows, resources)
    return finish_screening(criterion, run, n_members=n_members)


def _check_same_source(run: RunDirectory, source: dict[str, Any]) -> None:
    known = run.header.get("data", {}).get("sha256", source["sha256"])
    if known != source["sha256"]:
        raise RunError(
            f"{source['path']}: the candidates have changed since the run began (SHA-256"
            f" {source['sha256'][:12]}, was {known[:12]}); start a new run"
        )


def _say_dropped(run: RunDirectory, ensembles: dict[str, Ensemble]) -> None:
    n = len(next(iter(ensembles.values())).members)
    planned = max(ensemble.n_planned for ensemble in ensembles.values())
    if n < planned:
        text = f"{n} of {planned} members are paired; an ensemble lacks the others or their weight"
        run.emit("warning", text=text)


def _screen_shards(
    request: ScreenRequest, run: RunDirectory, n_rows: int, resources: Resources
) -> None:
    ended = [event for event in run.events() if event["event"] == SHARD_ENDED]
    done = {event["shard"] for event in ended}
    n_shards = -(-n_rows // request.shard_size)
    run.emit(
        "screening_started",
        candidates=n_rows,
        shards=n_shards,
        done=len(done),
        judged=sum(event["judged"] for event in ended),
        excluded=sum(event["excluded"] for event in ended),
        **resources.model_dump(),
    )
    at_once = request.concurrency or max(1, places(resources))
    shards = iter_shards(request.candidates, size=request.shard_size, skip=frozenset(done))
    running: dict[Any, int] = {}
    for place, shard in enumerate(shards):
        if place == 0:  # all have the same columns
            _check_columns(request.checked_criterion(), shard, run)
        # A place that gets free finds this one shard at hand. There are never more, so that
        # memory does not grow with the number of candidates.
        while len(running) >= at_once:
            _take_one(running, run)
        task = start_task(
            screen_task,
            shard,
            request.criterion,
            request.criterion_path,
            request.ensembles,
            folder=run.path,
            n_cpus=max(1, int(resources.cpu)),
            cpu=resources.cpu,
            gpu=resources.gpu,
        )
        running[task] = shard.number
    while running:
        _take_one(running, run)


def _check_columns(criterion: Criterion, shard: Shard, run: RunDirectory) -> None:
    """Check what the criterion reads of the candidates, and say what it goes without."""
    absent = check_columns(criterion, [str(name) for name in shard.crystals.properties])
    if absent:
        run.emit(
            "warning",
            text=f"the candidates have no {', '.join(absent)}; filters and known values that read"
            " them are not used",
        )


def _take_one(running: dict[Any, int], run: RunDirectory) -> None:
    ready, _ = ray.wait(list(running), num_returns=1)
    number = running.pop(ready[0])
    counts = result_of(ready[0])
    run.emit(SHARD_ENDED, durable=True, shard=number, **counts)


def screen_task(
    shard: Shard,
    criterion: dict[str, Any],
    criterion_path: str,
    ensembles: dict[str, str],
    *,
    folder: Path,
    n_cpus: int,
) -> dict[str, Any]:
    """Screen one shard and write its files; a Ray task that gives the shard's counts."""
    use_threads(n_cpus)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    screened = screen_shard(
        shard.crystals,
        parse_criterion(criterion, path=criterion_path),
        _ensembles_here(tuple(sorted(ensembles.items()))),
        source_rows=shard.rows,
        device=device,
    )
    return write_shard(folder, shard.number, screened, shard.rejected)


@lru_cache(maxsize=1)
def _ensembles_here(folders: tuple[tuple[str, str], ...]) -> dict[str, Ensemble]:
    """Read the ensembles once per process, which screens many shards."""
    return load_ensembles(dict(folders))
