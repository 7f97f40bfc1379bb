"""Distance expansions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# exp(-46) is 1e-20: nothing beside the Gaussians nearest to a distance, as float32 holds 7 digits.
# What is smaller is 0, because it, or its product with a small weight or gradient, would be
# denormal in float32 (below 1.2e-38), and many processors take dozens of cycles for each such
# number. From 1e-20 on, a product with 2e-18 or more is normal.
SMALLEST_EXPONENT = -46.0


class Gaussians(nn.Module):
    r"""Gaussians of a distance, which a model places and widens in its own way.

    .. math:: u_t(d) = \exp(-(d - \mu_t)^2 / w^2)

    Values below 1e-20 are exactly 0.

    Args:
        centers: (n_centers,) Å; not learned, and not among a model's weights.
        width: Å.
    """

    centers: Tensor

    def __init__(self, centers: Tensor, width: float) -> None:
        super().__init__()
        self.register_buffer("centers", centers, persistent=False)
        self.width = width

    @property
    def n_centers(self) -> int:
        """Length of the expansion."""
        return len(self.centers)

    def forward(self, distances: Tensor) -> Tensor:
        """Expand (n_distances,) Å to (n_distances, n_centers)."""
        scaled = (distances[:, None] - self.centers) / self.width
        return torch.exp(F.threshold(-scaled.square(), SMALLEST_EXPONENT, -math.inf))


class GaussianBasis(Gaussians):
    r"""CGCNN's distance expansion.

    .. math:: u_t(d) = \exp(-(d - \mu_t)^2 / s^2), \quad \mu_t = t s, \quad t = 0 \dots K

    from 0 to the cutoff, both included. The width equals the step and there is no factor 2, as
    in the authors' code (Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301, and `cgcnn/data.py`).
    """

    def __init__(self, cutoff: float, step: float) -> None:
        super().__init__(evenly(cutoff, step), width=step)


def evenly(cutoff: float, step: float) -> Tensor:
    """Give centers `step` Å apart from 0 to the cutoff, both included."""
    return torch.arange(round(cutoff / step) + 1) * step
