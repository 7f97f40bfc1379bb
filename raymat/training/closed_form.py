"""Fitting in one call: what `GradientFit` is for networks, for kernel models."""

import numpy as np
import torch

from raymat.config import Config
from raymat.models._spec import ClosedFormModel, ModelSpec
from raymat.training.config import ClosedFormConfig
from raymat.training.fit import Fit, FitData

LOSS_ROWS = 1000  # training rows of which the loss is taken; all would cost as much as the fit


class ClosedFormFit(Fit):
    """A model that is solved for all training rows at once; its only epoch is the solution.

    Args:
        spec: the model.
        model_config: its configuration.
        config: training settings.
        data: rows to learn from and to select by.
        seed: for models that draw something.
        device: taken for the sake of `GradientFit`; a solution is found on the CPU.
    """

    model: ClosedFormModel  # type: ignore[type-arg]  # any batch

    def __init__(
        self,
        spec: ModelSpec,
        model_config: Config,
        config: ClosedFormConfig,
        *,
        data: FitData,
        seed: int,
        device: str = "cpu",
    ) -> None:
        del device
        super().__init__(
            spec,
            model_config,
            data=data,
            output=data.task,
            scale_targets=config.target_scaling == "standard",
            seed=seed,
        )
        self.config = config
        self.model.prepare()

    @property
    def finished(self) -> bool:
        """Whether the solution is there."""
        return self.epoch > 0

    def train_epoch(self, epoch: int) -> None:
        """Solve."""
        del epoch
        rows = self.data.train
        learned = self._learned[torch.from_numpy(rows)]
        self.model.solve(self.view.batch(self.table, rows), learned, seed=self.seed)

    def training_loss(self) -> float:
        """Give the mean squared error over at most `LOSS_ROWS` training rows, scaled."""
        some = self.data.train[:LOSS_ROWS]
        wanted = self.scaling.scale(self.data.targets[some])
        errors = self.scaling.scale(self.predict(some)) - wanted
        return float(np.square(errors).mean())
