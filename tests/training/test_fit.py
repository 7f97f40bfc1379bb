"""Fitting: repeatable, resumable, selected on validation rows, blind to everything else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting import (
    TEST,
    TRAIN,
    VALIDATION,
    make_data,
    make_fit,
    run,
    same_weights,
    scores,
    weights,
)

from raymat.data.scaling import TargetScaling
from raymat.errors import DataError, DivergedError
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.fit import fit
from raymat.training.gradient import _batches, _mix
from raymat.training.metrics import mae, roc_auc


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(twelve_crystals):
    return make_data(twelve_crystals)


@pytest.fixture(scope="module")
def classes(twelve_crystals):
    return make_data(twelve_crystals, target="is_high")


SETTINGS = {
    "adam, cosine, dropout": ({"schedule": "cosine"}, {"dropout": 0.2}),
    "sgd, step": ({"optimizer": "sgd", "lr": 0.05, "milestones": (3, 6), "schedule": "step"}, {}),
    "adamw, clipped": ({"optimizer": "adamw", "clip_norm": 0.5, "weight_decay": 0.1}, {}),
    "learned elements": ({}, {"element_features": "learned", "dropout": 0.1}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_five_and_five_epochs_are_ten(data, tmp_path, name):
    settings, model = SETTINGS[name]
    whole = run(make_fit(data, seed=4, model=model, **settings), 10)
    first = run(make_fit(data, seed=4, model=model, **settings), 5)
    save_checkpoint(first, tmp_path / "last.pt")
    torch.manual_seed(99)  # whatever else drew random numbers in between
    second = make_fit(data, seed=4, model=model, **settings)
    assert load_checkpoint(second, tmp_path / "last.pt")
    run(second, 5)
    assert same_weights(whole, second)
    assert scores(whole) == scores(second)
    assert whole.best.epoch == second.best.epoch
    whole.use_best_weights()
    second.use_best_weights()
    assert same_weights(whole, second)


def test_a_checkpoint_after_every_epoch_changes_nothing(data, tmp_path):
    whole = run(make_fit(data, model={"dropout": 0.2}), 4)
    for _ in range(4):
        part = make_fit(data, model={"dropout": 0.2})
        load_checkpoint(part, tmp_path / "last.pt")
        save_checkpoint(run(part, 1), tmp_path / "last.pt")
    assert same_weights(whole, part)


def test_same_seed_same_bits(data):
    assert same_weights(run(make_fit(data, seed=1), 3), run(make_fit(data, seed=1), 3))
    assert not same_weights(run(make_fit(data, seed=1), 3), run(make_fit(data, seed=2), 3))


def test_seed_decides_weights_order_and_dropout(data):
    """Each on its own: equal weights at the start, then another order gives other losses."""
    first, second = make_fit(data, seed=1), make_fit(data, seed=2)
    assert not same_weights(first, second)
    second.model.load_state_dict(first.model.state_dict())
    assert first.run_epoch().train_loss != second.run_epoch().train_loss
    assert len({_mix(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400


def test_cosine_does_not_depend_on_when_a_trial_is_stopped(data):
    """Three epochs of ten walk the start of the ten, not a shorter schedule."""
    stopped = run(make_fit(data, schedule="cosine", epochs=10), 3)
    complete = run(make_fit(data, schedule="cosine", epochs=10), 10)
    assert scores(stopped) == scores(complete)[:3]
    shorter = run(make_fit(data, schedule="cosine", epochs=3), 3)
    assert scores(shorter) != scores(stopped)


def test_best_epoch_has_the_lowest_validation_mae(data):
    fitting = make_fit(data, epochs=8)
    seen = []
    fit(fitting, lambda f, metrics: seen.append((metrics, weights(f))))
    assert [metrics.epoch for metrics, _ in seen] == list(range(1, 9))
    best, at_best = min(seen, key=lambda pair: pair[0].val_score)
    assert fitting.best == best
    assert all(np.array_equal(v, weights(fitting)[k]) for k, v in at_best.items())
    predicted = fitting.predict(VALIDATION)
    assert mae(data.targets[VALIDATION], predicted) == pytest.approx(best.val_score, rel=1e-12)


def test_classes_are_selected_by_the_highest_auc(classes):
    fitting = make_fit(classes, epochs=8, lr=0.02)
    fit(fitting, lambda *_: None)
    aucs = [m.val_score for m in fitting.history]
    assert fitting.best.val_score == max(aucs)
    assert fitting.best.epoch == aucs.index(max(aucs)) + 1
    predicted = fitting.predict(VALIDATION)
    assert ((predicted >= 0) & (predicted <= 1)).all()
    assert roc_auc(classes.targets[VALIDATION], predicted) == fitting.best.val_score
    assert fitting.scaling == TargetScaling()


def test_classes_are_learned(classes):
    everything = replace(classes, train=np.arange(12), validation=np.arange(12))
    fitting = make_fit(everything, lr=0.02, batch_size=12, epochs=60, model={"dropout": 0.0})
    fit(fitting, lambda *_: None)
    assert fitting.best.val_score == 1.0
    assert fitting.history[-1].train_loss < 0.5 * fitting.history[0].train_loss


def test_early_stopping_ends_on_the_best_weights(data, monkeypatch):
    fitting = make_fit(data, patience=3, epochs=50)
    planned = iter([5.0, 4.0, 4.5, 3.0, 3.0, 3.2, 9.0, 0.0])
    monkeypatch.setattr("raymat.training.fit.validation_score", lambda *_: next(planned))
    seen = []
    fit(fitting, lambda f, _: seen.append(weights(f)))
    assert [m.val_score for m in fitting.history] == [5.0, 4.0, 4.5, 3.0, 3.0, 3.2, 9.0]
    assert fitting.best.epoch == 4  # an equal score is no better one
    matches = [all(np.array_equal(v, weights(fitting)[k]) for k, v in w.items()) for w in seen]
    assert matches == [False, False, False, True, False, False, False]


def test_no_patience_no_early_stopping(data, monkeypatch):
    monkeypatch.setattr("raymat.training.fit.validation_score", lambda *_: 1.0)
    fitting = make_fit(data, epochs=6)
    fit(fitting, lambda *_: None)
    assert fitting.epoch == 6


def test_clip_norm_bounds_the_step(data):
    """One SGD step without momentum moves the weights by lr times the clipped norm."""
    settings = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "batch_size": 7, "epochs": 1}

    def moved(clip_norm):
        fitting = make_fit(data, clip_norm=clip_norm, **settings)
        before = [p.detach().clone() for p in fitting.model.parameters()]
        fitting.run_epoch()
        after = fitting.model.parameters()
        squares = [(a.detach() - b).square().sum() for a, b in zip(after, before, strict=True)]
        return float(torch.stack(squares).sum().sqrt())

    assert moved(None) > 0.1 * 0.05
    assert moved(0.05) == pytest.approx(0.1 * 0.05, rel=1e-3)
    assert moved(1e6) == pytest.approx(moved(None), rel=1e-6)


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("mse", 2)])
def test_loss_is_on_scaled_targets(data, loss, power):
    """Before the first step the loss of one batch is the mean of |error| or its square."""
    fitting = make_fit(data, loss=loss, batch_size=7, epochs=1)
    start = make_fit(data, loss=loss)
    start.model.train()
    from raymat.features.graph_view import batch_graph

    order = np.random.default_rng([0, 1]).permutation(TRAIN)
    with torch.no_grad():
        out = start.model(batch_graph(start.table, order, start.view)).numpy()[:, 0]
    scaled = TargetScaling.fit(data.targets[TRAIN]).scale(data.targets[order])
    expected = (np.abs(out - scaled) ** power).mean()
    assert fitting.run_epoch().train_loss == pytest.approx(expected, rel=1e-5)


def test_train_loss_weighs_batches_by_rows(data, monkeypatch):
    losses = iter([1.0, 2.0, 4.0])
    fitting = make_fit(replace(data, train=np.arange(8)), batch_size=3)
    monkeypatch.setattr(fitting, "_step", lambda _: torch.tensor(next(losses), dtype=torch.float64))
    assert fitting.run_epoch().train_loss == (3 * 1.0 + 3 * 2.0 + 2 * 4.0) / 8


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (7, 3, [3, 4]),  # the lone last crystal joins the batch before it
        (8, 3, [3, 3, 2]),
        (9, 3, [3, 3, 3]),
        (3, 2, [3]),
        (2, 256, [2]),
        (257, 256, [257]),
    ],
)
def test_batches(n, size, expected):
    batches = _batches(np.arange(n), size)
    assert [len(rows) for rows in batches] == expected
    assert np.array_equal(np.concatenate(batches), np.arange(n))


def test_lone_last_crystal_with_one_atom_is_trained_on(data):
    """Batch norm over a single atom would raise."""
    assert len(TRAIN) % 3 == 1
    assert np.isfinite(run(make_fit(data, batch_size=3), 2).history[-1].train_loss)


def test_huge_learning_rate_diverges(data):
    fitting = make_fit(data, optimizer="sgd", lr=10.0, epochs=200, batch_size=2)
    with pytest.raises(DivergedError, match=r"training diverged in epoch \d+: loss") as caught:
        fit(fitting, lambda *_: None)
    assert caught.value.epoch == fitting.epoch + 1
    assert f"epoch {caught.value.epoch}:" in str(caught.value)
    assert "training.lr" in str(caught.value)


def test_loss_that_becomes_nan_names_its_epoch(data, monkeypatch):
    fitting = run(make_fit(data), 2)
    monkeypatch.setattr(fitting, "_learned", torch.full((12,), torch.nan, dtype=torch.float64))
    with pytest.raises(DivergedError, match="in epoch 3: loss nan") as caught:
        fitting.run_epoch()
    assert caught.value.epoch == 3
    assert fitting.epoch == 2  # the broken epoch is no part of the history
    assert np.isfinite(fitting.best.val_score)


def test_prediction_that_is_not_finite_diverges(data, monkeypatch):
    fitting = make_fit(data)
    monkeypatch.setattr(fitting, "predict", lambda rows: np.full(len(rows), np.inf))
    with pytest.raises(DivergedError, match="in epoch 1"):
        fitting.run_epoch()


def test_scaling_knows_the_training_rows_only(data):
    expected = TargetScaling(
        mean=float(data.targets[TRAIN].mean()), std=float(data.targets[TRAIN].std(ddof=1))
    )
    poisoned = data.targets.copy()
    poisoned[VALIDATION] += 1e6
    poisoned[TEST] -= 1e9
    for targets in (data.targets, poisoned):
        assert make_fit(replace(data, targets=targets)).scaling == expected


def test_validation_targets_do_not_train(data):
    """They only select: the weights after five epochs are the same whatever they are."""
    poisoned = data.targets.copy()
    poisoned[VALIDATION] = 1e6
    a, b = run(make_fit(data), 5), run(make_fit(replace(data, targets=poisoned)), 5)
    assert same_weights(a, b)
    assert a.history[0].val_score != b.history[0].val_score


def test_test_rows_are_never_looked_at(data):
    """Neither targets nor structures of rows outside training and validation play a part."""
    whole = data.features.tables[0]
    targets, distances = data.targets.copy(), whole.distances.copy()
    numbers = whole.atomic_numbers.copy()
    targets[TEST] = np.nan
    for row in TEST:
        atoms = slice(whole.offsets[row], whole.offsets[row + 1])
        distances[atoms], numbers[atoms] = np.nan, 250  # no such element: a look would raise
    table = replace(whole, distances=distances, atomic_numbers=numbers)
    features = replace(data.features, tables=(table,))
    blind = make_fit(replace(data, targets=targets, features=features))
    assert blind.table is table
    a, b = run(make_fit(data), 4), run(blind, 4)
    assert same_weights(a, b)
    assert scores(a) == scores(b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": np.array([0])}, "1 training and 3 validation rows are too few"),
        ({"validation": np.zeros(0, dtype=np.int64)}, "7 training and 0 validation rows"),
        ({"targets": np.ones(12)}, "the 7 training targets are all equal"),
    ],
)
def test_rows_that_cannot_be_fitted(data, changes, message):
    with pytest.raises(DataError, match=message):
        make_fit(replace(data, **changes))


def test_validation_rows_of_one_class(classes):
    """Their AUC would be nan, and the first epoch would be 'best' for ever."""
    same = np.flatnonzero(classes.targets == 1.0)[:3]
    with pytest.raises(DataError, match="the validation rows hold one class only"):
        make_fit(replace(classes, validation=same))


def test_predictions_leave_dropout_off(data):
    fitting = run(make_fit(data, model={"dropout": 0.5}), 1)
    assert np.array_equal(fitting.predict(TRAIN), fitting.predict(TRAIN))


def test_number_of_parameters(data):
    from raymat.models.cgcnn import CGCNN, CGCNNConfig

    assert make_fit(data, model=CGCNNConfig().model_dump()).n_parameters == 80_833  # science b.1
    learned = CGCNN(CGCNNConfig(element_features="learned"), "regression")
    fitting = make_fit(data, model={**CGCNNConfig().model_dump(), "element_features": "learned"})
    assert fitting.n_parameters == sum(p.numel() for p in learned.parameters())
