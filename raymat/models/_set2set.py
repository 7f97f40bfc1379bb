"""Set2Set: an order-free readout by attention (Vinyals, Bengio & Kudlur, arXiv:1511.06391)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymat.features.segments import Segments, softmax_over, spread, sum_over

Recurrence = Literal["reference", "lstm"]


class Set2Set(nn.Module):
    r"""Read every crystal's atoms, or its bonds, in `steps` passes.

    .. math:: m_k = W x_k + b, \qquad z = R q^* + b_R = (z_i, z_f, z_c, z_o)

    .. math:: c = \sigma(z_f) \odot c' + \sigma(z_i) \odot \tanh(z_c), \qquad
              h = \sigma(z_o) \odot \tanh(c)

    .. math:: a_k = \mathrm{softmax}_k(m_k \cdot h), \qquad q^* = h \oplus \sum_k a_k m_k

    starting from :math:`q^* = c' = 0`; the softmax runs over the members of one crystal.

    `recurrence` "lstm" is that: an LSTM cell with hidden state h and input the last sum, c' the
    cell state of the last pass. "reference" is the MEGNet authors' code
    (`megnet/layers/readout/set2set.py`), which their weights need: it never stores the cell
    state, so c' stays 0 and the forget gate has no effect, and :math:`\sigma` is Keras' hard
    sigmoid.
    """

    def __init__(self, in_dim: int, dim: int, steps: int, recurrence: Recurrence) -> None:
        super().__init__()
        self.project = nn.Linear(in_dim, dim)
        self.recurrent = nn.Linear(2 * dim, 4 * dim)
        self.dim, self.steps, self.recurrence = dim, steps, recurrence
        self._initialize_as_keras()

    def forward(
        self,
        members: Tensor,  # (n_members, in_dim)
        of_crystals: Segments,
    ) -> Tensor:  # (n_crystals, 2 dim)
        """Read all crystals of a batch."""
        m: Tensor = self.project(members)
        q = m.new_zeros(len(of_crystals.totals), 2 * self.dim)
        cell = m.new_zeros(len(q), self.dim)
        for _ in range(self.steps):
            h, cell = self._pass(q, cell)
            weights = softmax_over((m * spread(h, of_crystals)).sum(1), of_crystals)
            q = torch.cat([h, sum_over(weights[:, None] * m, of_crystals)], dim=1)
        return q

    def _pass(self, q: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Give h and the cell state that the next pass starts from."""
        admit, forget, core, release = self.recurrent(q).chunk(4, dim=1)
        if self.recurrence == "lstm":
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(admit) * torch.tanh(core)
            return torch.sigmoid(release) * torch.tanh(cell), cell
        passing = hard_sigmoid(admit) * torch.tanh(core)
        return hard_sigmoid(release) * torch.tanh(passing), cell

    def _initialize_as_keras(self) -> None:
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.orthogonal_(self.recurrent.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.recurrent.bias)
        nn.init.ones_(self.recurrent.bias.data[self.dim : 2 * self.dim])  # forget bias 1


def hard_sigmoid(x: Tensor) -> Tensor:
    """Keras' piecewise linear sigmoid; PyTorch's own has the slope 1/6."""
    return F.hardtanh(0.2 * x + 0.5, 0.0, 1.0)
