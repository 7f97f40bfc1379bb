"""Layers that several models share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymat.models._spec import Output

REFERENCE_CLASS_DROPOUT = 0.5  # the authors' classifier: after the first hidden layer, only there
LN_2 = math.log(2.0)
# Of a scaled target: spreads from e^-5 = 0.007 to e^5 = 148 standard deviations. Without an end, a
# row that is met exactly would take its variance to 0, and the gradient, which is divided by it,
# beyond all bounds.
MAX_LOG_VARIANCE = 10.0


def n_outputs(output: Output) -> int:
    """Give the width of the last layer: one number, two classes, or mean and log variance."""
    return 1 if output == "regression" else 2


def as_output(values: Tensor, output: Output) -> Tensor:
    r"""Turn what the last layer gives, (n_crystals, `n_outputs`), into what a model promises.

    Classes become log-probabilities. Of a Gaussian (Nix & Weigend, ICNN 1994) the logarithm s of
    the variance is bounded smoothly, so that its gradient never vanishes altogether:

    .. math:: \ln \sigma^2 = S \tanh(s / S), \quad S = 10
    """
    if output == "classification":
        return torch.log_softmax(values, dim=1)
    if output == "gaussian":
        mean, log_variance = values.split(1, dim=1)
        bounded = MAX_LOG_VARIANCE * torch.tanh(log_variance / MAX_LOG_VARIANCE)
        return torch.cat([mean, bounded], dim=1)
    return values


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
        self, in_dim: int, hidden_dim: int, n_hidden: int, *, output: Output, dropout: float | None
    ) -> None:
        super().__init__()
        if dropout is None:
            dropout = REFERENCE_CLASS_DROPOUT if output == "classification" else 0.0
        self.predicts = output
        self.dropout = nn.Dropout(dropout)
        self.conv_to_fc = nn.Linear(in_dim, hidden_dim)
        self.fcs = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(n_hidden - 1))
        self.fc_out = nn.Linear(hidden_dim, n_outputs(output))

    def forward(self, crystals: Tensor) -> Tensor:
        """Map (n_crystals, in_dim) to the prediction; see `CrystalModel.forward`."""
        return self.after_first(self.conv_to_fc(crystals))

    def after_first(self, products: Tensor) -> Tensor:
        """Map (n_crystals, hidden_dim) products of the first layer to the prediction."""
        hidden = self.dropout(F.softplus(products))
        for fc in self.fcs:
            hidden = F.softplus(fc(hidden))
        return as_output(self.fc_out(hidden), self.predicts)
