"""The losses."""

import numpy as np
import pytest
import torch

from raymat.training.gradient import gaussian_nll


def test_negative_log_likelihood_is_that_of_the_normal_distribution():
    targets = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    out = torch.tensor([[0.1, -0.5], [-1.0, 0.7], [0.0, 2.0]], dtype=torch.float64)
    density = torch.distributions.Normal(out[:, 0], torch.exp(0.5 * out[:, 1]))
    expected = -density.log_prob(targets).mean().item() - 0.5 * np.log(2 * np.pi)
    assert gaussian_nll(out, targets).item() == pytest.approx(expected, rel=1e-12)


def test_best_variance_is_the_squared_error():
    """Whatever the mean, the loss is least where the variance is the mean squared error."""
    targets = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    log_variance = targets.square().mean().log().requires_grad_()
    out = torch.stack([torch.zeros(3), log_variance.expand(3)], dim=1)
    gaussian_nll(out, targets).backward()
    assert log_variance.grad.item() == pytest.approx(0.0, abs=1e-12)
