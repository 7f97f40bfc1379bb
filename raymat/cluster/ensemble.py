"""`raymat ensemble`: the members of an ensemble on Ray, resumable member by member."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raymat.cluster.connect import ray_session
from raymat.cluster.features import find_tables
from raymat.cluster.gpu_share import share_gpus
from raymat.cluster.member_training import MemberTraining
from raymat.cluster.resources import decide_resources, workers_per_machine
from raymat.cluster.shared_storage import check_folder_is_shared
from raymat.config import Concurrency, Config, Gpus, Seed, build_config
from raymat.data.limits import MAX_REJECTED
from raymat.data.splits import SplitConfig
from raymat.ensembles.finish import finish_ensemble, remove_leftovers
from raymat.ensembles.record import EnsembleRecord
from raymat.ensembles.stored import damaged_members
from raymat.errors import ConfigError, RunError
from raymat.models import load_spec
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.inputs import ClassRule, RunInputs, leave_out, load_inputs
from raymat.tuning.forecast import check_memory
from raymat.tuning.settings import Resources
from raymat.tuning.space_features import tables_of, unusable_rows_of
from raymat.tuning.trial_config import TrialConfig

FEWEST_MEMBERS = 2  # that have a spread


class Selection(Config):
    """How the configurations were chosen, of which the test rows should know nothing.

    Attributes:
        source: the search that chose them, or the file that names them.
        data_sha256: of the crystals that the search read; None if that is not known.
        split_sha256: of its split.
        overridden: "data" and "split", where options took the place of what the file names.
    """

    source: str
    data_sha256: str | None = None
    split_sha256: str | None = None
    overridden: tuple[Literal["data", "split"], ...] = ()

    def differences(self, inputs: RunInputs) -> list[str]:
        """Give which of "data" and "split" are others than the configurations were chosen on."""
        own = {"data": inputs.source.sha256, "split": inputs.split.sha256}
        known = {"data": self.data_sha256, "split": self.split_sha256}
        return [k for k in own if k in self.overridden or known[k] not in (None, own[k])]


class EnsembleRequest(Config):
    """An ensemble, completely described.

    Attributes:
        configs: ``{"model": name, "config": {dotted key: value}}``; members take them in turn.
        config_path: where they were read from, for messages.
        data: a file, a folder or the name of a built-in set.
        target: the column to learn.
        classes: learn whether a number lies above the median of the training rows, or above a
            value, instead of the number; "none" learns a column of 0 and 1 as a number; None
            leaves it to the values.
        split: how rows are divided; all members share validation and test rows.
        members: how many.
        fraction: of the training rows that each member learns from.
        weights: "equal", or "greedy": chosen on the validation rows.
        seed: of the members' rows and weights.
        max_rejected: share of unusable rows that is tolerated.
        gpus: GPUs per member; None uses what is there.
        address: a Ray cluster; None for a local Ray.
        concurrency: members at a time; None for as many as fit.
        selection: how the configurations were chosen, where that is known.
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
    seed: Seed = 0
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
    gpus: Gpus | None = None
    address: str | None = None
    concurrency: Concurrency | None = None
    selection: Selection | None = None

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
    inputs = load_inputs(
        run,
        source=request.data,
        target=request.target,
        split_config=request.split,
        max_rejected=request.max_rejected,
        classes=request.classes,
    )
    configs = [config.decided_by(inputs.crystals) for config in configs]
    _check_differ(configs, request, n_train=len(inputs.split.rows("train")))
    record = _record_of(run, request.members)
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        resources = decide_resources(_asked_by(configs), request.gpus)
        run.update_header(device="cuda" if resources.gpu else "cpu")
        n_workers = workers_per_machine(request.concurrency)
        check_memory(configs, inputs.crystals, inputs.prop.task, n_workers=n_workers)
        tables = find_tables(tables_of(configs), inputs.crystals, run)
        unusable = unusable_rows_of(configs, inputs.crystals, tables)
        inputs = leave_out(inputs, unusable, run, max_rejected=request.max_rejected)
        selection = check_selection(request.selection, inputs, run)
        data = inputs.fit_data(*tables)
        if request.gpus is None:
            resources = share_gpus(resources, configs, data, run)
        training = MemberTraining(
            configs,
            inputs,
            fraction=request.fraction,
            seed=request.seed,
            resources=resources,
            run=run,
        )
        training.train(record, data, at_once=request.concurrency)
    _check_enough(record)
    return finish_ensemble(
        record, inputs, tables=tables, run=run, weighting=request.weights, selection=selection
    )


def _asked_by(configs: list[TrialConfig]) -> Resources | None:
    """Give what members need that no GPU would help; None leaves it to the cluster."""
    is_closed = all(load_spec(config.model).fit == "closed_form" for config in configs)
    return Resources() if is_closed else None


def _record_of(run: RunDirectory, n_members: int) -> EnsembleRecord:
    """Give how members fared so far; what no longer counts is told, and trained again."""
    record = EnsembleRecord.from_events(run.events(), n_members)
    for number, problem in damaged_members(run.path, record.ended).items():
        del record.ended[number]
        run.emit("warning", text=f"member {number} is trained again: {problem}")
    for number in record.forgive():
        run.emit("warning", text=f"member {number} has failed without diverging and is tried again")
    return record


def _check_differ(configs: list[TrialConfig], request: EnsembleRequest, *, n_train: int) -> None:
    """Refuse members that would be the same: in a closed form only the rows are random."""
    if round(request.fraction * n_train) < n_train:
        return
    own = [configs[number % len(configs)] for number in range(request.members)]
    fixed = [config for config in own if load_spec(config.model).fit == "closed_form"]
    n_different = sum(1 for place, config in enumerate(fixed) if config not in fixed[:place])
    if n_different < len(fixed):
        which = f"only {n_different} of {len(fixed)} members would differ"
        raise ConfigError(
            f"{'all members would be the same' if n_different == 1 else which}, for nothing in"
            f" {fixed[0].model} is random; give a --fraction below 1, or different configurations,"
            " one for each member"
        )


def check_selection(
    selection: Selection | None, inputs: RunInputs, run: RunDirectory
) -> dict[str, Any] | None:
    """Give what `metrics.json` says of it; warn where test rows may have had a part in it."""
    if selection is None:
        return None
    others = selection.differences(inputs)
    if others:
        words = {"data": "other data", "split": "another split"}
        run.emit(
            "warning",
            text=f"the configurations of {selection.source} were chosen on"
            f" {' and '.join(words[other] for other in others)}: test rows may be among those"
            " they were chosen by, and the scores then too good",
        )
    return {**selection.model_dump(mode="json", exclude={"overridden"}), "differs": others}


def _check_enough(record: EnsembleRecord) -> None:
    if len(record.ended) < FEWEST_MEMBERS:
        first = next(iter(record.failures.values()))[-1]["error"]
        raise RunError(
            f"{len(record.ended)} of {record.n_planned} members could be trained, a spread needs"
            f" {FEWEST_MEMBERS}; the first failure: {first}"
        )
