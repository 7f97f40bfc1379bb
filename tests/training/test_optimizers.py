"""Optimisers and schedules by hand."""

import math

import pytest
import torch
from pydantic import ValidationError

from raymat.training.config import FitConfig
from raymat.training.optimizers import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)


def rates(config, epochs):
    return [learning_rate(config, epoch) for epoch in range(1, epochs + 1)]


def test_constant():
    assert rates(FitConfig(schedule="constant", lr=0.02), 5) == [0.02] * 5


def test_step():
    """The authors' scheduler steps after the validation of an epoch: epoch 3 is the first low."""
    config = FitConfig(schedule="step", lr=1.0, milestones=(2, 4), gamma=0.1)
    assert rates(config, 6) == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_step_equals_torch():
    config = FitConfig(schedule="step", lr=0.01, milestones=(3, 5), gamma=0.5)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.5)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(config, 8) == pytest.approx(expected)


def test_cosine():
    config = FitConfig(schedule="cosine", lr=2.0, epochs=4)
    half = math.sqrt(0.5)
    assert rates(config, 4) == pytest.approx([2.0, 1.0 + half, 1.0, 1.0 - half])
    assert learning_rate(config, 4) > 0.0  # the last epoch still learns


def test_shipped_default_never_decays_within_its_epochs():
    config = FitConfig()
    assert rates(config, config.epochs) == [0.01] * 30


def one_step(gradient=2.0, start=3.0, steps=1, **settings):
    """Give a single weight after steps with a constant gradient."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(start)
    optimizer = make_optimizer(model, FitConfig(**settings))
    for _ in range(steps):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()
    return model.weight.item()


def test_sgd():
    # v1 = g; v2 = 0.9 v1 + g; w = w0 - lr (v1 + v2), as in torch
    settings = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9}
    assert one_step(**settings) == pytest.approx(3.0 - 0.1 * 2.0)
    assert one_step(steps=2, **settings) == pytest.approx(3.0 - 0.1 * (2.0 + 3.8))
    decayed = one_step(**settings, weight_decay=0.5)  # L2: g + wd w
    assert decayed == pytest.approx(3.0 - 0.1 * (2.0 + 0.5 * 3.0))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_first_step_of_adam_is_the_learning_rate(optimizer):
    assert one_step(optimizer=optimizer, lr=0.1) == pytest.approx(3.0 - 0.1, abs=1e-7)


def test_weight_decay_is_l2_for_adam_and_decoupled_for_adamw():
    # Adam's first step is lr whatever the gradient, so L2 does not show; AdamW shrinks by lr wd.
    assert one_step(optimizer="adam", lr=0.1, weight_decay=0.5) == pytest.approx(2.9, abs=1e-6)
    decoupled = one_step(optimizer="adamw", lr=0.1, weight_decay=0.5)
    assert decoupled == pytest.approx(3.0 * (1 - 0.05) - 0.1, abs=1e-6)
    # L2 alone moves Adam: the gradient is wd w.
    assert one_step(gradient=0.0, optimizer="adam", lr=0.1, weight_decay=0.5) < 2.95


def test_one_rate_for_all_groups():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_frozen_parameters_are_left_out():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = make_optimizer(model, FitConfig()).param_groups
    assert [p is model.weight for group in groups for p in group["params"]] == [True]


def clipped(**settings):
    """Give gradients of lengths 5, 1 and 0 after clipping, and of a tensor without one."""
    model = torch.nn.ParameterDict(
        {name: torch.nn.Parameter(torch.zeros(2)) for name in ("long", "short", "zero", "none")}
    )
    model["long"].grad = torch.tensor([3.0, -4.0])
    model["short"].grad = torch.tensor([0.6, 0.8])
    model["zero"].grad = torch.zeros(2)
    clip_gradients(model, FitConfig(**settings))
    assert model["none"].grad is None
    return {name: p.grad.tolist() for name, p in model.items() if p.grad is not None}


def test_all_tensors_are_clipped_as_one_vector():
    found = clipped(clip_norm=2.0)  # "all" is the default
    factor = 2.0 / math.sqrt(26.0)
    assert found["long"] == pytest.approx([3.0 * factor, -4.0 * factor], rel=1e-5)
    assert found["short"] == pytest.approx([0.6 * factor, 0.8 * factor], rel=1e-5)
    assert clipped(clip_norm=2.0, clip_per="all") == found


def test_each_tensor_is_clipped_by_itself():
    """Keras' clipnorm, with which MEGNet was trained: what is short enough stays as it is."""
    found = clipped(clip_norm=2.0, clip_per="tensor")
    assert found["long"] == pytest.approx([1.2, -1.6], rel=1e-5)
    assert found["short"] == pytest.approx([0.6, 0.8])
    assert found["zero"] == [0.0, 0.0]


@pytest.mark.parametrize("clip_per", ["all", "tensor"])
@pytest.mark.parametrize("clip_norm", [None, 5.2])
def test_gradients_that_are_short_enough_stay(clip_per, clip_norm):
    found = clipped(clip_norm=clip_norm, clip_per=clip_per)
    assert found["long"] == [3.0, -4.0]
    assert found["short"] == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("milestones", [(5, 3), (0, 3), (4, 4)])
def test_milestones_must_ascend(milestones):
    with pytest.raises(ValidationError, match="milestones must be ascending epochs from 1 on"):
        FitConfig(milestones=milestones)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0.0),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("batch_size", 1),
        ("epochs", 0),
        ("clip_norm", 0.0),
        ("clip_per", "layer"),
    ],
)
def test_bounds(key, value):
    with pytest.raises(ValidationError, match=key):
        FitConfig(**{key: value})
