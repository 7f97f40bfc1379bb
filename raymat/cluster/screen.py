"""`raymat screen`: candidates in shards through ensembles and a criterion, as Ray tasks."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from pydantic import Field

from raymat.cluster.connect import ray_session
from raymat.cluster.resources import Room, decide_resources
from raymat.cluster.shared_storage import check_folder_is_shared
from raymat.cluster.tasks import result_of, start_task, wait_for_some
from raymat.config import Concurrency, Config, Gpus, build_config
from raymat.data.crystals import CrystalSet
from raymat.data.limits import MAX_REJECTED
from raymat.data.shards import Shard, ShardSource, iter_shards, open_shards
from raymat.ensembles.stored import Ensemble
from raymat.errors import RunError
from raymat.screening.candidates import check_numbers
from raymat.screening.criterion import Criterion, parse_criterion
from raymat.screening.criterion_inputs import check_columns, check_ensembles
from raymat.screening.finish import finish_screening
from raymat.screening.paired_ensembles import (
    check_same_ensembles,
    find_fingerprint,
    load_ensembles,
    load_same_ensembles,
)
from raymat.screening.piecewise import screen_piecewise
from raymat.screening.shard import ScreenedShard, screen_shard
from raymat.screening.shard_files import SHARD_ENDED, StoredShards, write_shard
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.device import prepare_process
from raymat.tuning.settings import Resources


class ScreenRequest(Config):
    """A screening, completely described.

    Attributes:
        criterion: in its YAML form.
        criterion_path: where it was read from, for messages.
        ensembles: prediction of the criterion -> run directory of the ensemble.
        candidates: a file, a folder or the name of a built-in set.
        shard_size: candidates in one task.
        max_rejected: largest share of rows that are no usable crystals.
        gpus: GPUs per task; None uses what is there.
        address: a Ray cluster; None for a local Ray.
        concurrency: shards at a time; None for as many as fit.
    """

    criterion: dict[str, Any]
    criterion_path: str
    ensembles: dict[str, str]
    candidates: str
    shard_size: int = Field(1000, ge=1, le=10_000_000)
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
    gpus: Gpus | None = None
    address: str | None = None
    concurrency: Concurrency | None = None

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
        DataError: the candidates, or too many of them, cannot be used, or all are excluded.
        ModelFileError: an ensemble is none or not complete.
        RunError: the folder cannot be used.
        ClusterError: Ray cannot be reached or can never place a task.
        KeyboardInterrupt: on Ctrl-C; `resume_screen` continues the run.
    """
    header = {"command": "screen", "arguments": request.model_dump(mode="json")}
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_screen(
    path: Path, *, max_rejected: float | None = None, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Continue an interrupted screening; no finished shard is screened again.

    Args:
        path: the run directory.
        max_rejected: takes the place of the limit that the run began with.
        listeners: hear the events.

    Raises:
        RunError: the folder is no such run, another process is at work in it, or candidates or
            ensembles have changed.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "screen":
            raise RunError(f"{path}: a {header.get('command')} run, not a screen run")
        asked = dict(header["arguments"])
        if max_rejected is not None:
            asked["max_rejected"] = max_rejected
        request = build_config(ScreenRequest, asked, where=f"{path}/run.json")
        run.update_header(arguments=request.model_dump(mode="json"))
        return _run(request, run)


def _run(request: ScreenRequest, run: RunDirectory) -> dict[str, Any]:
    criterion = request.checked_criterion()
    ensembles = load_ensembles(request.ensembles)
    check_ensembles(
        criterion,
        {name: e.target for name, e in ensembles.items()},
        {name: e.threshold for name, e in ensembles.items() if e.threshold is not None},
    )
    fingerprints = _check_fingerprints(request, run)
    candidates = open_shards(request.candidates)
    source = candidates.facts
    _check_same_source(run, asdict(source))
    run.update_header(
        data=asdict(source),
        n_members=len(next(iter(ensembles.values())).members),
        ensembles={name: str(e.folder) for name, e in ensembles.items()},
        ensemble_sha256=fingerprints,
    )
    n_shards = -(-source.n_rows // request.shard_size)
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = decide_resources(None, request.gpus)
        for note in source.notes:
            run.emit("warning", text=note)
        _say_dropped(run, ensembles)
        _screen_shards(request, run, candidates, resources)
    return finish_screening(
        criterion,
        run,
        n_shards=n_shards,
        weights={name: e.weights for name, e in ensembles.items()},
        max_rejected=request.max_rejected,
    )


def _check_fingerprints(request: ScreenRequest, run: RunDirectory) -> dict[str, str]:
    """Find the fingerprints of the ensembles; they must be those that the run began with."""
    found = {name: find_fingerprint(Path(folder)) for name, folder in request.ensembles.items()}
    check_same_ensembles(request.ensembles, found, run.header.get("ensemble_sha256", {}))
    return found


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
    request: ScreenRequest, run: RunDirectory, candidates: ShardSource, resources: Resources
) -> None:
    ended, n_rows = _whole_shards(run), candidates.facts.n_rows
    done = frozenset(ended.logged)
    shards = iter_shards(candidates, size=request.shard_size, skip=done)
    shards = _check_first(request.checked_criterion(), shards, run)
    run.emit(
        "screening_started",
        candidates=n_rows,
        shards=-(-n_rows // request.shard_size),
        done=len(done),
        judged=ended.total("judged"),
        excluded=ended.total("excluded"),
        **resources.model_dump(),
    )
    fingerprints = run.header["ensemble_sha256"]
    room = Room(resources)
    running: dict[Any, int] = {}
    for shard in shards:
        # A place that gets free finds this one shard at hand. There are never more, so that
        # memory does not grow with the number of candidates.
        while len(running) >= (request.concurrency or room()):
            _take_one(running, run, room)
        _take_ended(running, run)
        task = start_task(
            screen_task,
            shard,
            request.criterion,
            request.criterion_path,
            {name: (folder, fingerprints[name]) for name, folder in request.ensembles.items()},
            folder=run.path,
            n_cpus=max(1, int(resources.cpu)),
            cpu=resources.cpu,
            gpu=resources.gpu,
        )
        running[task] = shard.number
    while running:
        _take_one(running, run, room)


def _whole_shards(run: RunDirectory) -> StoredShards:
    """Give the shards that have ended and whose files are as they were written."""
    ended = StoredShards.of(run.path, run.events())
    damage = ended.damage()
    for number, problem in damage.items():
        run.emit("warning", text=f"shard {number} is screened again: {problem}")
    return ended.without(damage)


def _check_first(
    criterion: Criterion, shards: Iterator[Shard], run: RunDirectory
) -> Iterator[Shard]:
    """Check the columns, which all shards share, before anything is begun; give all shards."""
    first = next(shards, None)
    if first is None:
        return iter(())
    ids, given = first.crystals.material_ids, first.crystals.properties
    absent = check_columns(criterion, [str(name) for name in given])
    check_numbers(criterion, given.assign(material_id=ids))
    if absent:
        run.emit(
            "warning",
            text=f"the candidates have no {', '.join(absent)}; filters and known values that read"
            " them are not used",
        )
    return _put_back([first], shards)


def _put_back(first: list[Shard], rest: Iterator[Shard]) -> Iterator[Shard]:
    yield first.pop()  # which is then held by nobody here
    yield from rest


def _take_one(running: dict[Any, int], run: RunDirectory, room: Room) -> None:
    """Wait for a shard to end and log it."""
    ready: list[Any] = []
    while not ready:
        ready = wait_for_some(running, room)
    _log(ready, running, run)


def _take_ended(running: dict[Any, int], run: RunDirectory) -> None:
    """Log the shards that have ended meanwhile: what is not logged is done again after a kill."""
    if running:
        ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
        _log(ready, running, run)


def _log(ended: list[Any], running: dict[Any, int], run: RunDirectory) -> None:
    for task in ended:
        number = running.pop(task)
        run.emit(SHARD_ENDED, durable=True, shard=number, **result_of(task, run))


def screen_task(
    shard: Shard,
    criterion: dict[str, Any],
    criterion_path: str,
    ensembles: Mapping[str, tuple[str, str]],
    *,
    folder: Path,
    n_cpus: int,
) -> dict[str, Any]:
    """Screen one shard and write its files; a Ray task that gives the shard's counts.

    `ensembles` are their folders and fingerprints.
    """
    prepare_process(n_cpus)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    judge = parse_criterion(criterion, path=criterion_path)
    members = _ensembles_here(tuple((name, *where) for name, where in sorted(ensembles.items())))

    def screen_some(crystals: CrystalSet, rows: NDArray[np.int64]) -> ScreenedShard:
        return screen_shard(crystals, judge, members, source_rows=rows, device=device)

    screened = screen_piecewise(shard.crystals, shard.rows, screen_some)
    return write_shard(folder, shard.number, screened, shard.rejected)


@lru_cache(maxsize=1)
def _ensembles_here(asked: tuple[tuple[str, str, str], ...]) -> dict[str, Ensemble]:
    """Read the ensembles once per process, which screens many shards."""
    return load_same_ensembles(
        {name: folder for name, folder, _ in asked}, {name: known for name, _, known in asked}
    )
