r"""SOAP-MLP: a small network on SOAP vectors.

The network of Abenza's thesis (section 2.3.3): CGCNN's hidden layers with the SOAP vector x of a
crystal in place of its pooled atom vector,

.. math:: y = \mathrm{head}(x)

Of x's thousands of features a crystal has a few dozen, so the first product runs over these alone.
"""

from dataclasses import replace

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raymat.features.descriptor_table import DescriptorBatch
from raymat.models._layers import LN_2, Head
from raymat.models._soap_fields import (
    FixedScaling,
    SoapModelConfig,
    elements_of,
    scale_features,
    soap_view,
)
from raymat.models._spec import CrystalModel, ModelSpec, Output


class SOAPMLPConfig(SoapModelConfig):
    """Sizes and choices of SOAP-MLP; sizes as CGCNN's head, as in the thesis.

    Attributes:
        hidden_dim: length of a hidden layer.
        n_hidden: hidden layers.
        dropout: after the first hidden layer; None is 0.5 for classes, else 0.
        input_softplus: apply softplus to x, as CGCNN does to the pooled vector. The thesis does
            not say; it would turn every 0 of x into 0.693.
        feature_scaling: of each vector by itself, see `FixedScaling`.
    """

    hidden_dim: int = Field(128, ge=1, le=2048)
    n_hidden: int = Field(1, ge=1, le=12)
    dropout: float | None = Field(None, ge=0.0, le=0.9)
    input_softplus: bool = False
    feature_scaling: FixedScaling = "none"


class SOAPMLP(CrystalModel[DescriptorBatch]):
    """CGCNN's head on a sparse vector."""

    def __init__(self, config: SOAPMLPConfig, output: Output) -> None:
        super().__init__()
        self.config = config
        self.head = Head(
            config.soap.n_features,
            config.hidden_dim,
            config.n_hidden,
            output=output,
            dropout=config.dropout,
        )

    def latent(self, batch: DescriptorBatch) -> Tensor:
        """Give the products of the first layer, (n_crystals, hidden_dim), which are all it sees."""
        weight: Tensor = self.head.conv_to_fc.weight.t()
        bias: Tensor = self.head.conv_to_fc.bias
        scaled = scale_features(batch, self.config.feature_scaling)
        if self.config.input_softplus:
            # x W = (x - ln 2) W + ln 2 sum(W), and softplus(0) - ln 2 = 0: still sparse.
            scaled = replace(scaled, values=F.softplus(scaled.values) - LN_2)
            bias = bias + LN_2 * weight.sum(0)
        return scaled.matmul(weight) + bias

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from the first products; see `CrystalModel.forward`."""
        return self.head.after_first(crystals)


SPEC = ModelSpec(config=SOAPMLPConfig, build=SOAPMLP, reads=soap_view, from_data=elements_of)
