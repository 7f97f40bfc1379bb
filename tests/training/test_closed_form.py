"""Fitting in one call, with ridge regression on the mean element vector of a crystal."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting import TEST, TRAIN, VALIDATION, make_data
from pydantic import Field, ValidationError
from torch import Tensor

from raymat.config import Config
from raymat.data.scaling import TargetScaling
from raymat.errors import DataError, DivergedError, ModelFileError, RunError
from raymat.features.elements import element_features
from raymat.features.graph import CrystalGraph, mean_over_crystals
from raymat.features.graph_view import GraphView
from raymat.models._spec import ClosedFormModel, ModelSpec
from raymat.models._weights import load_weights
from raymat.training import closed_form
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.closed_form import ClosedFormFit
from raymat.training.config import ClosedFormConfig, FitConfig
from raymat.training.fit import fit
from raymat.training.gradient import GradientFit
from raymat.training.loops import start_fit, training_config
from raymat.training.metrics import mae
from raymat.training.results import conclude

ROUNDED = 1e-9  # float64 sums in another order


class RidgeConfig(Config):
    alpha: float = Field(1e-3, ge=0.0)


class Ridge(ClosedFormModel[CrystalGraph]):
    """Dual ridge regression: its buffers grow with the rows that it learned from."""

    rows: Tensor  # (n_train, 92) mean element vectors
    weights: Tensor  # (n_train,)

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.elements = torch.tensor(element_features("properties_9"), dtype=torch.float64)
        self.register_buffer("rows", torch.zeros(0, 92, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(0, dtype=torch.float64))
        self.solved = []

    def mean_vectors(self, graph):
        return mean_over_crystals(self.elements[graph.atomic_numbers], graph)

    def solve(self, batch, targets, *, seed):
        self.solved.append((batch.n_crystals, targets.clone(), seed))
        self.rows = self.mean_vectors(batch)
        gram = self.rows @ self.rows.T
        shift = self.config.alpha * torch.eye(len(gram), dtype=gram.dtype)
        self.weights = torch.linalg.solve(gram + shift, targets)

    def latent(self, batch):
        return self.mean_vectors(batch)

    def from_latent(self, crystals):
        values = (crystals @ self.rows.T @ self.weights)[:, None]
        if self.task == "classification":
            shares = values.clamp(0.01, 0.99)
            return torch.log(torch.cat([1 - shares, shares], dim=1))
        return values


SPEC = ModelSpec(
    config=RidgeConfig, build=Ridge, reads=lambda _: GraphView(8.0, 12), fit="closed_form"
)


@pytest.fixture(scope="module")
def data(twelve_crystals):
    return make_data(twelve_crystals)


def begin(data, *, seed=0, alpha=1e-3, **settings):
    return start_fit(
        SPEC,
        RidgeConfig(alpha=alpha),
        ClosedFormConfig(**{"target_scaling": "none", **settings}),
        data=data,
        seed=seed,
    )


def solved(data, **settings):
    fitting = begin(data, **settings)
    fit(fitting, lambda *_: None)
    return fitting


def by_hand(data, alpha, targets):
    """Give predictions of all crystals, from the primal normal equations."""
    crystals, vectors = data.features.crystals, element_features("properties_9").astype(float)
    x = np.stack([vectors[crystals[i].atomic_numbers].mean(axis=0) for i in range(12)])
    known = x[data.train]
    weights = np.linalg.solve(known.T @ known + alpha * np.eye(92), known.T @ targets[data.train])
    return x @ weights


def test_the_spec_names_the_loop():
    assert training_config(SPEC) is ClosedFormConfig
    assert training_config(replace(SPEC, fit="gradient")) is FitConfig


def test_the_loop_is_the_one_of_the_spec(data):
    assert type(begin(data)) is ClosedFormFit
    cgcnn = make_gradient_fit(data)
    assert type(cgcnn) is GradientFit


def make_gradient_fit(data):
    from raymat.models import load_spec

    spec = load_spec("cgcnn")
    sizes = spec.config(atom_dim=4, n_conv=1, hidden_dim=4)
    return start_fit(spec, sizes, FitConfig(), data=data, seed=0)


def test_finished_after_one_epoch(data):
    fitting, heard = begin(data), []
    assert not fitting.finished
    assert (fitting.epoch, fitting.n_parameters) == (0, 0)
    fit(fitting, lambda f, metrics: heard.append((f.epoch, metrics)))
    assert [(epoch, m.epoch) for epoch, m in heard] == [(1, 1)]
    assert fitting.finished
    assert fitting.best == fitting.history[0]
    assert fitting.n_parameters == 7 * 92 + 7
    assert conclude(fitting).epochs == 1


def test_the_solution_is_that_of_the_normal_equations(data):
    fitting = solved(data, alpha=0.5)
    expected = by_hand(data, 0.5, data.targets)
    assert fitting.predict(np.arange(12)) == pytest.approx(expected, abs=ROUNDED)
    score = mae(data.targets[VALIDATION], expected[VALIDATION])
    assert fitting.best.val_score == pytest.approx(score, abs=ROUNDED)
    loss = np.square(expected[TRAIN] - data.targets[TRAIN]).mean()
    assert fitting.best.train_loss == pytest.approx(loss, abs=ROUNDED)


def test_scaled_targets_are_learned_and_given_back(data):
    """Without an intercept the ridge is another function of scaled targets."""
    fitting = solved(data, alpha=0.5, target_scaling="standard")
    scaling = TargetScaling.fit(data.targets[TRAIN])
    assert fitting.scaling == scaling
    scaled = scaling.scale(data.targets)
    expected = scaling.restore(by_hand(data, 0.5, scaled))
    assert fitting.predict(np.arange(12)) == pytest.approx(expected, abs=ROUNDED)
    assert fitting.predict(TEST) != pytest.approx(solved(data, alpha=0.5).predict(TEST), abs=1e-3)
    loss = np.square(by_hand(data, 0.5, scaled)[TRAIN] - scaled[TRAIN]).mean()
    assert fitting.best.train_loss == pytest.approx(loss, abs=ROUNDED)


def test_by_default_the_target_is_learned_in_standard_deviations(data):
    assert ClosedFormConfig() == ClosedFormConfig(target_scaling="standard")
    assert solved(data, target_scaling="none").scaling == TargetScaling()
    with pytest.raises(ValidationError, match="target_scaling"):
        ClosedFormConfig(target_scaling="minmax")
    with pytest.raises(ValidationError, match="epochs"):
        ClosedFormConfig(epochs=3)


def test_it_is_solved_once_for_the_training_rows_alone(data):
    ((n, targets, seed),) = solved(data, seed=5).model.solved
    assert (n, seed) == (len(TRAIN), 5)
    assert targets.tolist() == data.targets[TRAIN].tolist()


def test_other_rows_do_not_train(data):
    poisoned = data.targets.copy()
    poisoned[VALIDATION], poisoned[TEST] = 1e6, np.nan
    a, b = solved(data), solved(replace(data, targets=poisoned))
    assert np.array_equal(a.predict(np.arange(12)), b.predict(np.arange(12)))
    assert a.best.val_score != b.best.val_score


def test_classes_are_learned_as_zeros_and_ones(twelve_crystals):
    classes = make_data(twelve_crystals, target="is_high")
    fitting = solved(classes, target_scaling="standard")  # classes are never scaled
    assert fitting.scaling == TargetScaling()
    ((_, learned, _),) = fitting.model.solved
    assert set(learned.tolist()) == {0.0, 1.0}
    predicted = fitting.predict(np.arange(12))
    assert ((predicted > 0) & (predicted < 1)).all()


def test_loss_of_many_rows_is_taken_of_the_first(data, monkeypatch):
    monkeypatch.setattr(closed_form, "LOSS_ROWS", 3)
    fitting = solved(data, alpha=0.5)
    errors = by_hand(data, 0.5, data.targets)[TRAIN[:3]] - data.targets[TRAIN[:3]]
    assert fitting.best.train_loss == pytest.approx(np.square(errors).mean(), abs=ROUNDED)


def test_solution_that_is_not_finite(data, monkeypatch):
    fitting = begin(data)
    monkeypatch.setattr(
        Ridge, "forward", lambda _, batch: torch.full((batch.n_crystals, 1), torch.inf)
    )
    with pytest.raises(DivergedError, match="in epoch 1"):
        fitting.run_epoch()
    assert not fitting.finished


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_rows_that_are_too_few(data, scaling):
    with pytest.raises(DataError, match="1 training and 3 validation rows are too few"):
        begin(replace(data, train=np.array([0])), target_scaling=scaling)


def test_state_round_trip(data):
    fitting = solved(data)
    again = begin(data, seed=3)
    again.load_state(fitting.state())
    assert again.finished
    assert (again.history, again.best) == (fitting.history, fitting.best)
    assert again.n_parameters == fitting.n_parameters
    assert np.array_equal(again.predict(np.arange(12)), fitting.predict(np.arange(12)))
    fit(again, lambda *_: pytest.fail("there was nothing left to do"))
    assert again.model.solved == []


def test_checkpoint_round_trip(data, tmp_path):
    assert not load_checkpoint(begin(data), tmp_path / "last.pt")
    fitting = solved(data)
    save_checkpoint(fitting, tmp_path / "last.pt")
    again = begin(data, seed=3)
    assert load_checkpoint(again, tmp_path / "last.pt")
    assert np.array_equal(again.predict(np.arange(12)), fitting.predict(np.arange(12)))
    assert again.best == fitting.best
    again.use_best_weights()
    assert np.array_equal(again.predict(np.arange(12)), fitting.predict(np.arange(12)))


def test_checkpoint_before_the_solution(data, tmp_path):
    save_checkpoint(begin(data), tmp_path / "last.pt")
    again = begin(data)
    load_checkpoint(again, tmp_path / "last.pt")
    assert not again.finished
    fit(again, lambda *_: None)
    assert np.array_equal(again.predict(TEST), solved(data).predict(TEST))


def test_checkpoint_of_a_network_is_refused(data, tmp_path):
    network = make_gradient_fit(data)
    network.run_epoch()
    save_checkpoint(network, tmp_path / "last.pt")
    with pytest.raises(RunError, match="not a checkpoint of this configuration, or damaged"):
        load_checkpoint(begin(data), tmp_path / "last.pt")


def test_stored_weights_bring_their_sizes(data):
    weights = solved(data).model.state_dict()
    model = Ridge(RidgeConfig(), "regression")
    load_weights(model, weights, where="model.safetensors")
    assert model.rows.shape == (7, 92)
    assert torch.equal(model.weights, weights["weights"])
    again = Ridge(RidgeConfig(), "regression").double()
    load_weights(again, {k: v.float() for k, v in weights.items()}, where="model.safetensors")
    assert again.weights.dtype == torch.float64  # the type is the model's own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, r"missing \['weights'\], left over \[\]"),
        ({"extra": torch.zeros(2)}, r"missing \[\], left over \['extra'\]"),
    ],
)
def test_stored_weights_that_do_not_fit(data, changes, message):
    weights = {**solved(data).model.state_dict(), **changes}
    weights = {name: tensor for name, tensor in weights.items() if tensor is not None}
    with pytest.raises(ModelFileError, match=f"model.safetensors: {message}"):
        load_weights(Ridge(RidgeConfig(), "regression"), weights, where="model.safetensors")


def test_stored_weights_of_another_dimension(data):
    weights = {**solved(data).model.state_dict(), "weights": torch.zeros(7, 2)}
    with pytest.raises(ModelFileError, match=r"'weights' has shape \(7, 2\); expected 1 dim"):
        load_weights(Ridge(RidgeConfig(), "regression"), weights, where="model.safetensors")
