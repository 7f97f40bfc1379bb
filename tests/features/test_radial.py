"""CGCNN's distance expansion against its golden numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raymat.features.radial import GaussianBasis

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "gaussian.json").read_text(encoding="utf-8"))
# The golden numbers have ten digits; distances and centers here are float32.
FLOAT32 = 2e-6
CLAMPED = 2e-35  # exp(-80): what stands where the golden value is smaller still


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
    large = golden > 1e-30
    assert expansion[large] == pytest.approx(golden[large], rel=2e-4)
    assert (expansion[~large] <= 1.1e-30).all()


def test_no_denormal_number():
    """A denormal slows a matrix product tenfold; the smallest normal float32 is 1.2e-38."""
    expansion = GaussianBasis(8.0, 0.2)(torch.linspace(0.5, 9.0, 500))
    assert expansion.min() >= torch.finfo(torch.float32).tiny
    assert expansion.min() < CLAMPED


def test_width_is_the_step_without_a_factor_two():
    basis = GaussianBasis(6.0, 0.5)
    assert basis(torch.tensor([2.5]))[0, 5].item() == 1.0
    assert basis(torch.tensor([2.5]))[0, 4].item() == pytest.approx(np.exp(-1.0), rel=1e-6)


def test_centers_are_not_weights():
    assert not GaussianBasis(8.0, 0.2).state_dict()
