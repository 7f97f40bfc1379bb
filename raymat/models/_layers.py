"""Layers that several models share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymat.properties import Task

REFERENCE_CLASS_DROPOUT = 0.5  # the authors' classifier: after the first hidden layer, only there
LN_2 = math.log(2.0)


def n_outputs(task: Task) -> int:
    """Give the width of the last layer: one number, or two classes."""
    return 2 if task == "classification" else 1


def shifted_softplus(x: Tensor) -> Tensor:
    """Give ln(e^x + 1) - ln 2, which is 0 at 0; SchNet's activation, and MEGNet's softplus2."""
    return F.softplus(x).sub_(LN_2)  # in place: the gradient of softplus needs x only


def glorot_linear(in_dim: int, out_dim: int, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer with Keras' first weights: Glorot uniform, bias 0."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Head(nn.Module):
    """CGCNN's hidden layers from a crystal vector to the prediction.

    Linear, softplus, then `n_hidden` - 1 further linear and softplus, then the output layer.
    Dropout acts after the first hidden layer only, as in the authors' classifier; `dropout` None
    means their 0.5 for classes and none for numbers.
    """

    def __init__(
        self, in_dim: int, hidden_dim: int, n_hidden: int, *, task: Task, dropout: float | None
    ) -> None:
        super().__init__()
        if dropout is None:
            dropout = REFERENCE_CLASS_DROPOUT if task == "classification" else 0.0
        self.task = task
        self.dropout = nn.Dropout(dropout)
        self.conv_to_fc = nn.Linear(in_dim, hidden_dim)
        self.fcs = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(n_hidden - 1))
        self.fc_out = nn.Linear(hidden_dim, n_outputs(task))

    def forward(self, crystals: Tensor) -> Tensor:
        """Map (n_crystals, in_dim) to (n_crystals, 1) or to log-probabilities (n_crystals, 2)."""
        return self.after_first(self.conv_to_fc(crystals))

    def after_first(self, products: Tensor) -> Tensor:
        """Map (n_crystals, hidden_dim) products of the first layer to the prediction."""
        hidden = self.dropout(F.softplus(products))
        for fc in self.fcs:
            hidden = F.softplus(fc(hidden))
        out: Tensor = self.fc_out(hidden)
        return torch.log_softmax(out, dim=1) if self.task == "classification" else out
