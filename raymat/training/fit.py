"""Fit one model to one split, epoch by epoch.

`Fit` can be stopped after any epoch and continued from its state: five epochs, a checkpoint and
five more give the same weights as ten, because every random choice of an epoch is drawn from
(seed, epoch) alone.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from raymat.config import Config
from raymat.data.scaling import TargetScaling
from raymat.errors import DataError, DivergedError
from raymat.features.graph import batch_graph, check_reach
from raymat.features.neighbor_table import NeighborTable
from raymat.models._spec import CrystalModel, ModelSpec
from raymat.properties import Task
from raymat.training.config import FitConfig
from raymat.training.metrics import validation_score
from raymat.training.optimizers import learning_rate, make_optimizer, set_learning_rate
from raymat.training.predict import predict_rows


@dataclass(frozen=True)
class FitData:
    """What a fit may see: no test rows.

    Attributes:
        table: neighbors of all crystals.
        targets: (n_crystals,) in the target's unit; classes as 0.0 and 1.0.
        train: row numbers to learn from.
        validation: row numbers to select by.
        task: regression or classification.
    """

    table: NeighborTable
    targets: NDArray[np.float64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    task: Task


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch, counted from 1.

    Attributes:
        train_loss: mean loss on scaled targets over the training rows, as they were met.
        val_score: validation MAE in the target's unit, or AUC for classes.
        time_s: wall seconds of training and validation.
    """

    epoch: int
    train_loss: float
    val_score: float
    time_s: float


class Fit:
    """One configuration being trained.

    Args:
        spec: the model.
        model_config: its configuration.
        config: training settings.
        data: rows to learn from and to select by.
        seed: of the initial weights, the order of the rows and dropout.
        device: where to train.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model_config: Config,
        config: FitConfig,
        *,
        data: FitData,
        seed: int,
        device: str = "cpu",
    ) -> None:
        _check_rows(data)
        self.config, self.data, self.seed = config, data, seed
        self.device = torch.device(device)
        self.view = spec.graph(model_config)
        check_reach(data.table, self.view)
        is_class = data.task == "classification"
        self.scaling = TargetScaling() if is_class else TargetScaling.fit(data.targets[data.train])
        torch.manual_seed(seed)
        self.model: CrystalModel = spec.build(model_config, data.task).to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.history: list[EpochMetrics] = []
        self.best: EpochMetrics | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._learned = torch.tensor(self.scaling.scale(data.targets))

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping has struck."""
        if self.epoch >= self.config.epochs:
            return True
        waited = self.epoch - (self.best.epoch if self.best else 0)
        return self.config.patience is not None and waited >= self.config.patience

    @property
    def n_parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch and validate.

        Raises:
            DivergedError: the loss or a validation prediction is not finite.
        """
        start, epoch = time.perf_counter(), self.epoch + 1
        loss = self._train(epoch)
        predictions = self.predict(self.data.validation)
        if not (np.isfinite(loss) and np.isfinite(predictions).all()):
            raise DivergedError(
                f"training diverged in epoch {epoch}: loss {loss:g}; lower training.lr or set"
                " training.clip_norm",
                epoch=epoch,
            )
        targets = self.data.targets[self.data.validation]
        score = validation_score(self.data.task, targets, predictions)
        metrics = EpochMetrics(epoch, loss, score, time.perf_counter() - start)
        self._keep(metrics)
        return metrics

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict rows with the present weights, in the target's unit."""
        return predict_rows(
            self.model,
            self.data.table,
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
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "history": [asdict(metrics) for metrics in self.history],
            "best_epoch": self.best.epoch if self.best else 0,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state: weights, optimiser, best epoch; schedule and order follow."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = state["best_weights"]
        self.history = [EpochMetrics(**row) for row in state["history"]]
        best = [m for m in self.history if m.epoch == state["best_epoch"]]
        self.best = best[0] if best else None

    def _train(self, epoch: int) -> float:
        self.model.train()
        set_learning_rate(self.optimizer, learning_rate(self.config, epoch))
        torch.manual_seed(_mix(self.seed, epoch))
        order = np.random.default_rng([self.seed, epoch]).permutation(self.data.train)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in _batches(order, self.config.batch_size):
            total += self._step(rows) * len(rows)
        return float(total) / len(order)

    def _step(self, rows: NDArray[np.int64]) -> Tensor:
        graph = batch_graph(self.data.table, rows, self.view).to(self.device)
        learned = self._learned[torch.from_numpy(rows)].to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss = _loss(self.model(graph), learned, task=self.data.task, name=self.config.loss)
        loss.backward()
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return loss.detach().double()

    def _keep(self, metrics: EpochMetrics) -> None:
        self.history.append(metrics)
        better = self.best is None or (
            metrics.val_score > self.best.val_score
            if self.data.task == "classification"
            else metrics.val_score < self.best.val_score
        )
        if better:
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
            " rows or another split seed"
        )


def _loss(out: Tensor, learned: Tensor, *, task: Task, name: str) -> Tensor:
    if task == "classification":
        return F.nll_loss(out, learned.long())
    pair = out.squeeze(1), learned.to(out.dtype)
    return F.l1_loss(*pair) if name == "l1" else F.mse_loss(*pair)


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()  # a lone crystal joins the batch before it: batch norm needs two values
    return np.split(order, cuts)


def _mix(seed: int, epoch: int) -> int:
    """Give one torch seed for an epoch; SeedSequence keeps neighboring pairs independent."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
