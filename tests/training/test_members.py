"""Several trained models on one shared batch, and latent vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting import make_data, make_fit, run, table_of

from raymat.data.scaling import TargetScaling
from raymat.errors import ConfigError
from raymat.features.graph_view import GraphView
from raymat.training.members import latent_vectors, predict_members
from raymat.training.model_files import TrainedModel
from raymat.training.results import conclude

ROUNDED = 1e-12  # relative, of float64


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Bitwise equality is promised for one CPU thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(twelve_crystals):
    return make_data(twelve_crystals)


@pytest.fixture(scope="module")
def table(twelve_crystals):
    return table_of(twelve_crystals)


def member(data, *, seed=0, model=None, **settings) -> TrainedModel:
    fitting = run(make_fit(data, seed=seed, model=model, **settings), 2)
    result = conclude(fitting)
    return TrainedModel(
        name="cgcnn",
        config=fitting.model.config,
        network=result.network,
        target="y",
        unit="eV",
        task=data.task,
        scaling=replace(result.scaling, mean=result.scaling.mean + seed),
        threshold=None,
        elements=(11, 17),
        training={},
        predicts_noise=result.noise is not None,
    )


@pytest.fixture(scope="module")
def members(data):
    return [member(data, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def gaussians(data):
    return [member(data, seed=seed, loss="gaussian_nll") for seed in range(2)]


def test_members_are_what_each_gives_alone(members, table):
    values, noise = predict_members(members, table)
    assert noise is None
    assert values.shape == (3, 12)
    assert np.array_equal(values, [model.predict(table) for model in members])
    assert np.ptp(values, axis=0).min() > 0


def test_batches_are_shared(members, table, monkeypatch):
    made, batch = [], GraphView.batch

    def counted(view, table, rows):
        made.append(len(rows))
        return batch(view, table, rows)

    monkeypatch.setattr(GraphView, "batch", counted)
    monkeypatch.setattr("raymat.training.predict.SITES_PER_BATCH", {"cpu": 20})
    together, _ = predict_members(members, table)
    assert len(made) > 1
    assert sum(made) == 12
    assert np.array_equal(together, [model.predict(table) for model in members])


def test_rows_are_in_the_order_asked_for(members, table):
    rows = np.array([7, 0, 3])
    some, _ = predict_members(members, table, rows)
    everything, _ = predict_members(members, table)
    assert some == pytest.approx(everything[:, rows], abs=1e-6)


def test_no_rows_and_no_members(members, table):
    assert predict_members(members, table, np.zeros(0, dtype=np.int64))[0].shape == (3, 0)
    assert predict_members([], table)[0].shape == (0, 12)


def test_members_of_different_views(data, members, table):
    near = member(data, seed=5, model={"cutoff": 5.0, "max_neighbors": 8})
    mixed = [members[0], near, members[1]]
    values, _ = predict_members(mixed, table)
    assert np.array_equal(values, [model.predict(table) for model in mixed])


def test_table_that_is_too_small(twelve_crystals, members):
    small = GraphView(5.0, 8).table_config.build(twelve_crystals)
    with pytest.raises(ValueError, match="is smaller than the view"):
        predict_members(members, small)


def test_classes(twelve_crystals, table):
    classifier = member(make_data(twelve_crystals, target="is_high"))
    (values,), noise = predict_members([classifier], table)
    assert noise is None
    assert ((values > 0) & (values < 1)).all()
    assert np.array_equal(values, classifier.predict(table))


def test_noise_has_the_unit_of_the_target(gaussians, table):
    values, noise = predict_members(gaussians, table)
    assert values.shape == noise.shape == (2, 12)
    assert (noise > 0).all()
    scaling = gaussians[0].scaling
    wider = TargetScaling(mean=scaling.mean, std=1000 * scaling.std)
    _, (larger,) = predict_members([replace(gaussians[0], scaling=wider)], table)
    assert larger == pytest.approx(1000 * noise[0], rel=ROUNDED)
    batch = gaussians[0].view.batch(table, np.arange(12))
    with torch.inference_mode():
        log_variance = gaussians[0].network(batch)[:, 1].double().numpy()
    assert noise[0] == pytest.approx(scaling.std * np.exp(log_variance / 2), rel=1e-6)
    assert values[0] == pytest.approx(gaussians[0].predict(table), rel=ROUNDED)


def test_noise_of_a_part_of_the_members_is_none(members, gaussians, table):
    values, noise = predict_members([*gaussians, members[0]], table)
    assert noise is None
    assert np.array_equal(values[2], members[0].predict(table))


def test_gaussian_score_is_the_error_of_the_mean(data):
    fitting = run(make_fit(data, loss="gaussian_nll"), 2)
    errors = data.targets[data.validation] - fitting.predict(data.validation)
    assert fitting.history[-1].val_score == pytest.approx(np.abs(errors).mean(), rel=ROUNDED)


def test_class_has_no_variance(twelve_crystals):
    classes = make_data(twelve_crystals, target="is_high")
    with pytest.raises(ConfigError, match=r"training\.loss 'gaussian_nll' .* leave training\.loss"):
        make_fit(classes, loss="gaussian_nll")


def test_latent_vectors(members, table):
    found = latent_vectors(members[0], table)
    assert (found.shape, found.dtype) == ((12, 8), np.float32)  # SMALL's atom_dim
    with torch.inference_mode():
        answer = members[0].network.from_latent(torch.from_numpy(found)).double().numpy()
    expected = members[0].predict(table)
    assert members[0].scaling.restore(answer[:, 0]) == pytest.approx(expected, abs=1e-5)
    rows = np.array([4, 2])
    assert latent_vectors(members[0], table, rows) == pytest.approx(found[rows], abs=1e-6)


def test_latent_vectors_of_nothing(members, table):
    with pytest.raises(ValueError, match="no crystals were asked for"):
        latent_vectors(members[0], table, np.zeros(0, dtype=np.int64))
