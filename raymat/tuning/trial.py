"""One trial: one configuration trained on one split, the same for the same seed."""

import os
import platform
from pathlib import Path
from typing import Any

from raymat.errors import RunError
from raymat.models import load_spec
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.device import forget_peak, peak_memory_gb
from raymat.training.fit import EpochMetrics, Fit, FitData
from raymat.training.loops import start_fit
from raymat.tuning.trial_config import TrialConfig

CHECKPOINT = "last.pt"


class Trial:
    """A trial being trained, with a checkpoint after every epoch.

    A trial that finds its own checkpoint continues from it. The first `step` then gives the last
    epoch of the checkpoint once more: whoever listened may have died before hearing of it.

    Args:
        config: what to train.
        data: what it may see.
        seed: of weights, order and dropout.
        folder: where its checkpoint is kept; made if missing.
        device: where to train.

    Raises:
        RunError: this host does not see the run that the folder belongs to.
    """

    def __init__(
        self, config: TrialConfig, data: FitData, *, seed: int, folder: Path, device: str = "cpu"
    ) -> None:
        _check_run_is_seen(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / CHECKPOINT
        self.device = device
        forget_peak(device)
        self.fit: Fit = start_fit(
            load_spec(config.model),
            config.architecture,
            config.training,
            data=data,
            seed=seed,
            device=device,
        )
        self._resumed = load_checkpoint(self.fit, self.checkpoint)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.fit.finished

    def step(self) -> EpochMetrics:
        """Train one epoch and write the checkpoint.

        Raises:
            DivergedError: a loss or prediction is not finite.
            RunError: the checkpoint cannot be written.
        """
        if self._resumed:
            self._resumed = False
            return self.fit.history[-1]
        metrics = self.fit.run_epoch()
        save_checkpoint(self.fit, self.checkpoint)
        return metrics

    def facts(self) -> dict[str, Any]:
        """Give what a trial table says besides scores; memory only of a GPU."""
        gpu_memory = peak_memory_gb(self.device)
        return {
            "n_parameters": self.fit.n_parameters,
            "host": platform.node(),
            "pid": os.getpid(),
            "device": str(self.fit.device),
            "featurize_time_s": self.fit.featurize_time_s,
            **({} if gpu_memory is None else {"gpu_memory_gb": gpu_memory}),
        }


def _check_run_is_seen(folder: Path) -> None:
    """Refuse to train where nobody would find the checkpoint: on a disk that is this host's own."""
    run = folder.absolute().parent.parent
    if not run.exists():
        raise RunError(
            f"{platform.node()} does not see {run}; mount the disk of the run there, as on the"
            " other nodes, and resume"
        )


def run_to_epoch(trial: Trial, epoch: int | None = None) -> Fit:
    """Train a trial to its end, or to an epoch."""
    while not trial.finished and (epoch is None or trial.fit.epoch < epoch):
        trial.step()
    return trial.fit
