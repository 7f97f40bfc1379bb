"""A trial as Ray Tune runs it, on whichever node has room."""

from pathlib import Path
from typing import Any

import ray
from ray import tune

from raymat.errors import RaymatError, RunError
from raymat.properties import Task
from raymat.training.device import OutOfMemoryError, free_memory, prepare_process
from raymat.training.fit import FitData
from raymat.training.metrics import higher_is_better
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.trial import CHECKPOINT, Trial
from raymat.tuning.trial_config import BATCH_SIZE, halve_batches

TRIALS = "trials"  # folder of the trials' checkpoints
_BATCHES = "batch_size"  # beside the checkpoint of a trial that began anew with smaller batches


class TrialRunner(tune.Trainable):
    """Runs one trial after another in the same process: starting one costs seconds.

    The result of a step holds `epoch`, `score` (the best validation score so far, which ASHA and
    Optuna look at), `metrics`, `finished` and `facts`; a trial that cannot go on reports `error`
    and no score, so that the search is told of a failure and nothing is tried again. A `problem`
    is none of the trial's own, such as a full disk: it ends the run, which can be resumed. A trial
    for which the GPU's memory is too small reports `halved`, the size of the batches with which it
    begins anew.
    """

    _trial: Trial | None = None

    def setup(  # type: ignore[override]  # tune.with_parameters fills what follows `config`
        self, config: dict[str, Any], data: FitData, space: SearchSpace, folder: str, n_cpus: int
    ) -> None:
        """Prepare the first trial of this process; Ray Tune calls it."""
        prepare_process(n_cpus)
        self._data, self._space, self._folder = data, space, Path(folder)
        self._device = "cuda" if ray.get_gpu_ids() else "cpu"
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare the next trial of this process; Ray Tune calls it."""
        self._trial = None
        free_memory(self._device)
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        try:
            return self._train_epoch()
        except (RunError, OSError) as problem:
            return {
                "problem": str(problem),
                "epoch": self._epoch(),
                "finished": False,
                "done": True,
            }
        except RaymatError as error:
            return {"error": str(error), "epoch": self._epoch(), "finished": True, "done": True}

    def _train_epoch(self) -> dict[str, Any]:
        smaller = None if self._trial else self._batches_before()
        if smaller is not None:
            return self._halved(smaller)
        try:
            trial = self._trial or self._make_trial()
            metrics = trial.step()
        except OutOfMemoryError:
            return self._begin_with_half_batches()
        return {
            "epoch": metrics.epoch,
            "score": _best_so_far(trial, self._data.task),
            "metrics": vars(metrics),
            "facts": trial.facts(),
            "finished": trial.finished,
            "done": trial.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave nothing with Ray: a trial keeps its own checkpoint in the run directory."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take nothing from Ray: see `save_checkpoint`."""

    def _begin_with_half_batches(self) -> dict[str, Any]:
        """Begin the trial anew with batches of half the size; the driver logs it before it goes on.

        What is trained further must be what is recorded, so the epochs so far do not count.
        """
        config = self._space.configure(self._asked["values"])
        self._trial = None
        free_memory(self._device)
        try:
            smaller = halve_batches(config)
        except RaymatError as error:
            return {"error": str(error), "epoch": 1, "finished": True, "done": True}
        folder, size = self._trial_folder(), smaller.flat()[BATCH_SIZE]
        (folder / CHECKPOINT).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _BATCHES).write_text(str(size), encoding="ascii")
        return self._halved(size)

    def _batches_before(self) -> int | None:
        """Give the size of batches that an earlier process of this trial came down to."""
        try:
            size = int((self._trial_folder() / _BATCHES).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        asked = self._space.configure(self._asked["values"]).flat().get(BATCH_SIZE)
        return size if size != asked else None

    def _halved(self, size: int) -> dict[str, Any]:
        values = {**self._asked["values"], BATCH_SIZE: size}
        self._begin({**self._asked, "values": values})
        return {"halved": size, "epoch": 0, "finished": False, "done": False}

    def _begin(self, config: dict[str, Any]) -> None:
        self._asked = config
        self._trial = None

    def _make_trial(self) -> Trial:
        trial = Trial(
            self._space.configure(self._asked["values"]),
            self._data,
            seed=self._asked["seed"],
            folder=self._trial_folder(),
            device=self._device,
        )
        self._trial = trial
        return trial

    def _trial_folder(self) -> Path:
        return trial_folder(self._folder, self._asked["trial"])

    def _epoch(self) -> int:
        return self._trial.fit.epoch + 1 if self._trial else 0


def trial_folder(run: Path, number: int) -> Path:
    """Give where a trial keeps its checkpoint."""
    return run / TRIALS / f"{number:04d}"


def _best_so_far(trial: Trial, task: Task) -> float:
    scores = [metrics.val_score for metrics in trial.fit.history]
    return max(scores) if higher_is_better(task) else min(scores)
