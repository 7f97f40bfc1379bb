"""What a model file declares: its configuration, how it is built and what it reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from raymat.config import Config
from raymat.features.graph import CrystalGraph, GraphView
from raymat.properties import Task


class CrystalModel(nn.Module):
    """A network from a batch of crystals to one row per crystal.

    Regression gives (n_crystals, 1), in units of the scaled target; classification gives
    (n_crystals, 2) log-probabilities of class 0 and class 1.
    """

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Predict a batch."""
        raise NotImplementedError  # abstract: every model file overrides it


@dataclass(frozen=True)
class ModelSpec:
    """A model as the rest of raymat sees it.

    Attributes:
        config: its config class.
        build: config and task -> untrained network.
        graph: config -> the part of a neighbor table that it reads.
        fit: the loop that trains it: "gradient" (epochs) or "closed_form" (one call).
    """

    config: type[Config]
    build: Callable[[Any, Task], CrystalModel]
    graph: Callable[[Any], GraphView]
    fit: Literal["gradient", "closed_form"] = "gradient"
