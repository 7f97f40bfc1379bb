"""One member of an ensemble, trained as a Ray task."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from raymat.ensembles.members import MemberPlan
from raymat.errors import DivergedError
from raymat.training.device import OutOfMemoryError, free_memory, prepare_process
from raymat.training.fit import FitData
from raymat.training.results import FitResult, conclude
from raymat.tuning.trial import CHECKPOINT, Trial
from raymat.tuning.trial_config import TrialConfig, halve_batches

_EPOCH_FILE = "epoch"  # beside the checkpoint: how far the member is, for the progress display


@dataclass(frozen=True)
class TrainedMember:
    """A member at its end.

    Attributes:
        result: its network and its predictions of all crystals.
        row: what `members.parquet` says of it.
    """

    result: FitResult
    row: dict[str, Any]


def train_member(
    plan: MemberPlan, config: TrialConfig, data: FitData, *, folder: Path, n_cpus: int
) -> TrainedMember:
    """Train a member to its end, from its checkpoint in `folder` if there is one.

    Ray hands the arrays of `data` to every process of a machine as one shared copy, and keeps a
    process for the next member, so many members cost one copy of the features and one start.

    A member for which the GPU's memory is too small begins anew with batches of half the size; its
    row says how large they were.

    Raises:
        DivergedError: a loss, or the prediction of any crystal that the model reads, is not finite.
        RunError: the checkpoint cannot be written, or no batch fits into the GPU.
    """
    prepare_process(n_cpus)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    own = replace(data, train=plan.rows)
    while True:
        try:
            trial = Trial(config, own, seed=plan.seed, folder=folder, device=device)
            while not trial.finished:
                trial.step()
                note_epoch(folder, trial.fit.epoch)
            break
        except OutOfMemoryError:
            config = halve_batches(config)
        del trial
        free_memory(device)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    result = conclude(trial.fit)
    _check_finite(result)
    facts = trial.facts()
    row = {
        "seed": plan.seed,
        "n_train": len(plan.rows),
        "val_score": result.best.val_score,
        "best_epoch": result.best.epoch,
        "epochs": result.epochs,
        "time_s": sum(metrics.time_s for metrics in trial.fit.history),
        "host": facts["host"],
        "device": facts["device"],
        "attempts": plan.attempt + 1,
        "configuration": plan.configuration,
        "batch_size": getattr(config.training, "batch_size", None),
    }
    return TrainedMember(result, row)


def _check_finite(result: FitResult) -> None:
    """Refuse a member that one crystal alone, which no epoch looked at, would make useless."""
    if result.n_lost:
        epoch, n_rows = result.best.epoch, len(result.predictions)
        raise DivergedError(
            f"training diverged: the weights of epoch {epoch} give no finite prediction of"
            f" {result.n_lost:,} of {n_rows:,} crystals; lower training.lr or set"
            " training.clip_norm",
            epoch=epoch,
        )


def note_epoch(folder: Path, epoch: int) -> None:
    """Write down how many epochs the model that trains in a folder has finished."""
    with suppress(OSError):  # a full disk must not end what only cannot be shown
        (folder / _EPOCH_FILE).write_text(str(epoch), encoding="ascii")


def epochs_done(folder: Path) -> int:
    """Give how many epochs the model that trains in a folder has finished."""
    try:
        return int((folder / _EPOCH_FILE).read_text(encoding="ascii") or 0)
    except (FileNotFoundError, ValueError):  # not begun; or caught in the middle of a write
        return 0
