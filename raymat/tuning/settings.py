"""How a search is run: how much, what stops a trial early, what proposes the next one."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raymat.config import Config, Epochs, Trials

WandbMode = Literal["off", "offline", "online"]


class Budget(Config):
    """How much may be tried.

    Attributes:
        trials: configurations, the default one (trial 0) included.
        epochs: epochs of a trial that nothing stops; the time axis of the scheduler.
    """

    trials: Trials
    epochs: Epochs


class Scheduler(Config):
    """What stops a trial before its last epoch.

    Attributes:
        name: ``asha`` (Li et al., MLSys 2020) or ``none``: every trial runs to its end.
        grace_period: epochs that every trial is given.
        reduction_factor: one trial in this many survives a rung.
    """

    name: Literal["asha", "none"] = "none"
    grace_period: Epochs = 5
    reduction_factor: int = Field(default=3, ge=2, le=1_000)


class Search(Config):
    """What proposes the next configuration.

    Attributes:
        name: ``tpe`` (tree-structured Parzen estimator), ``random``, ``grid``, or ``repeat``: the
            default configuration again and again, each time with another seed.
        startup_trials: trials drawn at random before tpe begins to learn.
    """

    name: Literal["tpe", "random", "grid", "repeat"] = "tpe"
    startup_trials: Trials = 10


class Resources(Config):
    """What one trial occupies.

    Attributes:
        cpu: CPU cores.
        gpu: GPUs; a fraction below 1 lets trials share one.
    """

    cpu: float = Field(default=1.0, gt=0.0, le=10_000.0)
    gpu: float = Field(default=0.0, ge=0.0, le=1_000.0)

    @model_validator(mode="after")
    def _shareable(self) -> Self:
        if self.gpu > 1 and not self.gpu.is_integer():
            raise ValueError(f"gpu above 1 must be a whole number, found {self.gpu:g}")
        return self
