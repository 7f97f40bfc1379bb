"""The hidden layers that models share: depth, dropout, outputs."""

import pytest
import torch
import torch.nn.functional as F

from raymat.models._layers import MAX_LOG_VARIANCE, Head, as_output


def head(*, n_hidden=1, output="regression", dropout=None):
    torch.manual_seed(0)
    return Head(6, 8, n_hidden, output=output, dropout=dropout)


@pytest.mark.parametrize("n_hidden", [1, 2, 5])
def test_depth(n_hidden):
    built = head(n_hidden=n_hidden)
    # Science b.1: (F+1)H + (n_h-1)(H+1)H + (H+1)*outputs
    assert sum(p.numel() for p in built.parameters()) == 7 * 8 + (n_hidden - 1) * 9 * 8 + 9


@pytest.mark.parametrize(
    ("output", "asked", "expected"),
    [
        ("regression", None, 0.0),
        ("gaussian", None, 0.0),
        ("regression", 0.2, 0.2),
        ("classification", None, 0.5),  # the authors' classifier
        ("classification", 0.1, 0.1),
        ("classification", 0.0, 0.0),
    ],
)
def test_dropout_rate(output, asked, expected):
    assert head(output=output, dropout=asked).dropout.p == expected


def test_dropout_stands_after_the_first_hidden_layer_only():
    built = head(n_hidden=3, dropout=0.5).train()
    seen = []
    for name in ("conv_to_fc", "dropout", "fcs.0", "fcs.1", "fc_out"):
        built.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.append((name, inputs[0], output))
        )
    built(torch.randn(50, 6))
    assert [name for name, *_ in seen] == ["conv_to_fc", "dropout", "fcs.0", "fcs.1", "fc_out"]
    by_name = {name: (given, output) for name, given, output in seen}
    torch.testing.assert_close(by_name["dropout"][0], F.softplus(by_name["conv_to_fc"][1]))
    assert by_name["fcs.0"][0] is by_name["dropout"][1]
    assert (by_name["dropout"][1] == 0).float().mean() == pytest.approx(0.5, abs=0.1)
    for later in ("fcs.1", "fc_out"):
        assert (by_name[later][0] > 0).all()  # softplus leaves no zero, dropout would


def test_no_dropout_when_predicting():
    built = head(output="classification").eval()
    given = torch.randn(5, 6)
    assert torch.equal(built(given), built(given))


def test_gaussian_keeps_the_mean_and_bounds_the_log_variance():
    raw = torch.tensor([[3.0, 0.01], [-70.0, 500.0], [0.0, -500.0]])
    out = as_output(raw, "gaussian")
    assert torch.equal(out[:, 0], raw[:, 0])
    expected = torch.tensor([0.01, MAX_LOG_VARIANCE, -MAX_LOG_VARIANCE])
    torch.testing.assert_close(out[:, 1], expected)


def test_a_large_log_variance_can_still_be_learned_away():
    raw = torch.tensor([[0.0, 25.0]], requires_grad=True)
    as_output(raw, "gaussian")[0, 1].backward()
    assert raw.grad[0, 1] > 0.01  # a plain clamp would give 0
