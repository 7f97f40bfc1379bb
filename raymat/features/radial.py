"""Distance expansions."""

import torch
from torch import Tensor, nn


class Gaussians(nn.Module):
    r"""Gaussians of a distance, which a model places and widens in its own way.

    .. math:: u_t(d) = \exp(-(d - \mu_t)^2 / w^2)

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
        # exp(-80) is 1e-35. Below it come denormal floats, which slow a CPU's matrix product.
        return torch.exp(-scaled.square().clamp(max=80.0))


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
