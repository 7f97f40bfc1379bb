"""What the contracts run over: every model as it stands, and with each of its choices turned."""

import types
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch

from raymat.config import Config
from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.graph import CrystalGraph, GraphView, batch_graph
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.models import available, load_spec
from raymat.models._spec import CrystalModel, ModelSpec
from raymat.properties import Task


@dataclass(frozen=True)
class Variant:
    """One model with one configuration: its default, or one word of it changed."""

    name: str
    changes: dict[str, Any]

    def __str__(self) -> str:
        changed = ",".join(f"{key}={value}" for key, value in self.changes.items())
        return f"{self.name}[{changed or 'default'}]"

    @property
    def spec(self) -> ModelSpec:
        return load_spec(self.name)

    @property
    def config(self) -> Config:
        return self.spec.config(**self.changes)

    @property
    def view(self) -> GraphView:
        return self.spec.graph(self.config)

    def network(self, task: Task = "regression", seed: int = 0) -> CrystalModel:
        torch.manual_seed(seed)
        return self.spec.build(self.config, task)

    def used_network(self, table: NeighborTable) -> CrystalModel:
        """Give a float64 network in evaluation mode whose running statistics saw crystals."""
        network = self.network().double().train()
        with torch.no_grad():
            for _ in range(10):
                network(self.graph(table))
        return network.eval()

    def table(self, crystals: CrystalSet) -> NeighborTable:
        view = self.view
        config = NeighborConfig(cutoff=view.cutoff, max_neighbors=view.max_neighbors)
        return build_neighbor_table(crystals, config)

    def graph(self, table: NeighborTable) -> CrystalGraph:
        return batch_graph(table, np.arange(len(table)), self.view)

    def predict(self, network: CrystalModel, crystals: CrystalSet | Crystal) -> np.ndarray:
        crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
        with torch.inference_mode():
            return network(self.graph(self.table(crystals))).numpy()[:, 0]


def variants() -> list[Variant]:
    """Every model, and every model with every word that a field of its config may hold."""
    return [
        Variant(name, changes)
        for name in available()
        for changes in ({}, *_changed_words(load_spec(name).config))
    ]


def _changed_words(config: type[Config]) -> list[dict[str, Any]]:
    return [
        {key: word}
        for key, field in config.model_fields.items()
        for word in _words(field.annotation)
        if word != field.default
    ]


def _words(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is types.UnionType:
        return tuple(word for part in get_args(annotation) for word in _words(part))
    return ()


def one(crystal: Crystal) -> CrystalSet:
    return CrystalSet.from_crystals([crystal])
