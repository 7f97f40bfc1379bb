"""`raymat ensemble`: the members of an ensemble on Ray, resumable member by member."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raymat.cluster.connect import ray_session
from raymat.cluster.features import find_tables
from raymat.cluster.member_training import MemberTraining
from raymat.cluster.resources import (
    check_folder_is_shared,
    decide_resources,
    workers_per_machine,
)
from raymat.config import Config, build_config
from raymat.data.limits import MAX_REJECTED
from raymat.data.splits import SplitConfig
from raymat.ensembles.finish import finish_ensemble, remove_leftovers
from raymat.ensembles.record import EnsembleRecord
from raymat.errors import ConfigError, RunError
from raymat.models import load_spec
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.inputs import ClassRule, leave_out, load_inputs
from raymat.tuning.forecast import check_memory
from raymat.tuning.space_features import tables_of, unusable_rows_of
from raymat.tuning.trial_config import TrialConfig

FEWEST_MEMBERS = 2  # that have a spread


class EnsembleRequest(Config):
    """An ensemble, completely described.

    Attributes:
        configs: ``{"model": name, "config": {dotted key: value}}``; members take them in turn.
        config_path: where they were read from, for messages.
        data: a file, a folder or the name of a built-in set.
        target: the column to learn.
        classes: learn whether a number lies above the median of the training rows, or above a
            value, instead of the number; None for the target as it is.
        split: how rows are divided; all members share validation and test rows.
        members: how many.
        fraction: of the training rows that each member learns from.
        weights: "equal", or "greedy": chosen on the validation rows.
        seed: of the members' rows and weights.
        max_rejected: share of unusable rows that is tolerated.
        gpus: GPUs per member; None uses what is there.
        address: a Ray cluster; None for a local Ray.
        concurrency: members at a time; None for as many as fit.
    """

    configs: tuple[dict[str, Any], ...]
    config_path: str
    data: str
    target: str
    classes: ClassRule | None = None
    split: SplitConfig
    members: int = Field(100, ge=FEWEST_MEMBERS, le=10_000)
    fraction: float = Field(0.6, gt=0.0, le=1.0)
    weights: Literal["equal", "greedy"] = "equal"
    seed: int = Field(0, ge=0)
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
    gpus: float | None = Field(None, ge=0.0)
    address: str | None = None
    concurrency: int | None = Field(None, ge=1)

    def trial_configs(self) -> list[TrialConfig]:
        """Give the configurations, checked.

        Raises:
            ConfigError: one cannot be built.
        """
        return [TrialConfig.from_dict(c, where=self.config_path) for c in self.configs]


def ensemble(
    request: EnsembleRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> dict[str, Any]:
    """Train an ensemble into a new run directory and give the content of its `metrics.json`.

    Raises:
        ConfigError: a configuration cannot be used.
        DataError: the data cannot be used.
        RunError: the folder cannot be used, or fewer than two members could be trained.
        ClusterError: Ray cannot be reached or can never place a member.
        KeyboardInterrupt: on Ctrl-C; `resume_ensemble` continues the run.
    """
    header = {
        "command": "ensemble",
        "arguments": request.model_dump(mode="json"),
        "seed": request.seed,
    }
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_ensemble(path: Path, *, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Continue an interrupted ensemble; no finished member is trained again.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "ensemble":
            raise RunError(f"{path}: a {header.get('command')} run, not an ensemble run")
        scored = [event["metrics"] for event in run.events() if event["event"] == "scored"]
        if scored:  # it ended between the last result and the word "complete"
            remove_leftovers(run)
            return dict(scored[-1])
        request = build_config(EnsembleRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run)


def _run(request: EnsembleRequest, run: RunDirectory) -> dict[str, Any]:
    configs = request.trial_configs()
    _check_differ(configs, request.fraction)
    inputs = load_inputs(
        run,
        source=request.data,
        target=request.target,
        split_config=request.split,
        max_rejected=request.max_rejected,
        classes=request.classes,
    )
    configs = [config.decided_by(inputs.crystals) for config in configs]
    record = EnsembleRecord.from_events(run.events(), request.members)
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = decide_resources(None, request.gpus)
        run.update_header(device="cuda" if resources.gpu else "cpu")
        n_workers = workers_per_machine(request.concurrency)
        check_memory(configs, inputs.crystals, inputs.prop.task, n_workers=n_workers)
        tables = find_tables(tables_of(configs), inputs.crystals, run)
        unusable = unusable_rows_of(configs, inputs.crystals, tables)
        inputs = leave_out(inputs, unusable, run, max_rejected=request.max_rejected)
        training = MemberTraining(
            configs,
            inputs,
            fraction=request.fraction,
            seed=request.seed,
            resources=resources,
            run=run,
        )
        training.train(record, inputs.fit_data(*tables), at_once=request.concurrency)
    _check_enough(record)
    return finish_ensemble(record, inputs, tables=tables, run=run, weighting=request.weights)


def _check_differ(configs: list[TrialConfig], fraction: float) -> None:
    """Refuse members that would all be the same: nothing in a closed form is random."""
    is_fixed = all(load_spec(config.model).fit == "closed_form" for config in configs)
    if is_fixed and fraction == 1.0 and all(config == configs[0] for config in configs):
        raise ConfigError(
            f"all members would be the same, for nothing in {configs[0].model} is random; give a"
            " --fraction below 1, or different configurations"
        )


def _check_enough(record: EnsembleRecord) -> None:
    if len(record.ended) < FEWEST_MEMBERS:
        first = next(iter(record.failures.values()))[-1]["error"]
        raise RunError(
            f"{len(record.ended)} of {record.n_planned} members could be trained, a spread needs"
            f" {FEWEST_MEMBERS}; the first failure: {first}"
        )
