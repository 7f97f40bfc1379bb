"""What the models on SOAP vectors share: the descriptor's fields and the scaling of its values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.features.descriptor_table import DescriptorBatch
from raymat.features.soap import SoapConfig, SoapFields, SoapView

FixedScaling = Literal["none", "norm", "sqrt"]
"""Scalings of a vector that need no other vector; all of them leave zeros zero.

"norm" divides it by its length, so that only the direction counts. "sqrt" takes the square root
of every value and keeps its sign: SOAP values are products of two coefficients, and spread over
many powers of ten.
"""


class SoapModelConfig(SoapFields):
    """Which SOAP vectors a model reads.

    `species` None means the elements of the data, filled in before anything is computed (see
    `elements_of`).
    """

    @property
    def soap(self) -> SoapConfig:
        """The descriptor.

        Raises:
            ConfigError: its elements are not known yet.
        """
        if self.species is None:
            raise ConfigError(
                "model.species is not set, so the length of the SOAP vectors is not known; take"
                " the elements of the data, or set it to their atomic numbers, ascending"
            )
        return SoapConfig(**{name: getattr(self, name) for name in SoapFields.model_fields})


def soap_view(config: SoapModelConfig) -> SoapView:
    """Give what a configuration reads of a crystal.

    Raises:
        ConfigError: its elements are not known yet.
    """
    return SoapView(config.soap)


def elements_of(crystals: CrystalSet) -> Mapping[str, Any]:
    """Give `species` as the data decide it: the elements that occur, ascending."""
    return {"species": tuple(int(z) for z in np.unique(crystals.atomic_numbers))}


def scale_features(batch: DescriptorBatch, scaling: FixedScaling) -> DescriptorBatch:
    """Scale every vector by itself."""
    if scaling == "norm":
        lengths = batch.squared_norms().sqrt().repeat_interleave(batch.offsets.diff())
        return replace(batch, values=batch.values / lengths)
    if scaling == "sqrt":
        return replace(batch, values=batch.values.sign() * batch.values.abs().sqrt())
    return batch
