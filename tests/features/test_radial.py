"""CGCNN's distance expansion against its golden numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raymat.features.radial import GaussianBasis, Gaussians
from raymat.models import available, load_spec

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "gaussian.json").read_text(encoding="utf-8"))
# The golden numbers have ten digits; distances and centers here are float32.
FLOAT32 = 2e-6
SMALLEST = 1e-20  # smaller values are stored as 0


@pytest.mark.parametrize(("radius", "n"), GOLDEN["n_filters_float_arange_by_radius"].items())
def test_number_of_centers(radius, n):
    assert GaussianBasis(float(radius), 0.2).n_centers == n


def test_centers_reach_from_zero_to_the_cutoff():
    basis = GaussianBasis(8.0, 0.2)
    assert basis.n_centers == GOLDEN["n_filters_r8"]
    assert basis.centers[:3].tolist() == pytest.approx(GOLDEN["first_centres"])
    assert basis.centers[-1].item() == pytest.approx(GOLDEN["last_centre"], abs=1e-6)


@pytest.mark.parametrize("distance", GOLDEN["examples"])
def test_golden_values(distance):
    expansion = GaussianBasis(8.0, 0.2)(torch.tensor([float(distance)]))[0].numpy()
    golden = np.array(GOLDEN["examples"][distance])
    assert expansion.shape == golden.shape
    assert expansion == pytest.approx(golden, abs=FLOAT32)
    # Far down the flanks: relative to the value, with what float32 leaves of the exponent.
    large = golden > 2 * SMALLEST
    assert expansion[large] == pytest.approx(golden[large], rel=2e-4)
    assert (expansion[golden < SMALLEST / 2] == 0).all()


def bases():
    """Every distance expansion of every model, by the model's name."""
    networks = {
        name: load_spec(name).build(load_spec(name).config(), "regression")
        for name in available()
        if not name.startswith("soap")
    }
    return {
        name: part
        for name, network in networks.items()
        for part in network.modules()
        if isinstance(part, Gaussians)
    }


def test_every_graph_network_expands_distances_in_gaussians():
    assert set(bases()) == {"cgcnn", "megnet", "schnet"}


@pytest.mark.parametrize("name", ["cgcnn", "megnet", "schnet"])
def test_no_value_or_gradient_is_denormal(name):
    """A process that was not prepared computes with denormals, and a GPU does, too.

    The gradient of a mean over 1e5 edges, itself 1e-5, reaches a weight as a sum of products.
    """
    basis = bases()[name]
    distances = torch.linspace(0.5, 9.0, 500)
    expansion = basis(distances)
    weights = torch.full((basis.n_centers, 2), 1e-4, requires_grad=True)
    (expansion @ weights).mean().div(1e5).backward()
    smallest = torch.finfo(torch.float32).tiny
    for values in (expansion, expansion * 2e-18, (expansion @ weights).detach(), weights.grad):
        assert ((values == 0) | (values >= smallest)).all()
    assert (expansion == 0).any()
    assert expansion[expansion > 0].min() >= SMALLEST / 2


def test_gradient_of_a_distance_is_finite():
    distances = torch.tensor([0.5, 3.0, 9.0], requires_grad=True)
    GaussianBasis(8.0, 0.2)(distances).sum().backward()
    assert torch.isfinite(distances.grad).all()
    missing = GaussianBasis(8.0, 0.2)(torch.tensor([torch.nan]))
    assert torch.isnan(missing).all()


def test_width_is_the_step_without_a_factor_two():
    basis = GaussianBasis(6.0, 0.5)
    assert basis(torch.tensor([2.5]))[0, 5].item() == 1.0
    assert basis(torch.tensor([2.5]))[0, 4].item() == pytest.approx(np.exp(-1.0), rel=1e-6)


def test_centers_are_not_weights():
    assert not GaussianBasis(8.0, 0.2).state_dict()
