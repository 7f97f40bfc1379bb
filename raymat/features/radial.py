"""Distance expansions."""

import torch
from torch import Tensor, nn


class GaussianBasis(nn.Module):
    r"""CGCNN's distance expansion.

    .. math:: u_t(d) = \exp(-(d - \mu_t)^2 / s^2), \quad \mu_t = t s, \quad t = 0 \dots K

    from 0 to the cutoff, both included. The width equals the step and there is no factor 2, as
    in the authors' code (Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301, and `cgcnn/data.py`).
    """

    centers: Tensor

    def __init__(self, cutoff: float, step: float) -> None:
        super().__init__()
        n_centers = round(cutoff / step) + 1
        self.step = step
        self.register_buffer("centers", torch.arange(n_centers) * step, persistent=False)

    @property
    def n_centers(self) -> int:
        """Length of the expansion."""
        return len(self.centers)

    def forward(self, distances: Tensor) -> Tensor:
        """Expand (n_edges,) Å to (n_edges, n_centers)."""
        scaled = (distances[:, None] - self.centers) / self.step
        # exp(-80) is 1e-35. Below it come denormal floats, which slow a CPU's matrix product.
        return torch.exp(-scaled.square().clamp(max=80.0))
