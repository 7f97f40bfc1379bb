"""Training by epochs of gradient descent.

Five epochs, a checkpoint and five more give the same weights as ten, because every random choice
of an epoch is drawn from (seed, epoch) alone.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from raymat.config import Config
from raymat.data.scaling import is_ordinary
from raymat.errors import ConfigError
from raymat.models._spec import ModelSpec, Output
from raymat.properties import Task
from raymat.training.config import FitConfig
from raymat.training.fit import Fit, FitData
from raymat.training.metrics import gaussian_likelihood
from raymat.training.optimizers import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from raymat.training.predict import (
    SITES_PER_BATCH,
    evaluate_networks,
    noise_in_unit,
    to_unit,
)


class GradientFit(Fit):
    """A network being trained.

    Args:
        spec: the model.
        model_config: its configuration.
        config: training settings.
        data: rows to learn from and to select by.
        seed: of the initial weights, the order of the rows and dropout.
        device: where to train.

    Raises:
        ConfigError: a variance is asked for where the target is a class.
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
        super().__init__(
            spec,
            model_config,
            data=data,
            output=_output(data.task, config),
            scale_targets=_scales(config, data),
            seed=seed,
            device=device,
        )
        self.config = config
        self._loss = math.nan  # of the last epoch
        self.optimizer = make_optimizer(self.model, config)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping has struck."""
        if self.epoch >= self.config.epochs:
            return True
        waited = self.epoch - (self.best.epoch if self.best else 0)
        return self.config.patience is not None and waited >= self.config.patience

    def state(self) -> dict[str, Any]:
        """Give everything that `load_state` needs to continue, as tensors and plain values."""
        return {**super().state(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state: weights, optimiser, best epoch; schedule and order follow."""
        self.optimizer.load_state_dict(state["optimizer"])
        super().load_state(state)

    def train_epoch(self, epoch: int) -> None:
        """Take one pass over the training rows."""
        self.model.train()
        set_learning_rate(self.optimizer, learning_rate(self.config, epoch))
        torch.manual_seed(_mix(self.seed, epoch))
        order = np.random.default_rng([self.seed, epoch]).permutation(self.data.train)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in _batches(order, self.config.batch_size):
            total += self._step(rows) * len(rows)
        self._loss = float(total) / len(order)

    def training_loss(self) -> float:
        """Give the mean loss over the training rows, as they were met."""
        return self._loss

    def validate(self) -> tuple[NDArray[np.float64], float]:
        """Return predictions of the validation rows, and their MAE, AUC or likelihood."""
        if self.config.select != "nll" or self.output != "gaussian":
            return super().validate()
        rows = self.data.validation
        (outputs,) = evaluate_networks(
            [self.model], self.table, rows, view=self.view, device=self.device
        )
        mean = to_unit(outputs, self.scaling, self.data.task)
        noise = noise_in_unit(outputs, self.scaling)
        return mean, gaussian_likelihood(self.data.targets[rows], mean, noise)

    def try_large_batch(self) -> None:
        """Learn from the batch of the first epoch that has the most atoms, and predict as many.

        Shows what the fit needs of memory; the weights change.
        """
        self.model.train()
        order = np.random.default_rng([self.seed, 1]).permutation(self.data.train)
        batches = _batches(order, self.config.batch_size)
        largest = max(batches, key=lambda rows: int(self.table.n_sites[rows].sum()))
        for _ in range(2):  # the optimiser's moments come with the first step
            self._step(largest)
        most = SITES_PER_BATCH[self.device.type]
        validation = self.data.validation
        self.predict(validation[np.cumsum(self.table.n_sites[validation]) <= most])

    def _step(self, rows: NDArray[np.int64]) -> Tensor:
        batch = self.view.batch(self.table, rows).to(self.device)
        learned = self._learned[torch.from_numpy(rows)].to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss = _loss(self.model(batch), learned, output=self.output, name=self.config.loss)
        loss.backward()
        clip_gradients(self.model, self.config)
        self.optimizer.step()
        return loss.detach().double()


def _scales(config: FitConfig, data: FitData) -> bool:
    if config.target_scaling != "auto":
        return config.target_scaling == "standard"
    return data.task == "regression" and not is_ordinary(data.targets[data.train])


def _output(task: Task, config: FitConfig) -> Output:
    if config.loss != "gaussian_nll":
        return task
    if task == "classification":
        raise ConfigError(
            "training.loss 'gaussian_nll' learns the variance of a number, but the target is a"
            " class; leave training.loss out"
        )
    return "gaussian"


def _loss(out: Tensor, learned: Tensor, *, output: Output, name: str) -> Tensor:
    if output == "classification":
        return F.nll_loss(out, learned.long())
    if output == "gaussian":
        return gaussian_nll(out, learned.to(out.dtype))
    pair = out.squeeze(1), learned.to(out.dtype)
    return F.l1_loss(*pair) if name == "l1" else F.mse_loss(*pair)


def gaussian_nll(out: Tensor, learned: Tensor) -> Tensor:
    r"""Give the mean negative log likelihood of (n_crystals,) targets, but for its constant.

    .. math:: \frac{1}{2} \Bigl(\ln \sigma^2 + \frac{(y - \mu)^2}{\sigma^2}\Bigr)

    `out` holds :math:`\mu` and :math:`\ln \sigma^2`, (n_crystals, 2). Nix & Weigend, ICNN 1994.
    """
    mean, log_variance = out.unbind(1)
    return 0.5 * (log_variance + (learned - mean).square() * torch.exp(-log_variance)).mean()


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()  # a lone crystal joins the batch before it: batch norm needs two values
    return np.split(order, cuts)


def _mix(seed: int, epoch: int) -> int:
    """Give one torch seed for an epoch; SeedSequence keeps neighboring pairs independent."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
