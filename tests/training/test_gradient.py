"""The losses."""

import numpy as np
import pytest
import torch
from fitting import make_data, make_fit, run
from scipy.stats import norm

from raymat.config import build_config
from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.training.config import FitConfig
from raymat.training.gradient import gaussian_nll
from raymat.training.predict import evaluate_networks, noise_in_unit, to_unit
from raymat.tuning.study import Study, TrialRecord


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


def test_likelihood_selects_where_it_is_asked_for(twelve_crystals: CrystalSet) -> None:
    """The training is the same; the best epoch is that of the least likelihood."""
    data = make_data(twelve_crystals)
    settings = {"loss": "gaussian_nll", "epochs": 30, "lr": 0.01}
    nll, mae = (run(make_fit(data, select=by, **settings), 30) for by in ("nll", "mae"))
    assert [m.train_loss for m in nll.history] == [m.train_loss for m in mae.history]
    assert nll.best is not None
    assert mae.best is not None
    assert nll.best.epoch != mae.best.epoch  # overconfident before the error is at its least
    assert nll.best.val_score == min(m.val_score for m in nll.history)
    nll.use_best_weights()
    rows = data.validation
    (out,) = evaluate_networks([nll.model], nll.table, rows, view=nll.view, device=nll.device)
    mean, noise = to_unit(out, nll.scaling, data.task), noise_in_unit(out, nll.scaling)
    expected = -norm.logpdf(data.targets[rows], mean, noise).mean()
    assert nll.best.val_score == pytest.approx(expected, rel=1e-6)
    table = Study("regression", {0: TrialRecord(0, 0, {}, {"training.select": "nll"})})
    assert (table.score_name, Study("regression").score_name) == ("val_nll", "val_mae")


def test_likelihood_without_a_variance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.select 'nll' needs training\.loss 'gaussian"):
        build_config(FitConfig, {"select": "nll"}, where="here")
