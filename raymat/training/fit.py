"""Fit one model to one split.

A `Fit` is stepped epoch by epoch, can be stopped after any epoch and continued from its state.
`GradientFit` learns by epochs of a network; `ClosedFormFit` has one epoch, the solution.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymat.config import Config
from raymat.data.scaling import TargetScaling
from raymat.errors import DataError, DivergedError
from raymat.features.store import FeatureStore
from raymat.models._spec import CrystalModel, ModelSpec, Output
from raymat.properties import Task
from raymat.training.metrics import higher_is_better, validation_score
from raymat.training.predict import predict_rows


@dataclass(frozen=True)
class FitData:
    """What a fit may see: no test rows.

    Attributes:
        features: of all crystals.
        targets: (n_crystals,) in the target's unit; classes as 0.0 and 1.0.
        train: row numbers to learn from.
        validation: row numbers to select by.
        task: regression or classification.
    """

    features: FeatureStore
    targets: NDArray[np.float64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    task: Task


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch, counted from 1.

    Attributes:
        train_loss: mean loss on scaled targets over the training rows, as they were met.
        val_score: validation MAE in the target's unit, AUC for classes, or the negative log
            likelihood in nats where the training selects by it.
        time_s: wall seconds of training and validation.
        train_time_s: wall seconds of training alone; nan in logs of earlier versions.
    """

    epoch: int
    train_loss: float
    val_score: float
    time_s: float
    train_time_s: float = math.nan


class Fit:
    """One configuration being trained.

    Args:
        spec: the model.
        model_config: its configuration.
        data: rows to learn from and to select by.
        output: what the model gives; the task, or "gaussian" for a number and its variance.
        scale_targets: whether numbers are learned as (y - mean) / std of the training rows.
        seed: of everything drawn at random.
        device: where to train.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model_config: Config,
        *,
        data: FitData,
        output: Output,
        scale_targets: bool,
        seed: int,
        device: str = "cpu",
    ) -> None:
        _check_rows(data)
        spec.check_output(output)
        self.data, self.output, self.seed, self.scaling = data, output, seed, TargetScaling()
        if scale_targets and data.task == "regression":
            self.scaling = TargetScaling.fit(data.targets[data.train])
        self.device = torch.device(device)
        self.view = spec.reads(model_config)
        start = time.perf_counter()
        self.table = data.features.find(self.view.table_config)
        self.featurize_time_s = time.perf_counter() - start
        torch.manual_seed(seed)
        self.model: CrystalModel[Any] = spec.build(model_config, output).to(self.device)
        self.history: list[EpochMetrics] = []
        self.best: EpochMetrics | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._learned = torch.tensor(self.scaling.scale(data.targets))

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether no epoch is left."""

    @abstractmethod
    def train_epoch(self, epoch: int) -> None:
        """Train one epoch."""

    @abstractmethod
    def training_loss(self) -> float:
        """Give the loss of the epoch just trained."""

    @property
    def n_parameters(self) -> int:
        """Numbers that training sets."""
        return self.model.n_parameters

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch and validate.

        Raises:
            DivergedError: the loss or a validation prediction is not finite.
        """
        start, epoch = time.perf_counter(), self.epoch + 1
        self.train_epoch(epoch)
        train_time_s = time.perf_counter() - start
        loss = self.training_loss()
        predictions, score = self.validate()
        if not (np.isfinite([loss, score]).all() and np.isfinite(predictions).all()):
            raise DivergedError(
                f"training diverged in epoch {epoch}: loss {loss:g}; lower training.lr or set"
                " training.clip_norm",
                epoch=epoch,
            )
        metrics = EpochMetrics(epoch, loss, score, time.perf_counter() - start, train_time_s)
        self._keep(metrics)
        return metrics

    def validate(self) -> tuple[NDArray[np.float64], float]:
        """Return predictions of the validation rows, and the score that selects among epochs."""
        predictions = self.predict(self.data.validation)
        targets = self.data.targets[self.data.validation]
        return predictions, validation_score(self.data.task, targets, predictions)

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict rows with the present weights, in the target's unit."""
        return predict_rows(
            self.model,
            self.table,
            rows,
            view=self.view,
            scaling=self.scaling,
            task=self.data.task,
            device=self.device,
        )

    def use_best_weights(self) -> None:
        """Go back to the weights of the best validation epoch."""
        self.model.load_state_dict(self.best_weights)

    def state(self) -> dict[str, Any]:
        """Give everything that `load_state` needs to continue, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "best_weights": self.best_weights,
            "history": [asdict(metrics) for metrics in self.history],
            "best_epoch": self.best.epoch if self.best else 0,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best_weights"]
        self.history = [EpochMetrics(**row) for row in state["history"]]
        best = [m for m in self.history if m.epoch == state["best_epoch"]]
        self.best = best[0] if best else None

    def _keep(self, metrics: EpochMetrics) -> None:
        self.history.append(metrics)
        sign = 1.0 if higher_is_better(self.data.task) else -1.0
        if self.best is None or sign * metrics.val_score > sign * self.best.val_score:
            self.best = metrics
            self.best_weights = deepcopy(self.model.state_dict())


def fit(fitting: Fit, report: Callable[[Fit, EpochMetrics], None]) -> None:
    """Run all epochs that are left, reporting each, and end on the best weights."""
    while not fitting.finished:
        report(fitting, fitting.run_epoch())
    fitting.use_best_weights()


def _check_rows(data: FitData) -> None:
    if len(data.train) < 2 or len(data.validation) < 1:
        raise DataError(
            f"{len(data.train)} training and {len(data.validation)} validation rows are too"
            " few; a fit needs at least 2 and 1"
        )
    if data.task == "classification" and len(np.unique(data.targets[data.validation])) < 2:
        raise DataError(
            "the validation rows hold one class only, so there is no AUC to select by; use more"
            " rows or another split.seed"
        )
