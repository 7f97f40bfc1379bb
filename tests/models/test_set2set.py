"""Set2Set against loops over single crystals: Keras' recurrence, and PyTorch's own LSTM cell."""

import numpy as np
import pytest
import torch

from raymat.features.segments import Segments
from raymat.models._set2set import Set2Set, hard_sigmoid

SIZES = (1, 7, 4)  # members of three crystals
DIM = 3


@pytest.fixture
def members():
    return torch.tensor(np.random.default_rng(1).normal(size=(sum(SIZES), 5)))


def of_crystals(counts=None):
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    weights = torch.ones(len(index), dtype=torch.float64) if counts is None else counts
    totals = torch.zeros(len(SIZES), dtype=torch.float64).index_add(0, index, weights)
    return Segments(index, counts, totals)


def make(recurrence, steps):
    torch.manual_seed(4)
    module = Set2Set(5, DIM, steps, recurrence).double()
    with torch.no_grad():  # gates that saturate, so that both ends of the hard sigmoid are met
        module.recurrent.weight.mul_(4.0)
        module.recurrent.bias.add_(torch.randn(4 * DIM, dtype=torch.float64))
    return module


def attend(m, h):
    return torch.softmax(m @ h, 0) @ m


def by_authors_equations(module, x):
    """One crystal, c' = 0 in every pass."""
    m = x @ module.project.weight.T + module.project.bias
    q = torch.zeros(2 * DIM, dtype=torch.float64)
    for _ in range(module.steps):
        z = module.recurrent.weight @ q + module.recurrent.bias
        i, _, core, o = z.split(DIM)
        c = (0.2 * i + 0.5).clip(0, 1) * torch.tanh(core)
        h = (0.2 * o + 0.5).clip(0, 1) * torch.tanh(c)
        q = torch.cat([h, attend(m, h)])
    return q


def by_lstm_cell(module, x):
    """One crystal, PyTorch's cell: hidden state h, input the last sum of members."""
    cell = torch.nn.LSTMCell(DIM, DIM, dtype=torch.float64)
    weight, bias = module.recurrent.weight, module.recurrent.bias
    cell.load_state_dict(
        {
            "weight_hh": weight[:, :DIM],
            "weight_ih": weight[:, DIM:],
            "bias_hh": bias,
            "bias_ih": torch.zeros_like(bias),
        }
    )
    m = x @ module.project.weight.T + module.project.bias
    h = c = read = torch.zeros(DIM, dtype=torch.float64)
    for _ in range(module.steps):
        h, c = cell(read, (h, c))
        read = attend(m, h)
    return torch.cat([h, read])


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(
    ("recurrence", "expected"), [("reference", by_authors_equations), ("lstm", by_lstm_cell)]
)
def test_equals_the_equations(recurrence, expected, steps, members):
    module = make(recurrence, steps)
    with torch.no_grad():
        found = module(members, of_crystals())
        for row, x in zip(found, members.split(SIZES), strict=True):
            torch.testing.assert_close(row, expected(module, x), rtol=1e-12, atol=1e-14)


def test_they_are_two_things(members):
    reference, lstm = (make(r, 3)(members, of_crystals()) for r in ("reference", "lstm"))
    assert (reference - lstm).abs().max() > 0.01


def test_only_the_lstm_feels_its_forget_gate(members):
    for recurrence, is_felt in (("reference", False), ("lstm", True)):
        module = make(recurrence, 3)
        module(members, of_crystals()).square().sum().backward()
        forget = module.recurrent.weight.grad[DIM : 2 * DIM]
        assert bool(forget.any()) == is_felt


@pytest.mark.parametrize("recurrence", ["reference", "lstm"])
def test_order_does_not_matter(recurrence, members):
    module, crystals = make(recurrence, 3), of_crystals()
    order = torch.tensor(np.random.default_rng(2).permutation(len(members)))
    shuffled = Segments(crystals.index[order], None, crystals.totals)
    torch.testing.assert_close(module(members[order], shuffled), module(members, crystals))


@pytest.mark.parametrize("recurrence", ["reference", "lstm"])
def test_a_counted_member_equals_its_copies(recurrence, members):
    module, crystals = make(recurrence, 3), of_crystals()
    counts = torch.tensor(np.random.default_rng(3).integers(1, 5, len(members))).double()
    copies = members.repeat_interleave(counts.long(), 0)
    index = crystals.index.repeat_interleave(counts.long())
    expected = module(copies, Segments(index, None, of_crystals(counts).totals))
    torch.testing.assert_close(module(members, of_crystals(counts)), expected)


def test_hard_sigmoid_is_that_of_keras():
    x = torch.tensor([-4.0, -2.5, -1.0, 0.0, 1.0, 2.5, 4.0])
    torch.testing.assert_close(hard_sigmoid(x), torch.tensor([0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]))


def test_first_weights_are_those_of_keras():
    torch.manual_seed(0)
    module = Set2Set(32, 16, 3, "reference")
    recurrent = module.recurrent.weight.detach()
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), atol=1e-5, rtol=0.0)
    assert module.recurrent.bias.tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32
    assert not module.project.bias.any()
    glorot = (6 / (32 + 16)) ** 0.5
    assert 0.95 * glorot < float(module.project.weight.detach().abs().max()) <= glorot
