"""What the models on SOAP vectors share: the descriptor's fields and the scaling of its values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator

from raymat.config import Config
from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.features.descriptor_table import DescriptorBatch
from raymat.features.soap import SoapConfig, SoapView

FixedScaling = Literal["none", "norm", "sqrt"]
"""Scalings of a vector that need no other vector; all of them leave zeros zero.

"norm" divides it by its length, so that only the direction counts. "sqrt" takes the square root
of every value and keeps its sign: SOAP values are products of two coefficients, and spread over
many powers of ten.
"""


class SoapModelConfig(Config):
    """Which SOAP vectors a model reads: the fields, defaults and bounds of `SoapConfig`.

    `species` None means the elements of the data, filled in before anything is computed (see
    `elements_of`).
    """

    species: tuple[int, ...] | None = None
    r_cut: float = Field(5.0, gt=1.0, le=15.0)  # Å
    n_max: int = Field(1, ge=1, le=8)
    l_max: int = Field(2, ge=0, le=10)
    sigma: float = Field(1.0, ge=0.05, le=5.0)  # Å
    rbf: Literal["gto", "polynomial"] = "gto"
    average: Literal["inner", "outer"] = "inner"
    compression: Literal["off", "mu2", "mu1nu1", "crossover"] = "off"

    @field_validator("species")
    @classmethod
    def _usable_species(cls, species: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if species is None:
            return None
        try:
            return SoapConfig(species=species).species
        except ValidationError as cause:
            message = str(cause.errors()[0]["msg"])
            raise ValueError(message.removeprefix("Value error, ")) from cause

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
        return SoapConfig(**{name: getattr(self, name) for name in SoapConfig.model_fields})


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
