"""What a model file declares: its configuration, how it is built and what it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor, nn

from raymat.config import Config
from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.features.table import Batch, FeatureView

BatchT = TypeVar("BatchT", bound=Batch)
FitKind = Literal["gradient", "closed_form"]
Output = Literal["regression", "classification", "gaussian"]
"""What a model gives for a crystal: a number, two classes, or a number and its variance."""


class CrystalModel(nn.Module, Generic[BatchT]):
    """A function from a batch of crystals to one row per crystal, in two steps.

    `latent` makes one vector of each crystal, and `from_latent` predicts from that vector alone.
    A model file writes these two, and `forward` is one after the other; so a distance between
    crystals in latent space is a distance between all that the prediction can depend on.
    """

    def forward(self, batch: BatchT) -> Tensor:
        """Predict a batch.

        Returns:
            Regression: (n_crystals, 1), in units of the scaled target. Classification:
            (n_crystals, 2) log-probabilities of class 0 and class 1. Gaussian: (n_crystals, 2),
            mean and logarithm of the variance, of the scaled target.
        """
        return self.from_latent(self.latent(batch))

    def latent(self, batch: BatchT) -> Tensor:
        """Give the crystals' vectors: (n_crystals, any), as wide for every batch."""
        raise NotImplementedError  # abstract: every model file overrides it

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from (n_crystals, any) vectors; see `forward`."""
        raise NotImplementedError  # abstract: every model file overrides it

    @property
    def n_parameters(self) -> int:
        """Numbers that training sets."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class ClosedFormModel(CrystalModel[BatchT]):
    """A model that is fitted in one call, not by epochs; what it learns are its buffers.

    The sizes of the buffers depend on the training rows, so an untrained model takes the sizes of
    what it is given by `load_state_dict`.
    """

    def prepare(self) -> None:
        """Import what `solve` needs, so that its time is that of the fit alone."""

    def solve(self, batch: BatchT, targets: Tensor, *, seed: int) -> None:
        """Fit to all training rows: targets (n_crystals,), scaled, or classes 0 and 1."""
        raise NotImplementedError  # abstract: every model file overrides it

    def find_damage(self) -> str | None:
        """Return what no fit leaves in the buffers; None where they fit together."""
        return None

    @property
    def n_parameters(self) -> int:
        """Numbers that training sets: the elements of all buffers."""
        return sum(buffer.numel() for buffer in self.buffers())

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **named: Any
    ) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.ndim == buffer.ndim:
                setattr(self, name, stored.new_empty(stored.shape).to(buffer.dtype))
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)


def _nothing(crystals: CrystalSet) -> Mapping[str, Any]:
    del crystals
    return {}


@dataclass(frozen=True)
class ModelSpec:
    """A model as the rest of raymat sees it.

    Attributes:
        config: its config class.
        build: config and output -> untrained model.
        reads: config -> what it reads of a crystal: a part of a graph, or a descriptor.
        fit: the loop that trains it: "gradient" (epochs) or "closed_form" (one call).
        training: training settings whose defaults differ from those of the loop, such as the
            optimiser that the model's authors used.
        warn: config, batch of the training crystals, targets and `task` -> one line if a fit will
            take long, else None.
        from_data: crystals -> fields of the config that the data decide, such as the elements of
            a descriptor; a field that is set in a configuration stays as it is set.
    """

    config: type[Config]
    build: Callable[[Any, Output], CrystalModel[Any]]
    reads: Callable[[Any], FeatureView]
    fit: FitKind = "gradient"
    training: Mapping[str, Any] = field(default_factory=dict)
    warn: Callable[..., str | None] | None = None
    from_data: Callable[[CrystalSet], Mapping[str, Any]] = _nothing

    def check_output(self, output: Output) -> None:
        """Check, before anything is computed, that the model can give an output.

        Raises:
            ConfigError: it cannot.
        """
        if output == "gaussian" and self.fit == "closed_form":
            raise ConfigError(
                "a model that is fitted in closed form predicts no variance; take one that is"
                " trained by epochs, such as cgcnn"
            )
