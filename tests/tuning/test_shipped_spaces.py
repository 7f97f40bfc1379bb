"""Every YAML in search_spaces/: it can be sampled and built, and each searched key matters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.graph import batch_graph
from raymat.features.neighbor_table import NeighborConfig, NeighborTable
from raymat.features.neighbors import build_neighbor_table
from raymat.models import load_spec
from raymat.training.config import FitConfig
from raymat.training.fit import Fit, FitData
from raymat.tuning.parameters import Alternative, values_reaching
from raymat.tuning.space import SearchSpace, read_space, shipped_spaces

SPACES = {name: read_space(str(path)) for name, path in shipped_spaces().items()}
N_SAMPLES = 50
N_TRAIN, N_VALIDATION = 40, 8  # more than the smallest batch, so that the batch size matters
ROUNDED = 0.005  # the file writes powers of e to two or three digits
N_EPOCHS = 2  # a schedule can begin to act after the first


def searched(section: str) -> list[Any]:
    return [
        pytest.param(space, parameter.key, alternative, id=f"{name}: {alternative.name}")
        for name, space in SPACES.items()
        for parameter in space.parameters
        for alternative in parameter.alternatives
        if parameter.key.startswith(f"{section}.")
    ]


@pytest.fixture(scope="module")
def table() -> NeighborTable:
    """Rock salt, every crystal with its own elements and lattice constant."""
    lattice = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    crystals = [
        Crystal(
            f"rock-salt-{i}",
            lattice * (4.5 + 0.03 * i),
            np.array([3 + i, 8 + (i % 3) * 8], dtype=np.uint8),
            np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        )
        for i in range(N_TRAIN + N_VALIDATION)
    ]
    crystal_set = CrystalSet.from_crystals(crystals, pd.DataFrame(index=range(len(crystals))))
    return build_neighbor_table(crystal_set, NeighborConfig(cutoff=8.0, max_neighbors=16))


@pytest.fixture(scope="module")
def data(table: NeighborTable) -> FitData:
    rows = np.arange(len(table))
    targets = np.random.default_rng(0).normal(2.0, 0.5, len(table))
    return FitData(table, targets, rows[:N_TRAIN], rows[N_TRAIN:], "regression")


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_samples_of_a_shipped_space_can_be_built(space: SearchSpace):
    spec = load_spec(space.model)
    built = set()
    for seed in range(N_SAMPLES):
        values = space.sample(np.random.default_rng(seed))
        config = space.configure(values)
        flat = config.flat()
        assert {key: flat[key] for key in values} == values
        assert config.training.epochs == space.budget.epochs
        spec.build(config.architecture, "regression")
        built.add(config.model_dump_json())
    assert len(built) == N_SAMPLES


def test_cgcnn_needs_no_download():
    assert (SPACES["cgcnn"].data, SPACES["cgcnn"].target) == ("delta", "log10_bulk_modulus")


def test_cgcnn_covers_the_search_of_its_paper():
    drawn = [SPACES["cgcnn"].sample(np.random.default_rng(seed)) for seed in range(400)]
    frame = pd.DataFrame(drawn)
    assert set(frame["model.convolution"]) == {"eq4", "eq5"}
    assert set(frame["model.n_conv"]) == set(range(1, 6))
    assert set(frame["model.n_hidden"]) == set(range(1, 6))
    assert set(frame["model.max_neighbors"]) == set(range(8, 17))
    assert set(frame["training.batch_size"]) == {32, 64, 128, 256, 512}
    assert len(set(frame["model.element_features"])) == 4
    ends = {
        key: SPACES["cgcnn"].active(drawn[0])[key].distribution.extremes()
        for key in ("model.atom_dim", "model.hidden_dim", "model.cutoff", "model.dropout")
    }
    assert list(ends.values()) == [(10, 200), (32, 256), (5.0, 8.0), (0.0, 0.2)]
    steps = [a.distribution.extremes() for a in lr_alternatives(SPACES["cgcnn"])]
    assert steps[0] == pytest.approx((np.exp(-8), np.exp(-3)), rel=ROUNDED), "Adam"
    assert steps[1] == (0.005, 0.05), "SGD"
    decay = SPACES["cgcnn"].active(drawn[0])["training.weight_decay"].distribution.extremes()
    assert decay == pytest.approx((np.exp(-14), 1.0), rel=ROUNDED)


@pytest.mark.parametrize(("space", "key", "alternative"), searched("model"))
def test_every_value_of_a_searched_model_key_gives_another_model(
    space: SearchSpace, key: str, alternative: Alternative, table: NeighborTable
):
    values = alternative.distribution.extremes()
    models = [behaviour(space, reach(space, alternative) | {key: v}, table) for v in values]
    for i, first in enumerate(models):
        for j, second in enumerate(models[:i]):
            assert first != second, f"{key} = {values[i]!r} and {values[j]!r} give the same model"


@pytest.mark.parametrize(("space", "key", "alternative"), searched("training"))
def test_a_searched_training_key_changes_the_training(
    space: SearchSpace, key: str, alternative: Alternative, data: FitData
):
    ends = alternative.distribution.extremes()
    base = reach(space, alternative)
    low, high = (trained(space, base | {key: value}, data) for value in (ends[0], ends[-1]))
    assert not torch.equal(low, high), f"{key} = {ends[0]!r} and {ends[-1]!r} train the same"
    again = trained(space, base | {key: ends[0]}, data)
    assert torch.equal(low, again), "the difference must come from the key, not from chance"


def lr_alternatives(space: SearchSpace) -> tuple[Alternative, ...]:
    return next(p.alternatives for p in space.parameters if p.key == "training.lr")


def reach(space: SearchSpace, alternative: Alternative) -> dict[str, Any]:
    return values_reaching(alternative, {p.key: p for p in space.parameters})


def behaviour(space: SearchSpace, values: Mapping[str, Any], table: NeighborTable) -> object:
    """Give the parameter shapes and what the untrained network answers in training mode."""
    spec, architecture = load_spec(space.model), space.configure(values).architecture
    torch.manual_seed(0)
    model = spec.build(architecture, "regression").train()
    torch.manual_seed(0)
    with torch.no_grad():
        answer = model(batch_graph(table, np.arange(8), spec.graph(architecture)))
    shapes = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    return shapes, answer.tolist()


def trained(space: SearchSpace, values: Mapping[str, Any], data: FitData) -> torch.Tensor:
    """Give the weights after a few epochs."""
    config = space.configure(values)
    settings = FitConfig(**(dict(config.training) | {"epochs": N_EPOCHS}))
    fitting = Fit(load_spec(space.model), config.architecture, settings, data=data, seed=0)
    while not fitting.finished:
        fitting.run_epoch()
    return torch.cat([p.detach().flatten() for p in fitting.model.parameters()])
