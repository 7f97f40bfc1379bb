"""What the contracts run over: every model as it stands, and with each of its choices turned."""

import types
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch

from raymat.config import Config
from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.graph_view import GraphView
from raymat.features.table import Batch, FeatureTable, FeatureView
from raymat.models import available, load_spec
from raymat.models._spec import ClosedFormModel, CrystalModel, FitKind, ModelSpec, Output
from raymat.training.loops import training_config
from raymat.tuning.trial_config import TrialConfig

# Of every crystal in the contracts; what a configuration leaves to the data is settled by these.
ELEMENTS = (3, 8, 11, 14, 17, 19, 22, 28, 29, 38, 54, 55)


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
    def is_capped(self) -> bool:
        """Whether its graphs keep the nearest neighbors only, which may cut through a shell."""
        return "max_neighbors" in self.spec.config.model_fields

    @property
    def ties_by_index(self) -> bool:
        """Whether it chooses among equally distant neighbors by index, as the authors' graphs."""
        return self.changes.get("pad") == "reference"

    @property
    def config(self) -> Config:
        open_config = TrialConfig(
            model=self.name,
            architecture=self.spec.config(**self.changes),
            training=training_config(self.spec)(),
        )
        return open_config.decided_by(one_of_each_element()).architecture

    @property
    def view(self) -> FeatureView:
        return self.spec.reads(self.config)

    def with_changes(self, **changes: Any) -> "Variant":
        return replace(self, changes={**self.changes, **changes})

    def network(self, output: Output = "regression", seed: int = 0) -> CrystalModel[Any]:
        torch.manual_seed(seed)
        return self.spec.build(self.config, output)

    def used_network(
        self, crystals: CrystalSet, target: str, output: Output = "regression"
    ) -> CrystalModel[Any]:
        """Give a float64 model in evaluation mode that is not as it was built.

        A closed form is solved for the crystals; a network's running statistics have seen some.
        """
        network = self.network(output).double().train()
        if isinstance(network, ClosedFormModel):
            learned = torch.tensor(crystals.target(target))
            network.solve(self.batch(self.table(crystals)), learned, seed=0)
            return network.eval()
        seen = self.batch(self.table(crystals.take(np.arange(4, 8))))
        with torch.no_grad():
            for _ in range(10):
                network(seen)
        return network.eval()

    def table(self, crystals: CrystalSet) -> FeatureTable:
        return self.view.table_config.build(crystals)

    def batch(self, table: FeatureTable) -> Batch:
        return self.view.batch(table, np.arange(len(table)))

    def answer(self, network: CrystalModel[Any], crystals: CrystalSet | Crystal) -> np.ndarray:
        """Give all outputs: (n_crystals, 1) or (n_crystals, 2)."""
        crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
        with torch.inference_mode():
            return network(self.batch(self.table(crystals))).numpy()

    def predict(self, network: CrystalModel[Any], crystals: CrystalSet | Crystal) -> np.ndarray:
        return self.answer(network, crystals)[:, 0]

    def latent(self, network: CrystalModel[Any], crystals: CrystalSet | Crystal) -> np.ndarray:
        """Give the crystals' vectors before the head."""
        crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
        with torch.inference_mode():
            return network.latent(self.batch(self.table(crystals))).numpy()

    def reads_the_same(self, first: Crystal, second: Crystal) -> bool:
        """Whether the two crystals reach the model as the same numbers."""
        batches = [vars(self.batch(self.table(one(crystal)))) for crystal in (first, second)]
        return all(
            torch.equal(value, batches[1][name])
            for name, value in batches[0].items()
            if isinstance(value, torch.Tensor)
        )

    def unusable(self, crystals: CrystalSet | Crystal) -> dict[int, str]:
        crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
        return self.view.unusable(crystals, self.table(crystals))

    def doubtful(self, crystals: CrystalSet | Crystal) -> dict[int, str]:
        crystals = one(crystals) if isinstance(crystals, Crystal) else crystals
        return self.view.doubtful(crystals, self.table(crystals))


def variants() -> list[Variant]:
    """Every model, and every model with every word that a field of its config may hold."""
    return [
        Variant(name, changes)
        for name in available()
        for changes in ({}, *_changed_words(load_spec(name).config))
    ]


def fitted_by(kind: FitKind) -> pytest.MarkDecorator:
    """Let a test run over the models that are fitted by this kind of loop."""
    return _over([v for v in variants() if v.spec.fit == kind])


def learners() -> pytest.MarkDecorator:
    """Let a test run over every network as it stands, and every choice of those on graphs.

    What a descriptor leaves out, such as the elements, no network can learn.
    """
    networks = [v for v in variants() if v.spec.fit == "gradient"]
    return _over([v for v in networks if not v.changes or isinstance(v.view, GraphView)])


def capped() -> pytest.MarkDecorator:
    """Let a test run over the models whose number of neighbors is capped."""
    return _over([v for v in variants() if v.is_capped])


def _over(chosen: list[Variant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("variant", chosen, indirect=True, ids=str)


def _changed_words(config: type[Config]) -> list[dict[str, Any]]:
    return [
        {key: word}
        for key, field in config.model_fields.items()
        for word in _words(field.annotation)
        if word != field.default
    ]


def _words(annotation: Any) -> tuple[Any, ...]:
    if annotation is bool:
        return (False, True)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (types.UnionType, Union):
        return tuple(word for part in get_args(annotation) for word in _words(part))
    return ()


def one(crystal: Crystal) -> CrystalSet:
    return CrystalSet.from_crystals([crystal])


def one_of_each_element() -> CrystalSet:
    coordinates = np.arange(len(ELEMENTS))[:, None] / len(ELEMENTS) * np.ones(3)
    numbers = np.array(ELEMENTS, dtype=np.uint8)
    return one(Crystal("all", np.eye(3) * 30.0, numbers, coordinates))
