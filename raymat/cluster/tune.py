"""`raymat tune`: search a space, train the winner again, score it once on the test rows."""

from pathlib import Path
from typing import Any

from raymat.cluster.connect import ray_session
from raymat.cluster.features import find_tables
from raymat.cluster.finish import finish
from raymat.cluster.gpu_share import share_for_trials
from raymat.cluster.resources import trial_resources, workers_per_machine
from raymat.cluster.search import search
from raymat.cluster.shared_storage import check_folder_is_shared
from raymat.config import build_config
from raymat.errors import RunError
from raymat.models import load_spec
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.fit import FitData
from raymat.training.forecast import slow_fit_warning
from raymat.training.inputs import leave_out, load_inputs
from raymat.tuning.forecast import check_memory
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space import parse_space
from raymat.tuning.space_features import configurations_of, tables_to_build, unusable_rows


def tune(
    request: TuneRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Run a search into a new run directory and give the content of its `metrics.json`.

    Raises:
        DataError: the data cannot be used.
        RunError: the folder cannot be used, or no trial finished an epoch.
        ClusterError: Ray cannot be reached or can never place a trial.
        KeyboardInterrupt: on Ctrl-C; `resume` continues the run.
    """
    header = {"command": "tune", "arguments": request.model_dump(mode="json"), "seed": request.seed}
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_tune(
    path: Path, *, finish_now: bool = False, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Continue an interrupted or failed search; nothing that is finished is done again.

    Args:
        path: the run directory.
        finish_now: train no further trial; choose among those there are.
        listeners: called with every event.

    Raises:
        RunError: the folder is no such run, is complete, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "tune":
            raise RunError(f"{path}: a {header.get('command')} run, not a tune run")
        scored = [event["metrics"] for event in run.events() if event["event"] == "scored"]
        if scored:  # it ended between the last result and the word "complete"
            return dict(scored[-1])
        request = build_config(TuneRequest, header["arguments"], where=f"{path}/run.json")
        if finish_now:
            request = request.model_copy(update={"time_budget_s": 0.0})
        return _run(request, run)


def _run(request: TuneRequest, run: RunDirectory) -> dict[str, Any]:
    space = parse_space(request.space, path=request.space_path)
    inputs = load_inputs(
        run,
        source=request.data,
        target=request.target,
        split_config=request.split,
        max_rejected=request.max_rejected,
        classes=request.classes,
    )
    space = space.decided_by(inputs.crystals)
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = trial_resources(request, space)
        run.update_header(device="cuda" if resources.gpu else "cpu")
        n_workers = workers_per_machine(request.concurrency)
        check_memory(
            configurations_of(space), inputs.crystals, inputs.prop.task, n_workers=n_workers
        )
        tables = find_tables(tables_to_build(space), inputs.crystals, run)
        unusable = unusable_rows(space, inputs.crystals, tables)
        inputs = leave_out(inputs, unusable, run, max_rejected=request.max_rejected)
        data = inputs.fit_data(*tables)
        _warn_if_slow(space, data, run)
        resources = share_for_trials(resources, request, space, data, run)
        study = search(request, space, data, resources=resources, run=run, all_at_once=True)
        return finish(study, request, space, inputs=inputs, data=data, resources=resources, run=run)


def _warn_if_slow(space: SearchSpace, data: FitData, run: RunDirectory) -> None:
    default = space.configure(space.default())
    text = slow_fit_warning(load_spec(space.model), default.architecture, data)
    if text is not None:
        run.emit("warning", text=text)
