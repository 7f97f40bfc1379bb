"""Every YAML in search_spaces/: it can be sampled and built, and each searched key matters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.store import FeatureStore
from raymat.models import available, load_spec
from raymat.models._spec import ClosedFormModel, CrystalModel
from raymat.training.fit import FitData
from raymat.training.loops import start_fit
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
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Distorted rock salt, every crystal with its own elements and lattice constant.

    Without the distortion much of a descriptor would vanish by symmetry.
    """
    lattice = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    moved = 0.5 + np.random.default_rng(1).uniform(-0.1, 0.1, (N_TRAIN + N_VALIDATION, 3))
    crystals = [
        Crystal(
            f"rock-salt-{i}",
            lattice * (4.5 + 0.03 * i),
            np.array([3 + i, 8 + (i % 3) * 8], dtype=np.uint8),
            np.array([[0.0, 0.0, 0.0], moved[i]]),
        )
        for i in range(N_TRAIN + N_VALIDATION)
    ]
    crystal_set = CrystalSet.from_crystals(crystals)
    graphs = NeighborConfig(cutoff=8.0, max_neighbors=16).build(crystal_set)
    return FeatureStore(crystal_set, (graphs,), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def data(features: FeatureStore) -> FitData:
    rows = np.arange(len(features.crystals))
    targets = np.random.default_rng(0).normal(2.0, 0.5, len(rows))
    return FitData(features, targets, rows[:N_TRAIN], rows[N_TRAIN:], "regression")


def test_every_model_has_a_space():
    assert {space.model for space in SPACES.values()} == set(available())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_samples_of_a_shipped_space_can_be_built(space: SearchSpace, features: FeatureStore):
    spec, space = load_spec(space.model), space.decided_by(features.crystals)
    built = set()
    for seed in range(N_SAMPLES):
        values = space.sample(np.random.default_rng(seed))
        config = space.configure(values)
        flat = config.flat()
        assert {key: flat[key] for key in values} == values
        if spec.fit == "gradient":
            assert config.training.epochs == space.budget.epochs
        spec.build(config.architecture, "regression")
        spec.reads(config.architecture)
        built.add(config.model_dump_json())
    assert len(built) == N_SAMPLES


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_what_is_fitted_in_one_call_has_one_epoch(space: SearchSpace):
    """Nothing could be stopped early, and a budget of epochs would be a lie."""
    if load_spec(space.model).fit == "closed_form":
        assert (space.budget.epochs, space.scheduler.name) == (1, "none")
    else:
        assert space.budget.epochs > 1


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
    space: SearchSpace, key: str, alternative: Alternative, data: FitData
):
    values = alternative.distribution.extremes()
    models = [behaviour(space, reach(space, alternative) | {key: v}, data) for v in values]
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


def behaviour(space: SearchSpace, values: Mapping[str, Any], data: FitData) -> object:
    """Give the shapes of what is learned, and what the model answers.

    A network is not trained, and in training mode; a closed form is solved.
    """
    space = space.decided_by(data.features.crystals)
    spec, architecture = load_spec(space.model), space.configure(values).architecture
    view = spec.reads(architecture)
    table = data.features.find(view.table_config)
    torch.manual_seed(0)
    model = spec.build(architecture, "regression").train()
    if isinstance(model, ClosedFormModel):
        targets = torch.tensor(data.targets[data.train])
        model.solve(view.batch(table, data.train), targets, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        answer = model(view.batch(table, np.arange(8)))
    return [tuple(tensor.shape) for tensor in learned(model)], answer.tolist()


def trained(space: SearchSpace, values: Mapping[str, Any], data: FitData) -> torch.Tensor:
    """Give what is learned in a few epochs."""
    config = space.decided_by(data.features.crystals).configure(values)
    settings = dict(config.training)
    if "epochs" in settings:
        settings["epochs"] = N_EPOCHS
    fitting = start_fit(
        load_spec(space.model),
        config.architecture,
        type(config.training)(**settings),
        data=data,
        seed=0,
    )
    while not fitting.finished:
        fitting.run_epoch()
    return torch.cat([tensor.detach().double().flatten() for tensor in learned(fitting.model)])


def learned(model: CrystalModel[Any]) -> list[torch.Tensor]:
    """Give what training sets: parameters, or the buffers of a closed form."""
    closed = isinstance(model, ClosedFormModel)
    return list(model.buffers() if closed else model.parameters())
