"""How a model is trained: optimiser, schedule, length."""

from typing import Literal

from pydantic import Field, model_validator

from raymat.config import Config, Epochs


class FitConfig(Config):
    """Training settings of a network; defaults are those of the CGCNN authors' code.

    The schedule is a function of the epoch and of this configuration alone. It never depends on
    how long a trial is allowed to live, so a trial stopped by ASHA has walked the start of the
    very schedule it would have completed.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0.0, le=10.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0)  # sgd only
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)  # L2 for sgd and adam, decoupled for adamw
    schedule: Literal["constant", "step", "cosine"] = "step"
    # Epochs after which a step schedule multiplies by gamma.
    milestones: tuple[int, ...] = Field((100,), max_length=1_000)
    gamma: float = Field(0.1, gt=0.0, le=1.0)
    epochs: Epochs = 30
    batch_size: int = Field(256, ge=2, le=65_536)
    # On scaled targets; classes use the log likelihood. "gaussian_nll" predicts a variance, too.
    loss: Literal["mse", "l1", "gaussian_nll"] = "mse"
    # Of numbers, by the training rows; "auto" scales what lies far from 1 only, see `is_ordinary`.
    target_scaling: Literal["standard", "none", "auto"] = "standard"
    clip_norm: float | None = Field(None, gt=0.0)  # of the gradient
    clip_per: Literal["all", "tensor"] = "all"  # tensor: each by itself, as Keras' clipnorm
    # What the best epoch and trial are chosen by, for numbers: the error of the mean, or the
    # likelihood of mean and variance ("gaussian_nll" only).
    select: Literal["mae", "nll"] = "mae"
    patience: Epochs | None = None  # epochs without a better validation score

    @model_validator(mode="after")
    def _likelihood_needs_a_variance(self) -> "FitConfig":
        if self.select == "nll" and self.loss != "gaussian_nll":
            raise ValueError(
                "training.select 'nll' needs training.loss 'gaussian_nll' in every configuration;"
                f" here it is '{self.loss}'"
            )
        return self

    @model_validator(mode="after")
    def _milestones_ascend(self) -> "FitConfig":
        if (
            list(self.milestones) != sorted(set(self.milestones))
            or min(self.milestones, default=1) < 1
        ):
            raise ValueError("milestones must be ascending epochs from 1 on")
        return self


class ClosedFormConfig(Config):
    """Training settings of a model that is fitted in one call.

    With ``target_scaling: none`` a model learns targets in their own unit, as the SVR of Abenza's
    thesis does; its `epsilon` then is in that unit, too.
    """

    target_scaling: Literal["none", "standard"] = "standard"  # of numbers, by the training rows
